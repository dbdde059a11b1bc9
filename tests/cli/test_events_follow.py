"""`otel-agents events --follow`: the stream of events, of a server and of the local store."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_agents.cli.told import TYPES, Wanted, told
from otel_agents.event_types import event_of
from otel_agents.signals import Ids, Signal, encode_line
from otel_agents.store import Batch, open_store
from otel_agents.store.runs import event_of as envelope_of
from otel_agents.usage import Usage

from .emitted import emitted, queued, validated
from .filled import EVIL, event, failing, healthy
from .serving import Serving
from .terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Shell

TOKENS: Final = {"OTEL_AGENTS_TOKEN": "admin-of-the-tests", "OTEL_AGENTS_VIEWER_TOKEN": "viewer-1"}
BLOCKED: Final = """
import sys
sys.modules["websockets"] = None
from otel_agents.cli.main import run
sys.exit(run(sys.argv[1:]))
"""


def next_data(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())["data"]


@pytest.fixture(params=["workspace", "server"])
def through(request: pytest.FixtureRequest, shell: Shell) -> Iterator[tuple[str, ...]]:
    """Ask the workspace's store, or a server of it."""
    if request.param == "workspace":
        yield ()
        return
    with Serving(shell) as serving:
        yield ("--server", serving.url)


# ---------------------------------------------------------------------- the stream


def test_all_events_come_as_they_are_stored(shell: Shell, through: tuple[str, ...]) -> None:
    """Domain events and runtime events, in order and once each, those there were and new ones."""
    shell.put(Batch(signals=[queued(1), event(1), queued(2, run_id=None)]))
    arguments = ("events", "--follow", "--since", "0", "--json", *through)
    with shell.start(*arguments, stdout=subprocess.PIPE) as process:
        seen = [next_data(process) for _ in range(3)]
        shell.put(Batch(signals=[validated(1), event(2)]))
        seen += [next_data(process) for _ in range(2)]
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 3
        assert process.stdout is not None
        assert process.stdout.read() == ""

    assert [each["type"] for each in seen] == [
        "task_queued", "runtime", "task_queued", "validation_complete", "runtime",
    ]  # fmt: skip
    assert [each["seq"] for each in seen] == [1, 2, 3, 4, 5]
    assert list(seen[0]) == ["seq", "type", "timestamp", "run_id", "payload"]
    assert [each["run_id"] for each in seen] == ["run-1", "run-1", None, "run-1", "run-1"]
    assert seen[0]["payload"] == {"task_id": "t-1", "feature": "shop", "est_cost": 0.1}
    assert seen[1]["payload"] == {
        "layer": "tool_runtime", "operation": "RETRY", "reason_code": "timeout",
        "entity_id": "search", "task_id": "task-1",
    }  # fmt: skip


def test_types_and_a_run_choose(shell: Shell, through: tuple[str, ...]) -> None:
    """Several types, with commas and by giving the option again."""
    told_of = [queued(1), validated(1), event(1), validated(2, run_id="run-2"), queued(3)]
    shell.put(Batch(signals=[*told_of, emitted("hitl_escalated", task_id="t-3", attempts=2)]))
    chosen = ("--type", "validation_complete,runtime", "--type", "hitl_escalated")
    arguments = ("events", "-f", "--since", "0", "--json", *chosen, "--run-id", "run-1", *through)
    with shell.start(*arguments, stdout=subprocess.PIPE) as process:
        seen = [next_data(process)["seq"] for _ in range(3)]
        process.kill()

    assert seen == [2, 3, 6]


