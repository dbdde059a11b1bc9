"""One log file for each attempt of an agent: `logs/<agent id>.log` in the workspace.

Log records of the standard library, and lines of standard output if asked, go to the file of the
agent in whose scope they are made. What a program logs, prints and sets up stays as it is: records
are seen where a logger hands them to its handlers. No handler is attached, since a root logger
that has one makes `logging.basicConfig` do nothing and silences the handler of last resort. So
loggers that do not propagate are heard too; one whose class replaces `callHandlers` is not.

Each record is `2026-11-21T14:00:00.000Z INFO logger message`; further lines of it are indented and
barred, and what a terminal would obey is written out, so that no message can forge a record.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import re
import stat
import sys
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from otel_agents.text import visible
from otel_agents.values import cut, redact

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from otel_agents.workspace import Workspace

MAX_BYTES: Final = 8 * 1024 * 1024  # of a file; then it is renamed to `.log.1`, which is replaced
MAX_RECORD: Final = 65_536  # characters of one record
OPEN_FILES: Final = 32
_LOOK_SECONDS: Final = 1.0  # how often an open file is asked whether its name is still its own
_BEGUN_LINES: Final = 32  # of standard output, by agent and stream, that wait for their end
BAR: Final = "    | "  # before the further lines of a record
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,119}", re.ASCII)
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_-]+", re.ASCII)
# ECMA-48: control sequences, strings such as a window's title up to their end, other escapes.
_ANSI: Final = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\n\x07\x1b\x90\x98\x9c-\x9f]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]"
)
_FLAGS: Final = (
    os.O_WRONLY
    | os.O_APPEND
    | os.O_CREAT
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a pipe in the file's place must not make anybody wait
    | getattr(os, "O_CLOEXEC", 0)
)


def file_name(agent_id: str) -> str:
    """Return the name of an agent's log file: its id, or where that is no name, one made of it.

    Ids are the user's text; a name made here never leads out of the directory.
    """
    if _PLAIN_NAME.fullmatch(agent_id):
        return f"{agent_id}.log"
    mark = hashlib.blake2s(agent_id.encode(errors="surrogatepass"), digest_size=8).hexdigest()
    return f"{_UNSAFE.sub('_', agent_id)[:64]}-{mark}.log"


def without_ansi(text: str) -> str:
    """Return text without the escape sequences that colour it, move about or name a window."""
    return _ANSI.sub("", text) if "\x1b" in text or not text.isascii() else text


def line_of(when: float, level: str, logger: str, message: str) -> str:
    """Return a record as it stands in a file.

    Args:
        when: Seconds since the epoch.
        level: The name of its level; STDOUT or STDERR for what was printed.
        logger: The name of its logger.
        message: Its text, of one or more lines.

    """
    moment = time.gmtime(when)
    milliseconds = int(when % 1 * 1000)
    stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', moment)}.{milliseconds:03d}Z"
    text = without_ansi(cut(redact("", cut(message, MAX_RECORD)), MAX_RECORD))
    lines = [visible(line) for line in text.rstrip("\r\n").replace("\r\n", "\n").split("\n")]
    return f"{stamp} {visible(level)} {visible(logger)} " + f"\n{BAR}".join(lines) + "\n"


class _File:
    """An open log file. `torn` says that the last write was cut short by a full disk."""

    __slots__ = ("fd", "inode", "looked", "path", "size", "torn")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, _FLAGS, 0o600)
        found = os.fstat(self.fd)
        if not stat.S_ISREG(found.st_mode):
            os.close(self.fd)
            message = "no file"
            raise OSError(message)
        self.inode, self.size, self.torn = found.st_ino, found.st_size, False
        self.looked = time.monotonic()

    def current(self) -> bool:
        """Return whether the name is still this file's: neither removed nor renamed by others."""
        now = time.monotonic()
        if now - self.looked < _LOOK_SECONDS:
            return True
        self.looked = now
        try:
            found = self.path.lstat()
        except OSError:
            return False
        self.size = found.st_size
        return found.st_ino == self.inode

    def write(self, data: bytes) -> None:
        if self.torn:
            data = b"\n" + data
        written = os.write(self.fd, data)
        self.size += written
        self.torn = written < len(data)
        if self.torn:
            message = "the disk took a part only"
            raise OSError(message)


class _Here(threading.local):
    """What this thread is at: `busy` with a record of ours, or `handling` one of the host's."""

    busy = False
    handling = 0


