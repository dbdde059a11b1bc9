"""A runtime that cannot be made: scopes do nothing, and it is tried again now and then."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import pytest

import otel_agents as oa
from otel_agents import boundary as boundaries
from otel_agents import configure, runtime
from otel_agents.boundary import boundary
from otel_agents.runtime import Runtime
from otel_agents.scopes import current
from otel_agents.settings import Settings
from otel_agents.workspace import create
from tests.forking import Forked

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE: Final = 60.0  # seconds after which a wait has failed
ROOT: Final = Path(__file__).parents[1]


class Maker:
    """Makes runtimes, or fails to, at times of its own clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.fails = True
        self.tries: list[float] = []
        self.said: list[tuple[float, str]] = []
        self.before: Callable[[], object] = lambda: None

    def __call__(self) -> Runtime:
        """Make one."""
        self.tries.append(self.now)
        self.before()
        if self.fails:
            raise OSError(24, "Too many open files")
        return Runtime()


@pytest.fixture
def maker(monkeypatch: pytest.MonkeyPatch) -> Maker:
    """What makes the runtime, and the clock of what it and the warnings go by."""
    found = Maker()
    clock = SimpleNamespace(monotonic=lambda: found.now)
    monkeypatch.setattr(boundary, "strict", False)
    monkeypatch.setattr(boundary, "_logged", {})
    monkeypatch.setattr(boundaries, "time", clock)
    monkeypatch.setattr(runtime, "time", clock)
    monkeypatch.setattr(runtime._holder, "make", found)
    monkeypatch.setattr(
        boundary, "warn", lambda text, *args: found.said.append((found.now, text % args))
    )
    return found


def work() -> str:
    """Do a program's work in scopes of every kind of use."""

    @oa.tool("decorated")
    def decorated() -> str:
        oa.progress(1, 2)
        return "done"

    with oa.run("r") as scope, oa.phase("p"), oa.agent("a"):
        scope.set_attribute("k", "v")
        return decorated()


