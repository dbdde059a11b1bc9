"""Events told from where code must not wait: signal handlers, finalizers, an ending interpreter."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import pytest

from .conftest import by_emitter, events_in

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Program

# A handler of a signal can run between any two lines of the thread it interrupts. So it runs
# between every two lines of ours, once each; a lock that is taken twice would hang, and the
# watchdog ends the process and says where.
_EVERY_LINE: Final = """
    import faulthandler, sys, threading
    faulthandler.dump_traceback_later(100, exit=True)
    import otel_agents
    from otel_agents import emit_event, get_emitter, record_critic_decision, EventError

    HOME = otel_agents.__path__[0]
    handled, seen, it = 0, set(), {"emitter": "it"}

    def handler():
        global handled
        payload = {"scope": "day", "limit": 9, "spent": 8, "emitter": "handler", "n": handled}
        emit_event("budget_warning", payload)
        handled += 1

    def trace(frame, event, _):
        if not frame.f_code.co_filename.startswith(HOME):
            return trace  # what ours calls calls ours again
        here = frame.f_code.co_filename, frame.f_lineno
        if event == "line" and here not in seen:
            seen.add(here)
            handler()
        return trace

    def tell(n):
        sys.settrace(trace)
        WHAT
        sys.settrace(None)

    for n in range(3):
        tell(n)
    assert get_emitter().flush(90)
    print(handled)