class AgentLogs:
    """Writes the files of one process. Nothing here raises; what was not written is counted."""

    def __init__(self, workspace: Workspace, dropped: Callable[[str, str], None]) -> None:
        # OpenTelemetry's API: not loaded by whoever only asks for the name of a file.
        from otel_agents.context import current_ids

        self._ids = current_ids
        self._logs = workspace.logs
        self._begins = os.path.join(workspace.logs, "")  # noqa: PTH118 - of every file's path
        self._dropped = dropped
        self.here = _Here()
        self.renew()

    def renew(self) -> None:
        """Begin anew in a forked child: its parent's threads, and their locks, are not there."""
        self._lock = threading.RLock()
        files = getattr(self, "_files", {})
        self._files: OrderedDict[str, _File] = OrderedDict()
        self._begun: OrderedDict[tuple[str, str], str] = OrderedDict()
        for file in files.values():
            with contextlib.suppress(OSError):
                os.close(file.fd)

    def agent(self) -> str | None:
        """Return the id of the agent in whose scope this is called."""
        ids = self._ids()
        return None if ids is None else ids.agent_id

    def path_of(self, agent_id: str) -> str:
        """Return the path of an agent's file, whether it is there or not.

        As text: each agent asks at its end whether it is there, and a `Path` took two thirds of it.
        """
        return self._begins + file_name(agent_id)

    def record(self, record: logging.LogRecord) -> None:
        """Write a log record of the standard library to the file of the agent in force."""
        try:
            agent = self.agent()
            if agent is not None:
                self._alone(functools.partial(self._record, agent, record))
        except Exception:  # noqa: BLE001 - telemetry never reaches the host
            self._lose("failed")

    def _record(self, agent: str, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.exc_info and record.exc_info[0] is not None:
            text = record.exc_text or _FORMATTER.formatException(record.exc_info)
            message = f"{message}\n{text}"
        if record.stack_info:
            message = f"{message}\n{record.stack_info}"
        self._append(agent, line_of(record.created, record.levelname, record.name, message))

    def printed(self, stream: str, text: str) -> None:
        """Write the whole lines of what is printed in an agent's scope; keep the begun one."""
        try:
            agent = self.agent()
            # What a handler prints is in the file already.
            if agent is not None and not self.here.handling:
                self._alone(functools.partial(self._printed, agent, stream, text))
        except Exception:  # noqa: BLE001 - telemetry never reaches the host
            self._lose("failed")

    def _printed(self, agent: str, stream: str, text: str) -> None:
        with self._lock:
            *lines, begun = (self._begun.pop((agent, stream), "") + text).split("\n")
            if len(begun) > MAX_RECORD:
                lines, begun = [*lines, begun], ""
            if begun:
                self._begun[agent, stream] = begun
            if len(self._begun) > _BEGUN_LINES:
                self._end_line(*self._begun.popitem(last=False))
        if len(lines) > 1:  # a key of several lines is known as a whole only
            lines = str(redact("", "\n".join(lines))).split("\n")
        for line in lines:
            self._append(agent, line_of(time.time(), stream, "-", line))

    def close(self) -> None:
        """Write the lines that were begun, and close the files."""
        self._alone(self._close)

    def _close(self) -> None:
        with self._lock:
            while self._begun:
                self._end_line(*self._begun.popitem(last=False))
            while self._files:
                os.close(self._files.popitem()[1].fd)

    def _end_line(self, whose: tuple[str, str], text: str) -> None:
        agent, stream = whose
        self._append(agent, line_of(time.time(), stream, "-", text))

    def _alone(self, act: Callable[[], None]) -> None:
        """Call `act` unless this thread is in here already, and let no failure out.

        A text of the host's may log while it is made, as may a signal handler or a finalizer:
        such a record is dropped, since one that logs itself would never end.
        """
        if self.here.busy:
            self._lose("nested")
            return
        self.here.busy = True
        try:
            act()
        except OSError:
            self._lose("not_writable")
        except Exception:  # noqa: BLE001 - a hostile record must not reach the host
            self._lose("unreadable")
        finally:
            self.here.busy = False

    def _lose(self, reason: str) -> None:
        with contextlib.suppress(Exception):
            self._dropped("agent_logs", reason)

    def _append(self, agent: str, line: str) -> None:
        data = line.encode(errors="backslashreplace")
        with self._lock:
            file = self._opened(agent)
            if file.size + len(data) > MAX_BYTES:
                file = self._rotated(agent, file)
            file.write(data)

    def _opened(self, agent: str) -> _File:
        file = self._files.get(agent)
        if file is not None:
            if file.current():
                self._files.move_to_end(agent)
                return file
            os.close(self._files.pop(agent).fd)
        while len(self._files) >= OPEN_FILES:
            os.close(self._files.popitem(last=False)[1].fd)
        with contextlib.suppress(FileExistsError):
            self._logs.mkdir()  # not its parents: a workspace that was removed stays removed
        file = self._files[agent] = _File(self._logs / file_name(agent))
        return file

    def _rotated(self, agent: str, file: _File) -> _File:
        """Rename a full file, unless another process has; open the new one."""
        os.close(self._files.pop(agent).fd)
        with contextlib.suppress(FileNotFoundError):
            found = file.path.lstat()
            if found.st_ino == file.inode and found.st_size > MAX_BYTES // 2:
                file.path.replace(file.path.with_name(f"{file.path.name}.1"))
        return self._opened(agent)


class Printed:
    """A standard stream that is written to as before, and heard by the agents' logs.

    All but writing is the stream's own, and it passes for one of its class.
    """

    def __init__(self, stream: Any, name: str, logs: AgentLogs) -> None:
        object.__setattr__(self, "_stream", stream)
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_logs", logs)

    def write(self, text: Any) -> Any:
        """Write as the stream does; what it returns or raises is its own."""
        done = self._stream.write(text)
        if isinstance(text, str):
            self._logs.printed(self._name, text)
        return done

    def writelines(self, lines: Any) -> None:
        """Write one after the other, as the stream does."""
        for line in lines:
            self.write(line)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return self._stream.__class__

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._stream, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._stream, name)

    def __iter__(self) -> Any:
        return iter(self._stream)

    def __next__(self) -> Any:
        return next(self._stream)

    def __enter__(self) -> Any:
        self._stream.__enter__()
        return self

    def __exit__(self, *error: object) -> Any:
        return self._stream.__exit__(*error)

    def __repr__(self) -> str:
        return repr(self._stream)


