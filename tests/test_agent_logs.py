"""One log file for each attempt of an agent, and a host that notices nothing of it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import otel_agents as oa
from otel_agents import agent_logs
from otel_agents.agent_logs import BAR, OPEN_FILES, file_name, file_of, line_of, without_ansi
from otel_agents.text import visible
from otel_agents.workspace import Workspace, create
from tests.forking import Forked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_agents.testing import Captured

RECORD = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [A-Z]+ \S+ .*")
log = logging.getLogger("shop.desk")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return create(tmp_path)[0]


@pytest.fixture
def lost(workspace: Workspace, captured: Captured) -> Iterator[Counter[str]]:
    """Write the logs of agents to the workspace, and count what is not written."""
    found = Counter[str]()
    agent_logs.install(workspace, dropped=lambda _sink, reason: found.update([reason]))
    log.setLevel(logging.INFO)
    yield found
    agent_logs.uninstall()
    log.setLevel(logging.NOTSET)


def text(workspace: Workspace, agent_id: str) -> str:
    return (workspace.logs / file_name(agent_id)).read_text()


def said(workspace: Workspace, agent_id: str) -> list[str]:
    """Return the messages of a file, without the times."""
    return [line.split(" ", 1)[1] for line in text(workspace, agent_id).splitlines()]


def test_records_go_to_the_file_of_the_agent_in_whose_scope_they_are_made(
    workspace: Workspace, lost: Counter[str]
) -> None:
    """The inner agent's where agents nest; what is logged outside any agent is in no file."""
    log.info("before")
    with oa.run("r"), oa.agent("writer", id="a1"):
        log.info("draft %d", 1)
        log.debug("below the logger's level")
        with oa.agent("critic", id="a2"):
            log.warning("weak")
        log.info("draft %d", 2)

    assert said(workspace, "a1") == ["INFO shop.desk draft 1", "INFO shop.desk draft 2"]
    assert said(workspace, "a2") == ["WARNING shop.desk weak"]
    assert sorted(path.name for path in workspace.logs.iterdir()) == ["a1.log", "a2.log"]
    assert all(RECORD.fullmatch(line) for line in text(workspace, "a1").splitlines())
    assert lost == {}


def test_tasks_and_threads_that_take_turns_keep_their_own_files(
    workspace: Workspace, lost: Counter[str]
) -> None:
    """The context says whose a record is, not the thread."""

    async def work(name: str, turns: asyncio.Barrier) -> None:
        with oa.agent(name, id=name):
            for number in range(3):
                await turns.wait()
                log.info("%s %d", name, number)
                await asyncio.to_thread(log.info, "%s in a thread", name)

    async def main() -> None:
        turns = asyncio.Barrier(3)
        await asyncio.gather(*(work(f"agent-{number}", turns) for number in range(3)))

    asyncio.run(main())

    for name in ("agent-0", "agent-1", "agent-2"):
        assert len(said(workspace, name)) == 6
        assert all(name in line for line in said(workspace, name))


def test_an_agent_that_ends_badly_has_its_traceback(
    workspace: Workspace, lost: Counter[str]
) -> None:
    """Its lines are set in, so that none passes for a record."""
    with contextlib.suppress(ValueError), oa.agent("a", id="a1"):
        try:
            raise ValueError("2026-01-01T00:00:00.000Z INFO forged\nin two lines")
        except ValueError:
            log.exception("it broke")
            raise

    first, *rest = text(workspace, "a1").splitlines()
    assert first.endswith("ERROR shop.desk it broke")
    assert rest[0] == f"{BAR}Traceback (most recent call last):"
    assert rest[-1] == f"{BAR}in two lines"
    assert all(line.startswith(BAR) for line in rest)


@given(st.text(), st.text(), st.text())
def test_no_text_forges_a_record_or_commands_a_terminal(
    level: str, logger: str, message: str
) -> None:
    """One line begins with a time; the others with a bar; and nothing in them is obeyed."""
    first, *rest = line_of(0.5, level, logger, message).removesuffix("\n").split("\n")

    assert first.startswith("1970-01-01T00:00:00.500Z ")
    assert all(line.startswith(BAR) for line in rest)
    assert all(visible(line) == line for line in (first, *rest))