def together(act: Callable[[], Any], count: int = 8) -> list[Any]:
    """Call `act` in several threads at once and return what each returned."""
    found: list[Any] = []
    barrier = threading.Barrier(count)

    def one() -> None:
        barrier.wait(PATIENCE)
        found.append(act())

    threads = [threading.Thread(target=one, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    return found


def test_a_failure_that_lasts_is_met_and_told_once_a_minute(maker: Maker) -> None:
    """The first retry comes after a second; the program's work is done all the time."""
    for _ in range(800):
        assert work() == "done"
        maker.now += 0.25

    assert maker.tries == [1000.0, 1001.0, 1061.0, 1121.0, 1181.0]
    assert [when for when, _ in maker.said] == [1000.0, 1061.0, 1121.0, 1181.0]
    assert {text for _, text in maker.said} == {
        "otel-agents failed in set-up; the program goes on: OSError(24, 'Too many open files')"
    }


def test_an_exception_of_the_program_passes_scopes_that_do_nothing(maker: Maker) -> None:
    """As it was, and nothing is current then."""
    wrong = ValueError("its own")
    with pytest.raises(ValueError, match="its own") as caught, oa.run("r"), oa.agent("a"):
        assert current() is None
        raise wrong

    assert caught.value is wrong
    assert runtime.get().disabled
    assert runtime.peek() is None


def test_once_it_can_be_made_it_stays(maker: Maker) -> None:
    """The scopes of before end as the nothing they are."""
    with oa.run("before"):
        maker.fails = False
        maker.now += 1
        with oa.run("after") as scope:
            assert current() is scope
        made = runtime.peek()
    maker.now += 1000

    assert made is not None
    assert runtime.get() is made
    assert maker.tries == [1000.0, 1001.0]


def test_a_runtime_that_is_put_ends_the_waiting(maker: Maker) -> None:
    """As does taking it away: whoever sets up anew is not kept waiting for an old failure."""
    assert runtime.get().disabled
    made = Runtime()
    runtime.put(made)
    assert runtime.get() is made
    runtime.put(None)
    maker.fails = False

    assert not runtime.get().disabled
    assert maker.tries == [1000.0, 1000.0]


@pytest.mark.parametrize("fails", [False, True])
def test_threads_that_open_the_first_scopes_make_one_runtime(maker: Maker, fails: bool) -> None:
    """They wait for it, and all have the same; where it fails it is tried once."""
    maker.fails = fails
    going = threading.Event()
    maker.before = lambda: going.wait(0.05)  # long enough for the others to come
    found = together(runtime.get)

    assert len(found) == 8
    assert len({id(one) for one in found}) == 1
    assert found[0].disabled is fails
    assert maker.tries == [1000.0]


def test_no_scope_waits_for_one_that_tries_again(maker: Maker) -> None:
    """It does nothing, as those before it."""
    bare = runtime.get()
    maker.now += 1
    maker.fails = False
    trying, go = threading.Event(), threading.Event()

    def before() -> None:
        trying.set()
        assert go.wait(PATIENCE)

    maker.before = before
    one = threading.Thread(target=runtime.get, daemon=True)
    one.start()
    assert trying.wait(PATIENCE)
    assert together(runtime.get) == [bare] * 8
    go.set()
    one.join(PATIENCE)

    assert runtime.get() is runtime.peek() is not bare
    assert maker.tries == [1000.0, 1001.0]


def test_a_scope_that_is_opened_while_one_is_made_does_nothing(maker: Maker) -> None:
    """As one of a logging handler, to which is told what is wrong with the settings."""
    maker.fails = False
    inside: list[bool] = []

    def before() -> None:
        inside.append(runtime.get().disabled)
        work()

    maker.before = before
    made = runtime.get()

    assert inside == [True]
    assert not made.disabled
    assert maker.tries == [1000.0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_tries_for_itself(maker: Maker) -> None:
    """At once, whatever its parent waits for."""
    assert runtime.get().disabled
    maker.fails = False

    def child() -> None:
        assert not runtime.get().disabled

    Forked(child).end()
    assert runtime.get().disabled


class Opened:
    """A sink that knows whether it was closed."""

    name = "opened"

    def __init__(self) -> None:
        self.closed = False

    def write(self, _signals: object) -> None:
        """Take all."""

    def close(self) -> None:
        self.closed = True


def test_a_runtime_that_is_made_in_vain_leaves_nothing_open(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor is it said what is wrong with the settings, for the next try says it."""
    sinks: list[Opened] = []

    def sink(url: str, _home: object) -> Opened:
        if url == "wrong:":
            raise ValueError(url)
        sinks.append(Opened())
        return sinks[-1]

    def failing(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(configure, "make_sink", sink)
    settings = Settings(sinks=("one:", "wrong:", "two:"), problems=("a setting is wrong",))
    with monkeypatch.context() as patched:
        patched.setattr(configure, "Ledgers", failing)
        for _ in range(3):
            with pytest.raises(OSError, match="Too many open files"):
                configure.build(settings)
    assert [one.closed for one in sinks] == [True] * 6
    assert caplog.messages == []
    made = configure.build(settings)

    assert caplog.messages == ["otel-agents: a setting is wrong", "otel-agents: wrong:"]
    assert [one.closed for one in sinks[6:]] == [False] * 2
    made.close()


@pytest.mark.parametrize("out", [23, 24])
def test_a_sink_that_finds_no_file_to_open_is_not_left_out(
    monkeypatch: pytest.MonkeyPatch, out: int
) -> None:
    """Too many are open in the process or the system: it would be missing for good."""

    def failing(*_: object) -> None:
        raise OSError(out, "out of files")

    monkeypatch.setattr(configure, "make_sink", failing)
    with pytest.raises(OSError, match="out of files"):
        configure.build(Settings(sinks=("one:",)))


_PROGRAM: Final = """
    import json, logging, resource
    import otel_agents as oa
    from otel_agents import runtime

    logging.basicConfig(format="%(message)s")
    oa.run, oa.agent  # what cannot be imported cannot be used: as any module of the program
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    done = 0

    def work(name, count):
        global done
        for number in range(count):
            with oa.run(name, id=f"{name}-{number}"), oa.agent("writer"):
                done += 1

    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    work("during", 100)
    first = runtime._holder._again
    while runtime._holder._again == first:  # until it is tried again
        work("during", 100)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    assert runtime.peek() is None
    runtime._holder._again = 0.0  # as if the minute were over
    work("after", 100)
    print(json.dumps({"done": done, "flushed": runtime.get().require_pipeline().flush(60)}))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limits")
def test_a_program_without_descriptors_goes_on_and_says_so_once(tmp_path: Path) -> None:
    """Thousands of scopes, one line; what comes when there are descriptors again is recorded."""
    home = create(tmp_path)[0]
    kept = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
    ran = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", textwrap.dedent(_PROGRAM)],
        env={**kept, "OTEL_AGENTS_HOME": str(home.path), "PYTHONPATH": str(ROOT)},
        cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip

    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    assert said["done"] >= 300
    assert said["flushed"]
    assert ran.stderr.splitlines() == [
        "otel-agents failed in set-up; the program goes on: OSError(24, 'Too many open files')"
    ]
    lines = [json.loads(line) for line in (home.path / "signals.jsonl").read_text().splitlines()]
    ended = {one["ids"]["run_id"] for one in lines if (one["kind"], one["edge"]) == ("run", "end")}
    assert ended == {f"after-{number}" for number in range(100)}