_FORMATTER: Final = logging.Formatter()
_STREAMS: Final = {"stdout": "STDOUT", "stderr": "STDERR"}
_state: dict[str, Any] = {"logs": None, "before": None, "after": None}


def _ignored(_sink: str, _reason: str) -> None:
    """Count nothing."""


def install(
    workspace: Workspace,
    *,
    capture_stdout: bool = False,
    dropped: Callable[[str, str], None] = _ignored,
) -> None:
    """Write the logs of agents to the workspace from now on; a second call changes the workspace.

    Args:
        workspace: Its `logs` directory is made when the first record comes.
        capture_stdout: Write what is printed on standard output and error in an agent's scope too.
        dropped: Called as `dropped("agent_logs", reason)` for each record that is not written.

    """
    uninstall()
    logs = _state["logs"] = AgentLogs(workspace, dropped)
    if _state["before"] is None:
        before = _state["before"] = logging.Logger.callHandlers

        # All that is emitted comes by here, after the logger's level and filters, whatever the
        # host makes of its handlers meanwhile.
        @functools.wraps(before)
        def after(logger: logging.Logger, record: logging.LogRecord) -> None:
            now: AgentLogs | None = _state["logs"]
            if now is None:
                return before(logger, record)
            now.record(record)
            now.here.handling += 1
            try:
                return before(logger, record)
            finally:
                now.here.handling -= 1

        ours: Any = after
        _state["after"] = logging.Logger.callHandlers = ours  # type: ignore[method-assign]
    if capture_stdout:
        for name, word in _STREAMS.items():
            if (stream := getattr(sys, name)) is not None:
                setattr(sys, name, Printed(stream, word, logs))


def uninstall() -> None:
    """Take everything back; what somebody else has put on top of it stays, and writes nothing."""
    logs: AgentLogs | None = _state["logs"]
    if logs is None:
        return
    _state["logs"] = None
    if logging.Logger.callHandlers is _state["after"]:
        logging.Logger.callHandlers = _state["before"]  # type: ignore[method-assign]
        _state["before"] = None
    for name in _STREAMS:
        stream = getattr(sys, name)
        if type(stream) is Printed:
            setattr(sys, name, object.__getattribute__(stream, "_stream"))
    logs.close()


def file_of(agent_id: str) -> str:
    """Return the path of an agent's log file, or "" where nothing was written for it."""
    logs: AgentLogs | None = _state["logs"]
    if logs is None:
        return ""
    try:
        path = logs.path_of(agent_id)
        return path if os.path.isfile(path) else ""  # noqa: PTH113 - see `path_of`
    except (OSError, ValueError, AttributeError):
        return ""


def _after_fork() -> None:
    logs: AgentLogs | None = _state["logs"]
    if logs is not None:
        logs.renew()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