def test_colours_are_taken_out_and_other_controls_are_written_out() -> None:
    """A title that never ends hides nothing of the text behind it."""
    assert without_ansi("\x1b[1;31mred\x1b[0m \x1b]0;title\x07plain \x1b]8;;x\x1b\\link") == (
        "red plain link"
    )
    assert line_of(0, "INFO", "x", "a\x07b \x1b]0;no end").endswith(r" a\x07b 0;no end" + "\n")
    assert without_ansi("\x9d" * 60_000) == "\x9d" * 60_000  # in no time to speak of


def test_secrets_are_hidden(workspace: Workspace, lost: Counter[str]) -> None:
    """As everywhere else."""
    with oa.agent("a", id="a1"):
        log.info("key sk-ant-api03-%s", "x" * 40)

    assert "xxxx" not in text(workspace, "a1")


@given(st.text())
def test_the_name_of_a_file_leads_nowhere(agent_id: str) -> None:
    """Whatever an agent is called."""
    name = file_name(agent_id)

    assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*\.log", name)
    assert name == Path(name).name
    assert len(name) < 200


@pytest.mark.parametrize(
    "agent_id",
    ["../up", "..", ".", "", "/etc/passwd", "a/b", "a\\b", "a\0b", "%2e%2e%2fup", "x" * 5000],
)
def test_an_agent_of_any_name_has_a_file(
    workspace: Workspace, lost: Counter[str], agent_id: str
) -> None:
    """Below `logs/`, and nowhere else; `file_of` knows it."""
    with oa.log_context(agent_id=agent_id):
        log.info("here")
    (path,) = workspace.logs.iterdir()

    assert path.read_text().endswith("INFO shop.desk here\n")
    assert sorted(each.name for each in workspace.path.iterdir()) == [".gitignore", "logs"]
    assert lost == {}


def test_the_scope_learns_its_file(workspace: Workspace, lost: Counter[str]) -> None:
    """The path where something was written, and nothing where not."""
    with oa.agent("a", id="a1"):
        log.info("here")

    assert file_of("a1") == str(workspace.logs / "a1.log")
    assert file_of("a2") == ""
    agent_logs.uninstall()
    assert file_of("a1") == ""


@pytest.mark.parametrize("planted", ["link", "pipe", "directory"])
def test_what_was_planted_in_the_place_of_a_file_is_not_written_to(
    workspace: Workspace, lost: Counter[str], planted: str
) -> None:
    """The record is counted, and the program goes on."""
    outside = workspace.path / "outside"
    outside.write_text("")
    place = workspace.logs / "a1.log"
    {
        "link": lambda: place.symlink_to(outside),
        "pipe": lambda: os.mkfifo(place),
        "directory": place.mkdir,
    }[planted]()
    with oa.agent("a", id="a1"):
        log.info("here")

    assert outside.read_text() == ""
    assert lost == {"not_writable": 1}


