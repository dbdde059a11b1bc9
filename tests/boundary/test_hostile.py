"""Objects of the program that raise, sleep, recurse or return a gigabyte when they are touched.

They are not touched. So it does not matter what they would do, and nothing has to be waited for;
the few places where a program asks us to touch them are named here.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import pytest
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from otel_agents.failures import failure_of, outcome_of
from otel_agents.logs import JsonFormatter
from tests.boundary.hostile import (
    ARGUMENTS,
    Hostile,
    HostileError,
    Mild,
    MildError,
    touched,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.boundary.kit import Ours

log = logging.getLogger("boundary.hostile")


@pytest.fixture(autouse=True)
def _untouched() -> Iterator[None]:
    """Begin every test with nothing touched."""
    touched.clear()
    yield
    touched.clear()


@pytest.fixture(params=ARGUMENTS)
def evil(request: pytest.FixtureRequest) -> Any:
    """Give a hostile object of each shape."""
    return ARGUMENTS[request.param]


def _scope(oa: Any, evil: Any) -> None:
    with oa.run("shop", attributes={"a": evil}, goal=evil, max_iterations=evil) as run:
        run.set(goal=evil)
        run.set_attribute("b", evil)
        run.progress(evil, evil)
        with oa.gate("stock", passed=evil), oa.agent("clerk", attempt=evil):
            oa.progress(evil)


def _names(oa: Any, evil: Any) -> None:
    for maker in (oa.run, oa.phase, oa.agent, oa.task, oa.tool, oa.worker, oa.human):
        if type(evil) in {list, dict}:  # the others can be called: they would be decorated
            with maker(evil, id=evil):
                pass
    with oa.run("shop", id=evil), oa.task("t", id=evil, state=evil):
        pass


def _said(oa: Any, evil: Any) -> None:
    with oa.run("shop") as run, oa.human("may I?", timeout=None) as asked:
        asked.resolve(evil, evil, by=evil)
        run.fail(evil)
    with oa.run("shop") as run:
        run.skip(evil)


def _model(oa: Any, evil: Any) -> None:
    with oa.run("shop"), oa.model(evil, provider=evil) as call:
        call.response({"model": evil, "id": evil, "usage": {"prompt_tokens": evil}})
        call.response({"choices": evil, "usage": {"prompt_tokens": 1, "completion_tokens": 2}})


def _event(oa: Any, evil: Any) -> None:
    started = {"agent": "a", "task_id": "t", "extra": evil, "tools": evil, "model": evil}
    oa.emit_event("agent_started", started, strict=False)
    oa.emit_event("task_queued", {"task_id": evil, "feature": evil, "est_cost": evil}, strict=False)
    oa.emit_event("validation_complete", {"task_id": "t", "result": evil}, strict=False)
    oa.emit_event("hitl_escalated", evil, strict=False)
    oa.emit_event(evil, {}, strict=False)


def _progress(oa: Any, evil: Any) -> None:
    emitter = oa.ProgressEmitter(evil)
    emitter.emit_run_started(evil, "r-e", evil)
    emitter.emit_iteration_started(evil, "r-e", evil, evil)
    emitter.emit_phase_started(evil, "r-e", 1, evil)
    emitter.emit_phase_completed(evil, "r-e", 1, evil, evil, evil)
    emitter.emit_gate_checked(evil, "r-e", evil, evil, evil)
    emitter.emit_iteration_completed(evil, "r-e", evil, evil, evil)
    emitter.emit_delivery_completed(evil, "r-e", evil)
    emitter.emit_run_completed(evil, "r-e", evil, evil)
    emitter.emit_run_started("o", "r-f", None)
    emitter.emit_run_failed("o", "r-f", evil)
    emitter.emit_run_started("o", "r-g", None)
    emitter.emit_run_canceled("o", "r-g", evil)


def _context(oa: Any, evil: Any) -> None:
    with oa.log_context(run_id=evil, phase=evil, iteration=evil, agent_id=evil):
        log.info("inside")


def _critic(oa: Any, evil: Any) -> None:
    oa.record_critic_decision(rejected=True, task_id=evil, agent=evil, name=evil)


GIVEN: Final[tuple[Callable[[Any, Any], None], ...]] = (
    _scope, _names, _said, _model, _event, _progress, _context, _critic,
)  # fmt: skip


def test_an_answer_that_is_an_object_is_read_by_its_fields(ours: Ours, evil: Any) -> None:
    """`response` takes a client's own object and reads its fields; what that raises stays here."""
    with ours.host.oa.run("shop"), ours.host.oa.model("priced") as call:
        call.response(evil)
        call.response({"usage": evil})

    assert set(touched) <= {"__getattribute__", "__getattr__"}


@pytest.mark.parametrize("give", GIVEN)
def test_what_a_program_gives_is_not_touched(
    ours: Ours, give: Callable[[Any, Any], None], evil: Any
) -> None:
    """Attributes, fields, names, ids, answers, payloads, progress: none of it is asked anything."""
    give(ours.host.oa, evil)
    ours.captured.runtime.require_pipeline().flush()

    assert dict(touched) == {}


