"""What settings, templates, signals, cursors, log files and streams hold to, whatever they hold."""

# ruff: noqa: PT017 - what a refusal says is a part of the property

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec

from otel_agents import settings, templates
from otel_agents.cli import log_files
from otel_agents.cli.remote import Remote
from otel_agents.cli.stream import _Place, _read
from otel_agents.cli.told import Told, Wanted
from otel_agents.errors import InvalidInputError, OtelAgentsError, SettingsError
from otel_agents.event_types import event_of
from otel_agents.receiver.logs import _signal as received
from otel_agents.signals import Signal, attributes_of, decode_line, decode_lines, encode_line
from otel_agents.sinks.events import line_of
from otel_agents.state.kpis import Kpis
from otel_agents.state.kpis_signals import counted_of
from otel_agents.state.progress import progress_of
from otel_agents.state.report import report
from otel_agents.state.run import fold
from otel_agents.state.view import as_data
from otel_agents.store import paging
from otel_agents.store.projection import _rows, _run_row
from otel_agents.workspace import Workspace

_NOW: Final = 1_700_000_100_000_000_000


@cache
def folder() -> Path:
    """Return a directory of this process' own, gone when it ends."""
    found = Path(tempfile.mkdtemp(prefix="otel-agents-fuzz-"))
    atexit.register(shutil.rmtree, found, ignore_errors=True)
    return found


# ---------------------------------------------------------------------- settings

SECRET: Final = "canary-7f3a9c"  # noqa: S105 - none that opens anything


def configured(data: bytes) -> None:
    """Settings are read whatever they hold: no exception, no loss of what is right.

    The lines before `---` are the environment, what is below is the file. Tokens are never shown.
    """
    above, _, below = data.partition(b"---\n")
    environ = {}
    for line in above.decode("utf-8", "surrogateescape").replace("\0", "").splitlines():
        name, equals, value = line.partition("=")
        if equals and name and not name.endswith("_FILE") and name != "OTEL_AGENTS_CONFIG":
            environ[name] = value
    # Only what is right is used: a table that is always right must be there in the end.
    file = folder() / "otel-agents.toml"
    file.write_bytes(below)
    found = settings.load(environ, folder())
    for problem in found.problems:
        assert not problem.startswith("The settings cannot be read"), problem
        assert problem.isprintable(), "a sentence is not one printable line"
    assert settings.load(environ, folder()) == found or "nan" in below.decode(errors="ignore")
    shown = repr(found)
    for token in (found.token, found.ingest_token, found.viewer_token):
        if token == SECRET:
            assert SECRET not in shown.replace(above.decode(errors="ignore"), "")
    for wrap in found.wraps:
        for text in (wrap.name, *wrap.fields.values(), *wrap.attributes.values()):
            if isinstance(text, str):
                compiled(text.encode("utf-8", "surrogatepass"))
    for rates in found.prices.values():
        assert all(0 <= rate < float("inf") for rate in rates.values())


# ---------------------------------------------------------------------- templates


class _Watched(dict[str, Any]):
    """An object that notes which of its names are asked for, and has all of them."""

    def __init__(self, asked: list[str]) -> None:
        super().__init__()
        object.__setattr__(self, "kept", asked)

    def __getattribute__(self, name: str) -> Any:
        asked = object.__getattribute__(self, "kept")
        if name != "__class__":  # which `isinstance` asks for
            asked.append(name)
        if name == "fails":
            message = "no"
            raise RuntimeError(message)
        return _Watched(asked) if name.isidentifier() else object.__getattribute__(self, name)

    def __missing__(self, key: Any) -> Any:
        return self

    def __str__(self) -> str:
        return "\ud800 text"


def compiled(data: bytes) -> None:
    """A template compiles or is refused in a sentence; it reaches no private name, nor raises.

    Text whose braces are doubled comes out as it was.
    """
    try:
        text = data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        text = data.decode("utf-8", "surrogateescape")
    plain = text.replace("{", "{{").replace("}", "}}")
    assert templates.compile(plain).render({}) == text
    try:
        found = templates.compile(text)
    except SettingsError as error:
        assert str(error)
        return
    asked: list[str] = []
    values = {root: _Watched(asked) for root in found.roots}
    first = found.render(values)
    assert first is None or isinstance(first, str | _Watched)
    assert not [name for name in asked if name.startswith("_")], "a private name was reached"
    assert not any(root.startswith("_") for root in found.roots)
    for odd in (None, 0, [], {}, "text", [[1]] * 3, b"\xff", object()):
        found.render(dict.fromkeys(found.roots, odd))
    assert found.render({}) is None or not found.roots


# ---------------------------------------------------------------------- signals