def test_people_read_the_layout_of_the_console(shell: Shell, through: tuple[str, ...]) -> None:
    """A line for the type and one for each field; what a terminal would obey is written out."""
    shell.put(
        Batch(signals=[emitted("agent_started", agent=EVIL, task_id="t-1", tools=["a", "b"])])
    )
    with shell.start("events", "-f", "--since", "0", *through, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        process.kill()

    assert lines[0][0] == "["
    assert lines[0][9:] == "] agent_started\n"
    assert lines[1:] == [
        "  agent: a\\x1b]0;owned\\x07\\u202eexe\n", "  task_id: t-1\n", "  tools: a, b\n",
    ]  # fmt: skip


def test_a_server_that_is_started_again_is_asked_for_the_rest(shell: Shell) -> None:
    """It is said once that it is gone, and nothing is missed or told twice."""
    shell.put(Batch(signals=[queued(1)]))
    said: list[str] = []
    with Serving(shell) as serving:
        arguments = ("events", "-f", "--since", "0", "--json", "--server", serving.url)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with shell.start(*arguments, **pipes) as process:
            assert process.stderr is not None
            seen = [next_data(process)["payload"]["task_id"]]
            assert serving.interrupt() == 0
            said.append(process.stderr.readline())
            shell.put(Batch(signals=[queued(number) for number in range(2, 50)]))
            port = ("--port", serving.port, "--otlp-http-port", "0", "--otlp-grpc-port", "0")
            with Serving(shell, ports=port):
                seen += [next_data(process)["payload"]["task_id"] for _ in range(48)]
                shell.put(Batch(signals=[queued(50)]))
                seen.append(next_data(process)["payload"]["task_id"])
                process.send_signal(signal.SIGINT)
                assert process.wait(120) == 3
                said += [line for line in process.stderr if line.strip()]  # Click ends the line

    assert seen == [f"t-{number}" for number in range(1, 51)]
    assert len(said) == 1
    assert said[0].endswith("Waiting for it.\n")


def test_what_is_no_longer_stored_is_a_gap(shell: Shell, through: tuple[str, ...]) -> None:
    """One line for people, and the stream's own message with --json."""
    shell.put(Batch(signals=[*failing().signals, queued(1)]))
    with_numbers = len(failing().signals)
    store = open_store(None, shell.workspace)
    store.delete_run("run-2")
    store.close()
    arguments = ("events", "-f", "--since", "0", *through)
    with shell.start(*arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        process.kill()
    with shell.start(*arguments, "--json", stdout=subprocess.PIPE) as process:
        data = [next_data(process) for _ in range(2)]
        process.kill()

    assert lines[0] == f"-- events 1 to {with_numbers} are no longer stored --\n"
    assert lines[1].endswith("task_queued\n")
    assert data[0] == {"type": "gap", "from": 1, "to": with_numbers}
    assert data[1]["seq"] == with_numbers + 1


def test_a_number_of_another_store_is_told(shell: Shell, through: tuple[str, ...]) -> None:
    """It is past all there are: what is there is left out, and what comes is shown."""
    shell.put(Batch(signals=[queued(1), queued(2)]))
    arguments = ("events", "-f", "--since", "99", *through)
    with shell.start(*arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        shell.put(Batch(signals=[queued(3)]))
        lines = [process.stdout.readline() for _ in range(2)]
        process.kill()

    assert first == "-- this is another store than before; its events up to 2 are left out --\n"
    assert lines[1] == "  task_id: t-3\n"


def test_a_terminal_shows_colours_and_from_where_it_goes_on(
    shell: Shell, through: tuple[str, ...]
) -> None:
    """What was there before is left out; NO_COLOR is honoured, and Ctrl-C leaves."""
    shell.put(Batch(signals=[validated(1)]))
    for colourless in (False, True):
        if colourless:
            shell.environment["NO_COLOR"] = "1"
        with Terminal(shell, "events", "-f", *through) as terminal:
            terminal.wait_for("Following from ")
            shell.put(Batch(signals=[validated(2 + colourless, "failed")]))
            terminal.wait_for("result: failed")
            terminal.type("\x03")
            code = terminal.wait()

        assert code == 3
        assert ("\x1b[31m[" in terminal.output) is not colourless
        assert "t-1" not in terminal.output


def test_filters_of_runtime_events_choose_the_lines_they_always_did(shell: Shell) -> None:
    """The last ones first, a line each, and no domain event among them."""
    shell.put(Batch(signals=[event(1, at=5), queued(1), event(3)]))
    arguments = ("events", "-f", "--layer", "tool_runtime", "--limit", "2")
    with shell.start(*arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        process.kill()

    assert [line.split(" · ")[1] for line in lines] == ["task task-1", "task task-3"]


# ---------------------------------------------------------------------- who may, and with what


def test_a_token_goes_along_in_a_header(shell: Shell) -> None:
    """Without one, or with a wrong one, one sentence and exit code 2."""
    shell.put(Batch(signals=[queued(1)]))
    shell.environment |= TOKENS
    follow = ("events", "-f", "--json", "--since", "0", "--server")
    with Serving(shell) as serving:
        for name in TOKENS:
            del shell.environment[name]
        none = shell.run(*follow, serving.url)
        wrong = shell.run(*follow, serving.url, OTEL_AGENTS_TOKEN="another-token")  # noqa: S106
        shell.environment["OTEL_AGENTS_TOKEN"] = TOKENS["OTEL_AGENTS_VIEWER_TOKEN"]
        with shell.start(*follow, serving.url, stdout=subprocess.PIPE) as process:
            seen = next_data(process)["type"]
            process.kill()

    assert seen == "task_queued"
    for refused in (none, wrong):
        assert refused.returncode == 2
        assert json.loads(refused.stdout)["error"]["code"] == "unauthorized"
        assert refused.stderr.count("\n") == 1
        assert "OTEL_AGENTS_TOKEN" in refused.stderr
    assert "wants a token" in none.stderr
    assert "wants another token" in wrong.stderr


def test_without_the_extra_it_is_one_sentence(bare: Shell) -> None:
    """That names what to install; a plain install follows the local store without it."""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", BLOCKED, "events", "-f", "--server", "http://127.0.0.1:9"],
        cwd=bare.path, env=bare.environment, capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip

    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "pip install 'otel-agents[server]'" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "parameter"),
    [
        (("--type", "agent_finished"), "type"),
        (("--type", ""), "type"),
        (("-f", "--type", "runtime", "--layer", "worker"), "layer"),
        (("-f", "--since", "4", "--to", "2026-01-01T00:00:00Z"), "to"),
        (("-f", "--cursor", "x"), "cursor"),
        (("-f", "--layer", "worker", "--cursor", "x"), "cursor"),
        (("--since", "4"), "since"),
        (("--type", "runtime", "--cursor", "x"), "cursor"),
        (("--output", "x.html"), "output"),
        (("--export", "html", "--follow"), "follow"),
        (("--export", "html", "--layer", "worker"), "layer"),
        (("--export", "html", "--output", "-"), "output"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    shell: Shell, arguments: tuple[str, ...], parameter: str
) -> None:
    """Exit code 2, and the option that is too much."""
    done = shell.run("events", "--json", *arguments)
    error = json.loads(done.stdout)["error"]

    assert (done.returncode, error["code"]) == (2, "invalid_input")
    assert error["details"] == {"parameter": parameter}
    assert done.stderr.count("\n") == 1


# ---------------------------------------------------------------------- lists


def test_stored_events_are_listed_the_latest_first(shell: Shell, through: tuple[str, ...]) -> None:
    """Page by page, over everything that is stored; a run's own too."""
    noise = [event(number) for number in range(600)]
    wanted = [validated(number) for number in range(5)]
    mixed = [part for each in wanted for part in (*noise[:120], each)]
    for number, one in enumerate(mixed):
        one.id = f"{number}"
    shell.put(Batch(signals=[queued(9, run_id="run-9"), *mixed]))
    by_type = ("--type", "validation_complete")
    for chosen in (by_type, (*by_type, "--run-id", "run-1")):
        seen: list[str] = []
        cursor: tuple[str, ...] = ()
        while True:
            done = shell.run("events", "--json", "--limit", "2", *chosen, *cursor, *through)
            answer = json.loads(done.stdout)
            seen += [each["payload"]["task_id"] for each in answer["data"]]
            if answer["meta"]["next_cursor"] is None:
                break
            cursor = ("--cursor", answer["meta"]["next_cursor"])
        assert seen == [f"t-{number}" for number in (4, 3, 2, 1, 0)]

    text = shell.run("events", "--run-id", "run-9", *through).stdout
    assert text.splitlines()[0][10:] == " task_queued"
    assert "No event is stored" in shell.run("events", "--run-id", "no", *through).stdout


# ---------------------------------------------------------------------- envelopes


def row_of(signal: Signal) -> dict[str, Any]:
    """Return a signal as the store has it."""
    type_ = signal.kind if signal.edge == "fact" else f"{signal.kind}.{signal.edge}"
    line = encode_line(signal).decode()
    return {
        "seq": 7, "type": type_, "run_id": signal.ids.run_id, "time_ns": signal.time, "body": line,
    }  # fmt: skip


usages = st.none() | st.builds(Usage, input_tokens=st.integers(0, 9), requests=st.integers(0, 2))
signals = st.builds(
    Signal,
    id=st.just("s"),
    kind=st.sampled_from(["agent", "task", "validation", "run"]),
    edge=st.sampled_from(["start", "end", "fact", "progress"]),
    name=st.text(max_size=5),
    time=st.integers(0, 4 * 10**18).map(lambda time: time // 10**6 * 10**6),
    ids=st.builds(Ids, run_id=st.sampled_from([None, "r"]), task_id=st.sampled_from([None, "t"])),
    result=st.sampled_from(["", "success", "failure", "cancellation"]),
    duration=st.none() | st.floats(0, 1e6),
    usage=usages,
    cost=st.none() | st.floats(0, 1e6),
    attributes=st.just({}) | st.just({"otelagents.task.state": "PENDING"}),
)


@given(signals)
def test_an_envelope_tells_what_its_signal_does(signal: Signal) -> None:
    """Whichever way it came, over the wire or from the file."""
    found = told(envelope_of(row_of(signal)), Wanted())
    event = event_of(signal)

    if event is None:
        assert found is None
        return
    assert found is not None
    assert found.seq == 7
    assert (found.event.type, found.event.run_id) == (event.type, event.run_id)
    assert found.event.payload == event.payload
    assert found.event.time == pytest.approx(event.time, abs=1e-3)


def test_every_signal_of_a_store_can_be_read_as_an_event_or_none() -> None:
    """Of all kinds, and each type that the stream has is read from what the feed calls it."""
    sample = [*healthy().signals, *(emitted(type_) for type_ in TYPES if type_ != "runtime")]
    rows = [row_of(each) for each in sample]
    types = {
        found.event.type for row in rows if (found := told(envelope_of(row), Wanted())) is not None
    }

    assert types == set(TYPES)
    for type_ in TYPES:
        only = [told(envelope_of(row), Wanted([type_])) for row in rows]
        assert {each.event.type for each in only if each is not None} == {type_}


@pytest.mark.parametrize("envelope", [{}, {"type": "runtime"}, {"type": "runtime", "seq": "x"}])
def test_what_is_no_envelope_is_wrong(envelope: dict[str, Any]) -> None:
    """A server of something else is told from ours."""
    with pytest.raises(ValueError, match="no envelope"):
        told(envelope, Wanted())