"""
_WHATS: Final = {
    "a fact": """
        emit_event("budget_warning", {"scope": "d", "limit": 9, "spent": 8, **it, "n": n})
    """,
    "an agent": """
        said = {"agent": "a", "task_id": str(n), "emitter": "it"}
        emit_event("agent_started", {**said, "n": 2 * n})
        done = {"status": "approved", "duration_ms": 1, "cost_usd": 0}
        emit_event("agent_completed", {**said, **done, "n": 2 * n + 1})
    """,
    "a refusal": """
        emit_event("budget_warning", {"scope": "d"}, strict=False)
        emit_event("budget_warning", {"scope": "d", "limit": 9, "spent": 8, **it, "n": n})
    """,
    "a wait": """
        emit_event("budget_warning", {"scope": "d", "limit": 9, "spent": 8, **it, "n": n})
        get_emitter().flush(90)
    """,
    "a scope": """
        with otel_agents.agent("a"):
            said = {"scope": "d", "limit": 9, "spent": 8, "emitter": "it", "n": n}
            emit_event("budget_warning", said)
    """,
}


@pytest.mark.parametrize("what", _WHATS)
def test_a_signal_handler_may_tell_at_any_line(program: Program, tmp_path: Path, what: str) -> None:
    """Nothing hangs or is raised, and what the handler and the program told is there once."""
    source = _EVERY_LINE.replace("WHAT", _WHATS[what].strip())
    done = program(source)

    assert done.returncode == 0, done.stderr
    handled = int(done.stdout)
    assert handled > 30
    told = [one["payload"] for one in events_in(tmp_path / "logs") if "n" in one["payload"]]
    numbers = by_emitter(told)
    assert sorted(numbers["handler"]) == list(range(handled))
    assert sorted(numbers["it"]) == list(range(6 if what == "an agent" else 3))


@pytest.mark.skipif(sys.platform == "win32", reason="timers of POSIX")
def test_a_timer_that_fires_all_the_time_may_tell(program: Program, tmp_path: Path) -> None:
    """A real signal, thousands of times a second, while the program tells, asks and flushes."""
    done = program(
        """
        import faulthandler, signal
        faulthandler.dump_traceback_later(100, exit=True)
        from otel_agents import emit_event, get_emitter
        handled, it = 0, {"emitter": "it"}
        def handler(*_):
            global handled
            payload = {"scope": "day", "limit": 9, "spent": 8, "emitter": "handler", "n": handled}
            handled += 1
            emit_event("budget_warning", payload)
        emit_event("budget_warning", {"scope": "d", "limit": 9, "spent": 8, **it, "n": 0})
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        n = 0
        while n < 500 or handled < 200:
            n += 1
            said = {"scope": "d", "limit": 9, "spent": 8, "emitter": "it", "n": n}
            emit_event("budget_warning", said)
            if n % 100 == 0:
                get_emitter().flush(90)
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(n, handled)
        """
    )

    assert done.returncode == 0, done.stderr
    told, handled = map(int, done.stdout.split())
    numbers = by_emitter([one["payload"] for one in events_in(tmp_path / "logs")])
    assert numbers["it"] == list(range(told + 1))
    assert sorted(numbers["handler"]) == list(range(handled))


def test_a_finalizer_may_tell(program: Program, tmp_path: Path) -> None:
    """`__del__` runs wherever the collector does, in threads of ours too."""
    done = program(
        """
        import faulthandler, gc, sys
        faulthandler.dump_traceback_later(100, exit=True)
        from otel_agents import emit_event, get_emitter
        deleted = 0
        class Telling:
            def __init__(self): self.itself = self
            def __del__(self):
                global deleted
                n, deleted = deleted, deleted + 1
                said = {"scope": "day", "limit": 9, "spent": 8, "emitter": "del", "n": n}
                emit_event("budget_warning", said)
        raised = []
        sys.unraisablehook = raised.append
        gc.set_threshold(20)
        for n in range(500):
            Telling()
            said = {"scope": "d", "limit": 9, "spent": 8, "emitter": "it", "n": n}
            emit_event("budget_warning", said)
        gc.collect()
        print(get_emitter().flush(90), deleted, len(raised))
        """
    )

    assert (done.returncode, done.stdout) == (0, "True 500 0\n"), done.stderr
    numbers = by_emitter([one["payload"] for one in events_in(tmp_path / "logs")])
    assert numbers["it"] == list(range(500))
    assert sorted(numbers["del"]) == list(range(500))


def test_an_ending_interpreter_may_tell(program: Program, tmp_path: Path) -> None:
    """From a daemon thread, from `atexit` and from finalizers of modules: no word, no wait."""
    done = program(
        """
        import atexit, faulthandler, sys, threading
        faulthandler.dump_traceback_later(100, exit=True)
        def tell(emitter, n):
            said = {"scope": "day", "limit": 9, "spent": 8, "emitter": emitter, "n": n}
            emit_event("budget_warning", said)
        atexit.register(lambda: tell("late", 0))  # runs after ours, which is registered later
        from otel_agents import emit_event, get_emitter
        class Last:
            def __del__(self): tell("last", 0)
        sys.last_one = Last()
        ready, pause = threading.Event(), threading.Event()
        def work():
            n = 0
            while True:
                tell("daemon", n)
                n += 1
                if n > 50:
                    ready.set()
                pause.wait(0.001)
        threading.Thread(target=work, daemon=True).start()
        ready.wait()
        get_emitter().flush(90)
        atexit.register(lambda: tell("early", 0))  # runs before ours
        """
    )

    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert "failed" not in done.stderr
    numbers = by_emitter([one["payload"] for one in events_in(tmp_path / "logs")])
    assert numbers["early"] == [0]
    assert numbers["daemon"] == list(range(len(numbers["daemon"])))
    assert len(numbers["daemon"]) > 50


def test_the_last_event_may_come_at_the_end(program: Program, tmp_path: Path) -> None:
    """An `atexit` function that tells of the end of a program that told before is heard."""
    done = program(
        """
        import atexit
        from otel_agents import emit_event
        def tell(n):
            said = {"scope": "day", "limit": 9, "spent": 8, "emitter": "it", "n": n}
            emit_event("budget_warning", said)
        tell(0)
        atexit.register(tell, 1)
        """
    )

    assert (done.returncode, done.stderr) == (0, "")
    numbers = by_emitter([one["payload"] for one in events_in(tmp_path / "logs")])
    assert numbers == {"it": [0, 1]}