def signal(data: bytes) -> None:
    """Lines become signals or nothing, told again as they were, and no reader of them raises.

    Those that the receiver would take are folded into runs as the store does it.
    """
    lines = data.split(b"\n")
    taken: list[Signal] = []
    for line in lines:
        found = decode_line(line)
        if found is None:
            continue
        told = encode_line(found)
        assert told.count(b"\n") == 1
        assert told.endswith(b"\n")
        again = decode_line(told)
        assert again is not None
        assert encode_line(again) == told
        attributes_of(found)
        text = line.decode(errors="replace")
        kept = received(text)
        if kept is not None:
            assert encode_line(kept) == encode_line(decode_line(text.encode()) or kept)
            taken.append(kept)
    assert len(list(decode_lines(lines))) <= len(lines)
    for one in taken:
        _read_by_all(one)
    for run in fold(taken).by_id.values():
        reading = report(run, now=_NOW, alive=_unknown)
        msgspec.json.encode(as_data(reading), enc_hook=str)
        _run_row(run, reading)
        _rows(run, reading, run.id)


def _unknown(_host: str, _pid: int, _since: int) -> bool | None:
    return None


def _read_by_all(one: Signal) -> None:
    """Ask everything that makes messages of signals, whoever sent those."""
    event = event_of(one)
    if event is not None:
        line = line_of(event)
        assert line.count(b"\n") == 1
        json.loads(line)
    for message in progress_of(one):
        msgspec.json.encode(message, enc_hook=str)
    counted = counted_of(one)
    if counted is not None:
        kpis = Kpis()
        kpis.apply(counted)
        kpis.merge(Kpis.from_bytes(kpis.to_bytes()))
        kpis.reading(_NOW / 1e9)


# ---------------------------------------------------------------------- cursors and filters

_SHAPES: Final[tuple[tuple[type, ...], ...]] = ((), (int,), (str,), (int, str), (float, str, int))


def cursor(data: bytes) -> None:
    """A cursor is one, and is written again as it was read, or it is refused by name.

    The same text is tried as a time, a filter's text, a limit and a search.
    """
    text = data.decode("utf-8", "surrogateescape")
    for types in _SHAPES:
        taken = 0
        for name in ("runs", "logs"):
            try:
                found = paging.decode(name, text, *types)
            except InvalidInputError as error:
                assert error.parameter == "cursor"
                continue
            if found is None:
                assert not text
                continue
            taken += 1
            assert [type(one) for one in found] == list(types)
            assert paging.decode(name, paging.encode(name, found), *types) == found
        assert taken < 2, "a cursor of one list is one of another"
    for check in (paging.text, paging.moment, lambda p, v: paging.one_of(p, v, ("ok",))):
        try:
            got: Any = check("q", text)  # type: ignore[operator]
        except InvalidInputError as error:
            assert error.parameter == "q"
            continue
        if check is paging.moment:
            assert got is None or 0 <= got < 1 << 63
    inside = paging.like(text)[1:-1]
    for escaped in ("!!", "!%", "!_"):
        inside = inside.replace(escaped, "")
    assert not set(inside) & {"%", "_", "!"}


# ---------------------------------------------------------------------- agents' log files


def logged(data: bytes) -> None:
    """A log file, written in any pieces and rotated anywhere, is shown whole and harmless.

    Pieces end at form feeds; one that begins with `R` is written after a rotation.
    """
    workspace = Workspace(folder() / "logged")
    shutil.rmtree(workspace.logs, ignore_errors=True)
    workspace.logs.mkdir(parents=True)
    path = workspace.logs / "agent.log"
    tail = log_files.Tail(workspace, "agent")
    followed: list[str] = []
    written = b""
    try:
        for piece in data.split(b"\f"):
            if piece[:1] == b"R" and path.exists():
                path.replace(path.with_name("agent.log.1"))
                if written and not written.endswith(b"\n"):
                    written += b"\n"  # what a rotation tears stays apart
                    followed += list(tail.new())
            with path.open("ab") as file:
                file.write(piece)
            written += piece
            followed += list(tail.new())
        lines = log_files.lines_of(workspace, "agent")
    finally:
        tail.close()
    assert lines is not None
    for line in (*lines, *followed):
        assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in line)
        assert "\u202e" not in line
    assert len(log_files.lines_of(workspace, "agent", 2) or []) <= 2
    whole = data.rpartition(b"\n")[0] if data else b""
    if b"\fR" not in data and not data.startswith(b"R"):
        assert followed == lines[: len(followed)], "followed, it reads otherwise"
        assert len(lines) - len(followed) <= 1, "a whole line was not followed"
    assert bool(whole) <= bool(lines)


# ---------------------------------------------------------------------- streams of events


@cache
def _server() -> Remote:
    return Remote("http://127.0.0.1:1")


def streamed(data: bytes) -> None:
    """A message of a feed is an event, a gap or a place, or the server is called a foreign one."""
    place = _Place(None)
    for line in data.split(b"\n"):
        for wanted in (Wanted(), Wanted(["agent_started", "runtime"])):
            try:
                found = _read(_server(), line, wanted, place)
            except OtelAgentsError as error:
                assert "feed cannot be read" in str(error)
                continue
            assert isinstance(place.seq, int)
            if found is None:
                continue
            said = found.data()
            msgspec.json.encode(said, enc_hook=str)
            if isinstance(found, Told):
                assert wanted.has(found.event)