def test_arguments_and_results_are_not_touched(ours: Ours, evil: Any) -> None:
    """A wrapped function takes and returns what it did; its templates make nothing of it."""
    shop = ours.host.shop

    assert shop.order(evil)["id"] is evil
    assert shop.checked(evil).note is evil
    assert shop.Desk.closed(evil) is evil
    assert ours.host.wait(shop.ship(evil)) is evil
    assert dict(touched) == {}


def test_exceptions_are_not_touched(ours: Ours) -> None:
    """An exception of a hostile class, with hostile arguments, leaves as it came."""
    error, mild = HostileError(Hostile()), MildError(Hostile())
    oa = ours.host.oa
    caught: list[BaseException] = []

    @oa.phase("pick")
    def fail() -> None:
        raise error

    async def fail_async() -> None:
        async with oa.agent("clerk"), oa.tool("scan"):
            raise mild

    for act in (fail, lambda: ours.host.wait(fail_async())):
        try:
            act()
        except Exception as raised:  # noqa: BLE001 - compared
            caught.append(raised)

    assert caught[0] is error
    assert caught[1] is mild
    assert dict(touched) == {}


def test_what_an_exception_means_is_told_without_it() -> None:
    """The outcome, class, text and place of a hostile exception are read off its class."""
    error = HostileError("no", Hostile())

    assert outcome_of(error) == "error"
    found = failure_of(error, "error", message=True)
    assert (found.type, found.message) == ("tests.boundary.hostile.HostileError", "no")
    assert dict(touched) == {}


def test_results_of_tools_are_not_touched(ours: Ours) -> None:
    """What a tool returns and takes is the program's, also where content is captured."""
    results: list[Any] = []

    class Quiet:
        """A result that pydantic-ai can write as JSON, and nobody else may look at."""

        def __getattr__(self, name: str) -> Any:
            if not name.startswith("__"):
                touched[name] += 1
            raise AttributeError(name)

    def reply(messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
        if len(messages) == 1:
            return ModelResponse(parts=[ToolCallPart("make", {})])
        return ModelResponse(parts=[TextPart("made")])

    def made(*, with_us: bool) -> list[str]:
        agent = Agent(FunctionModel(reply, model_name="priced"), name="maker")

        @agent.tool_plain
        def make() -> Any:
            results.append(with_us)
            return Quiet()

        touched.clear()
        try:
            ours.host.wait(agent.run("make"))
        except Exception:  # noqa: BLE001 - pydantic-ai may refuse it
            touched["refused"] += 1
        return sorted(touched)

    with_us = made(with_us=True)
    ours.captured.runtime.disabled = True
    try:
        without = made(with_us=False)
    finally:
        ours.captured.runtime.disabled = False

    assert results == [True, False]
    assert set(with_us) - set(without) == set()


def test_extras_of_a_log_record_are_not_touched(ours: Ours, evil: Any) -> None:
    """A record's extras are written by `JsonFormatter` and agents' logs without asking them."""
    lines: list[str] = []
    formatter = JsonFormatter()

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(formatter.format(record))

    handler = Kept()
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        with ours.host.oa.agent("clerk"):
            log.info("sold", extra={"given": evil})
    finally:
        log.removeHandler(handler)

    assert len(lines) == 1
    assert dict(touched) == {}


def test_what_a_message_quotes_is_asked_for_its_text_as_by_any_handler(
    ours: Ours, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The arguments of a log message are formatted; one that raises costs its line alone."""
    lines: list[str] = []
    formatter = JsonFormatter()

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(formatter.format(record))

    monkeypatch.setattr(log, "propagate", False)  # pytest's own handler lets failures out
    handler = Kept()
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        with ours.host.oa.agent("clerk"):
            log.info("sold %s", Mild())
            log.info("sold %s to %s", Mild(), Mild())
    finally:
        log.removeHandler(handler)

    assert len(lines) == 2
    assert set(touched) == {"__str__"}


class _Order:
    """An order whose properties a template names; each does another kind of harm."""

    def __init__(self, harm: str) -> None:
        self.harm = harm

    @property
    def order_id(self) -> Any:
        """Do harm."""
        touched["order_id"] += 1
        if self.harm == "raises":
            raise LookupError(self.harm)
        if self.harm == "recurses":
            return self.order_id
        return {"huge": "x" * 20_000_000, "hostile": Hostile()}[self.harm]


@pytest.mark.parametrize("harm", ["raises", "recurses", "huge", "hostile"])
def test_a_property_that_a_template_names_does_no_harm(ours: Ours, harm: str) -> None:
    """A template that names a property has it computed: what it raises or returns stays bounded."""
    from otel_agents.templates import compile as compiled
    from otel_agents.values import MAX_TEXT, coerce, readable

    found = compiled("{order.order_id}").render({"order": _Order(harm)})
    kept = coerce(readable(found), str)

    assert kept is None or len(kept) <= MAX_TEXT
    assert set(touched) == {"order_id"}