def test_a_full_disk_is_counted_and_silent(
    workspace: Workspace, lost: Counter[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """And the file goes on when there is room again, with the torn line ended."""
    with oa.agent("a", id="a1"):
        log.info("one")
        file = agent_logs._state["logs"]._files["a1"]
        full, real = os.open("/dev/full", os.O_WRONLY), file.fd
        file.fd = full
        log.info("two")
        file.fd, file.torn = real, True
        os.close(full)
        log.info("three")

    assert lost == {"not_writable": 1}
    assert [line.split(" ")[-1] for line in text(workspace, "a1").split("\n") if line] == [
        "one", "three",
    ]  # fmt: skip
    assert capsys.readouterr() == ("", "")


def test_a_full_file_is_renamed_once(
    workspace: Workspace, lost: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two files at most, each below the limit, and the newest lines are there."""
    monkeypatch.setattr(agent_logs, "MAX_BYTES", 1000)
    with oa.agent("a", id="a1"):
        for number in range(200):
            log.info("line %04d", number)
    both = [workspace.logs / name for name in ("a1.log.1", "a1.log")]

    assert sorted(workspace.logs.iterdir()) == sorted(both)
    assert all(0 < path.stat().st_size <= 1000 for path in both)
    numbers = [int(line[-4:]) for path in both for line in path.read_text().splitlines()]
    assert numbers == list(range(numbers[0], 200))


def test_a_huge_record_is_cut(workspace: Workspace, lost: Counter[str]) -> None:
    """It does not fill the file."""
    with oa.agent("a", id="a1"):
        log.info("x" * 10_000_000)

    assert len(text(workspace, "a1")) < 70_000


def test_files_are_open_a_few_at_a_time(workspace: Workspace, lost: Counter[str]) -> None:
    """Though hundreds of agents log in turns."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(3 * OPEN_FILES):
        with oa.agent("a", id=f"a{number % 100}"):
            log.info("here")
    during = len(list(Path("/proc/self/fd").iterdir()))
    agent_logs.uninstall()

    assert OPEN_FILES - 1 <= during - before <= OPEN_FILES
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
    assert len(list(workspace.logs.iterdir())) == 3 * OPEN_FILES


def test_a_file_that_was_removed_is_made_anew(
    workspace: Workspace, lost: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a workspace that was removed is not."""
    monkeypatch.setattr(agent_logs, "_LOOK_SECONDS", 0)
    with oa.agent("a", id="a1"):
        log.info("one")
        (workspace.logs / "a1.log").unlink()
        log.info("two")
        assert said(workspace, "a1") == ["INFO shop.desk two"]

        (workspace.logs / "a1.log").unlink()
        workspace.logs.rmdir()
        (workspace.path / ".gitignore").unlink()
        workspace.path.rmdir()
        log.info("three")

    assert not workspace.path.exists()
    assert lost == {"not_writable": 1}


class Hostile:
    """An argument that logs while it is made text."""

    def __str__(self) -> str:
        log.info("from inside %s", self)
        return "hostile"


def test_a_text_that_logs_itself_ends(workspace: Workspace, lost: Counter[str]) -> None:
    """The record inside is dropped and counted."""
    with oa.agent("a", id="a1"):
        previous, logging.raiseExceptions = logging.raiseExceptions, False
        handlers, log.propagate = log.handlers, False
        try:
            log.addHandler(logging.NullHandler())
            log.info("outside %s", Hostile())
        finally:
            logging.raiseExceptions, log.propagate = previous, True
            log.handlers = handlers[:0]

    assert said(workspace, "a1") == ["INFO shop.desk outside hostile"]
    assert lost == {"nested": 1}


def test_a_record_that_cannot_be_text_is_counted(workspace: Workspace, lost: Counter[str]) -> None:
    """The host's own handlers deal with it as they always do."""
    with oa.agent("a", id="a1"):
        log.addHandler(handler := logging.NullHandler())
        log.propagate = False
        try:
            log.info("%d", "no number")
        finally:
            log.propagate = True
            log.removeHandler(handler)

    assert lost == {"unreadable": 1}


def test_the_set_up_of_logging_stays_the_host_s_own(workspace: Workspace) -> None:
    """`basicConfig` works, the last resort speaks, and `dictConfig` takes nothing away."""
    code = """
import logging, logging.config, sys
from otel_agents import agent
with agent("a", id="a1"):
    logging.getLogger("early").warning("last resort")
    logging.basicConfig(format="host %(message)s", level="INFO", stream=sys.stdout)
    logging.info("basic")
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False,
        "root": {"level": "INFO", "handlers": []}})
    logging.info("dict")
    quiet = logging.getLogger("apart"); quiet.propagate = False; quiet.warning("apart")
"""
    # The first scope makes a runtime, which writes to the workspace of the settings.
    environment = {**os.environ, "OTEL_AGENTS_HOME": str(workspace.path)}
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip

    assert done.stdout == "host basic\n"
    assert done.stderr.splitlines()[0] == "last resort"
    assert [line.split()[-1] for line in said(workspace, "a1")] == [
        "resort", "basic", "dict", "apart",
    ]  # fmt: skip


def test_install_and_uninstall_mirror_each_other(workspace: Workspace) -> None:
    """Twice over, with a stranger's patch on top in between."""
    before = logging.Logger.callHandlers, sys.stdout, logging.getLogger().handlers[:]
    agent_logs.install(workspace, capture_stdout=True)
    agent_logs.install(workspace, capture_stdout=True)
    agent_logs.uninstall()
    agent_logs.uninstall()
    assert (logging.Logger.callHandlers, sys.stdout, logging.getLogger().handlers) == before

    agent_logs.install(workspace)
    ours = logging.Logger.callHandlers

    def stranger(logger: logging.Logger, record: logging.LogRecord) -> None:
        ours(logger, record)

    logging.Logger.callHandlers = stranger  # type: ignore[method-assign]
    agent_logs.uninstall()
    with oa.log_context(agent_id="a1"):
        log.warning("into the void")
    agent_logs.install(workspace)
    with oa.log_context(agent_id="a1"):
        log.warning("once")
    logging.Logger.callHandlers = ours  # type: ignore[method-assign]
    agent_logs.uninstall()

    assert said(workspace, "a1") == ["WARNING shop.desk once"]
    assert logging.Logger.callHandlers is before[0]


@contextlib.contextmanager
def stream_of(workspace: Workspace) -> Iterator[io.TextIOWrapper]:
    """Stand in for standard output, heard by the logs of agents."""
    found = io.TextIOWrapper(io.BytesIO(), encoding="latin-1", write_through=True)
    with contextlib.redirect_stdout(found):
        agent_logs.install(workspace, capture_stdout=True)
        try:
            yield found
        finally:
            agent_logs.uninstall()
        assert sys.stdout is found


def output(stream: io.TextIOWrapper) -> bytes:
    buffer: Any = stream.buffer
    return bytes(buffer.getvalue())


def test_what_is_printed_goes_to_the_agent_s_file_too(
    workspace: Workspace, captured: Captured
) -> None:
    """By whole lines; what is printed is what it was."""
    with stream_of(workspace) as stream:
        print("outside")  # noqa: T201
        with oa.agent("a", id="a1"):
            print("one", "two")  # noqa: T201
            print("begun ", end="")  # noqa: T201
            with oa.agent("b", id="b1"):
                sys.stdout.writelines(["\x1b[31minner\x1b[0m\n"])
            print("and ended")  # noqa: T201
            print("no end", end="")  # noqa: T201

    assert said(workspace, "a1") == [
        "STDOUT - one two", "STDOUT - begun and ended", "STDOUT - no end",
    ]  # fmt: skip
    assert said(workspace, "b1") == ["STDOUT - inner"]
    assert output(stream) == (b"outside\none two\nbegun \x1b[31minner\x1b[0m\nand ended\nno end")


def test_what_a_handler_prints_is_in_the_file_once(
    workspace: Workspace, captured: Captured
) -> None:
    """As the record that it is."""
    with stream_of(workspace) as stream:
        handler = logging.StreamHandler(sys.stdout)
        log.addHandler(handler)
        with oa.agent("a", id="a1"):
            log.warning("once")
        log.removeHandler(handler)

    assert said(workspace, "a1") == ["WARNING shop.desk once"]
    assert output(stream) == b"once\n"


def test_the_captured_stream_passes_for_the_one_it_is(workspace: Workspace) -> None:
    """Its encoding, its errors, its attributes, its class."""
    with stream_of(workspace) as stream:
        assert isinstance(sys.stdout, io.TextIOWrapper)
        assert sys.stdout.encoding == "latin-1"
        assert sys.stdout.buffer is stream.buffer
        assert sys.stdout.isatty() is False
        assert sys.stdout.write("four") == 4
        assert repr(sys.stdout) == repr(stream)
        sys.stdout.mine = 1  # type: ignore[attr-defined]
        assert stream.mine == 1  # type: ignore[attr-defined]
        with pytest.raises(UnicodeEncodeError):
            sys.stdout.write("漢")
        with pytest.raises(TypeError):
            sys.stdout.write(b"bytes")  # type: ignore[arg-type]
        with pytest.raises(io.UnsupportedOperation):
            sys.stdout.fileno()


def test_a_forked_child_writes_on(workspace: Workspace, lost: Counter[str]) -> None:
    """Though another thread of its parent held the lock just then."""
    logs = agent_logs._state["logs"]
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        with logs._lock:
            held.set()
            go.wait(90)

    with oa.agent("a", id="a1"):
        log.info("parent")
        thread = threading.Thread(target=hold)
        thread.start()
        held.wait(90)
        child = Forked(lambda: log.info("child"))
        go.set()
        thread.join(90)
        child.end()
        log.info("parent again")

    assert said(workspace, "a1") == [
        "INFO shop.desk parent", "INFO shop.desk child", "INFO shop.desk parent again",
    ]  # fmt: skip


def test_threads_that_log_at_once_mix_no_lines(workspace: Workspace, lost: Counter[str]) -> None:
    """Every record is whole, in its own file."""

    def work(name: str) -> None:
        with oa.agent("a", id=name):
            for number in range(200):
                log.info("%s %d", name, number)

    threads = [threading.Thread(target=work, args=(f"a{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for number in range(8):
        name = f"a{number}"
        assert said(workspace, name) == [f"INFO shop.desk {name} {n}" for n in range(200)]
    assert lost == {}
