"""Each call that otel-agents makes in a program fails in turn, and the program does not notice.

The result, the exception (type, arguments, the program's last line, cause and context) and what is
current afterwards are those of a run without us. `OTEL_AGENTS_BOUNDARY=all` has each call fail in
every way, and the later calls of a place too, instead of one way and the first call.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from opentelemetry import context as otel_context

from otel_agents.boundary import boundary
from tests.boundary.injection import PACKAGE, Site, Tracer, airtight
from tests.boundary.seen import Seen, seen
from tests.boundary.workload import SCENARIOS

if TYPE_CHECKING:
    from tests.boundary.kit import Ours

FAULTS: Final = (RuntimeError, OSError, MemoryError, RecursionError)
ALL: Final = os.environ.get("OTEL_AGENTS_BOUNDARY") == "all"
# They run thousands of lines of pydantic-ai each: a place that a scenario before them reached is
# not tried again in them.
SLOW: Final = ("graphs", "agents", "agents_sync", "agents_streamed", "agents_stepped", "deferred")
# Fewer places than this, and the tracer sees nothing.
LEAST: Final = 50
_tried: Final[set[Site]] = set()


def sites_of(tracer: Tracer, act: Any) -> dict[Site, int]:
    """Return the places that a scenario reaches, with how often."""
    tracer.target = None
    tracer.run(act)
    return dict(sorted(tracer.hits.items()))


def strike(tracer: Tracer, site: Site, fault: type[BaseException], act: Any, skip: int = 0) -> Seen:
    """Run a scenario with a fault at a site."""
    tracer.target, tracer.skip, tracer.fault = site, skip, partial(fault, "injected")
    return seen(lambda: tracer.run(act))


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_program_is_the_same_with_us(name: str, ours: Ours, controls: dict[str, Seen]) -> None:
    """Without any fault, a program's results, exceptions and context are what they were."""
    assert seen(lambda: SCENARIOS[name](ours.host)) == controls[name]


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_fault_at_any_call_changes_nothing(
    name: str, ours: Ours, controls: dict[str, Seen]
) -> None:
    """Whatever fails in our part of a program, the program goes on as if we were not there."""
    act = partial(SCENARIOS[name], ours.host)
    tracer = Tracer(ours.originals)
    found = sites_of(tracer, act)
    assert len(found) >= LEAST
    sites = [site for site in found if ALL or name not in SLOW or site not in _tried]
    changed = []
    for number, site in enumerate(sites):
        kinds = FAULTS if ALL else (FAULTS[number % len(FAULTS)],)
        if site.callee == "Thread.start":
            kinds = (RuntimeError,)  # all that it raises: there can be no more threads
        for fault in kinds:
            for skip in {0, found[site] - 1} if ALL else {0}:
                if strike(tracer, site, fault, act, skip) != controls[name]:
                    changed.append(f"{site} ({fault.__name__}, call {skip + 1})")
    _tried.update(found)
    ours.captured.clear()

    assert changed == [], "\n".join(changed)
    assert seen(act) == controls[name]  # nothing of ours is broken for good


@pytest.mark.parametrize(
    "name", ["sync_targets", "generators", "scopes", "logs", "events", "progress", "workers"]
)
def test_an_interrupt_passes_through(name: str, ours: Ours, controls: dict[str, Seen]) -> None:
    """A KeyboardInterrupt that comes while we are at work ends the program as ever."""
    act = partial(SCENARIOS[name], ours.host)
    tracer = Tracer(ours.originals)
    kept = []
    before = otel_context.get_current()
    for site in list(sites_of(tracer, act))[:: 1 if ALL else 4]:
        if site.file == "pipeline.py":
            continue  # it would leave a thread that never started, for all tests after this one
        found = strike(tracer, site, KeyboardInterrupt, act)
        if tracer.struck and (found.error is None or found.error[0] != "KeyboardInterrupt"):
            kept.append(str(site))
        otel_context.attach(before)

    assert kept == []


def test_what_is_left_out_of_the_sites_holds() -> None:
    """The functions of a scope that others rely on keep every failure inside, by their syntax."""
    scope = {name for name, _ in airtight(PACKAGE + "scope.py")}
    boundary_ = {name for name, _ in airtight(PACKAGE + "boundary.py")}
    context = {name for name, _ in airtight(PACKAGE + "context.py")}

    assert {"start", "begin", "attach", "detach", "set", "set_attribute", "progress"} <= scope
    assert "warn" in boundary_
    assert {"leave", "put_back", "inject"} <= context


def test_faults_are_counted(ours: Ours) -> None:
    """What was caught is counted by its place, so that a failure of ours is never silent."""
    act = partial(SCENARIOS["scopes"], ours.host)
    tracer = Tracer(ours.originals)
    found = [one for one in sites_of(tracer, act) if one.callee == "TracerProvider.get_tracer"]
    site = next(one for one in tracer.hits if one.callee == "put") if not found else found[0]
    before = sum(boundary.counts.values())
    strike(tracer, site, RuntimeError, act)

    assert sum(boundary.counts.values()) > before


def test_no_file_of_ours_is_forgotten(ours: Ours) -> None:
    """Every module that reaches into a program has places in some scenario."""
    reached = {
        site.file
        for act in SCENARIOS.values()
        for site in sites_of(Tracer(ours.originals), partial(act, ours.host))
    }
    expected = {
        "scope.py", "drive.py", "context.py", "scopes.py", "logs.py", "agent_logs.py", "events.py",
        "humans.py", "model_call.py", "stamping.py", "progress_emitter.py", "progress_scopes.py",
        "instrument/concurrency.py", "instrument/targets.py", "instrument/pydantic_graph.py",
        "instrument/pydantic_ai_agents.py", "instrument/pydantic_ai_models.py",
        "instrument/pydantic_ai_tools.py", "instrument/pydantic_ai_deferred.py",
    }  # fmt: skip

    assert expected - reached == set()
    assert all(Path(PACKAGE, name).is_file() for name in reached)
