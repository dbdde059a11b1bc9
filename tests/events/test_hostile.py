"""Payloads that are meant to do harm: they are events or errors, and never anything else."""

from __future__ import annotations

import collections
import contextlib
import io
import json
import logging
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NoReturn
from unittest import mock

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from otel_agents import EventError, emit_event, get_emitter, record_critic_decision
from otel_agents.event_types import SCHEMAS, event_of
from otel_agents.sinks.console import ConsoleSink
from otel_agents.sinks.events import EventsSink, line_of
from otel_agents.sinks.jsonl import JsonlSink

from .conftest import events_in

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from otel_agents.pipeline import Pipeline
    from otel_agents.testing import Captured

    from .conftest import Program

_GOOD: Final[dict[str, dict[str, Any]]] = {
    "task_queued": {"task_id": "t", "feature": "f", "est_cost": 1.0},
    "agent_started": {"agent": "a", "task_id": "t"},
    "agent_completed": {
        "agent": "a", "task_id": "t", "status": "success", "duration_ms": 1, "cost_usd": 0.5,
    },
    "validation_complete": {"task_id": "t", "result": "passed"},
    "hitl_escalated": {"task_id": "t", "attempts": 1, "last_error": "e", "priority": "high"},
    "budget_warning": {"scope": "s", "limit": 1, "spent": 1},
    "budget_exceeded": {"scope": "s", "limit": 1, "spent": 2},
}  # fmt: skip


class Raising:
    """An object of which nothing can be asked."""

    __slots__ = ()

    @property  # type: ignore[misc]
    def __class__(self) -> NoReturn:  # type: ignore[override]
        raise RuntimeError

    def __getattr__(self, name: str) -> NoReturn:
        raise RuntimeError(name)

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __format__ = __bool__ = __len__ = __iter__ = __eq__ = __str__  # type: ignore[assignment]
    __hash__ = object.__hash__


class Blocking(str):
    """A text whose own text never comes."""

    __slots__ = ()

    def __str__(self) -> str:
        raise AssertionError

    __repr__ = __format__ = __len__ = __iter__ = __str__  # type: ignore[assignment]


def _recursive() -> dict[str, Any]:
    one: dict[str, Any] = {}
    one["one"] = [one, {"one": one}]
    return one


def _deep() -> list[Any]:
    one: list[Any] = []
    for _ in range(10_000):
        one = [one]
    return one


_HOSTILE: Final[dict[str, Callable[[], Any]]] = {
    "recursive": _recursive,
    "deep": _deep,
    "raising": Raising,
    "text subclass": lambda: Blocking("x"),
    "mock of text": lambda: mock.Mock(spec=str),
    "mock of number": lambda: mock.NonCallableMock(spec=int),
    "mock": mock.MagicMock,
    "nan": lambda: float("nan"),
    "infinity": lambda: float("-inf"),
    "large number": lambda: 2**70,
    "huge number": lambda: 10**5000,
    "half a pair": lambda: "\ud800 \udfff",
    "line ends": lambda: "\r\n\u2028\u2029\x85\x1b[2J\x00",
    "large text": lambda: "x" * 10_000_000,
    "secrets, nearly": lambda: "Bearer " * 1_000_000,
    "words of an error": lambda: "x - at `$.y`",
    "bytes": lambda: b"\xff" * 1000,
    "many": lambda: list(range(100_000)),
    "wide": lambda: {str(number): number for number in range(10_000)},
    "odd keys": lambda: {1: 2, None: 3, (): 4, "\ud800": 5, "x" * 1_000_000: 6},
    "set": lambda: {1, "a", None},
    "iterator": lambda: iter(int, 1),
    "function": lambda: print,
    "class": lambda: Raising,
    "mapping": lambda: MappingProxyType({"a": 1}),
    "chain": lambda: collections.ChainMap({"a": 1}, {"b": 2}),
    "counter": lambda: collections.Counter("abc"),
}


class Sinks:
    """Every kind of sink that spells events out, and what they were told."""

    def __init__(self, pipeline: Pipeline, home: Path) -> None:
        self.home = home
        self.console = io.StringIO()
        self._pipeline = pipeline
        for sink in (
            EventsSink(home / "agent-events.jsonl"),
            JsonlSink(home / "signals.jsonl"),
            ConsoleSink(self.console, events_only=True),
        ):
            pipeline.add(sink)

    def events(self) -> list[dict[str, Any]]:
        """Return the events of the file, which the other sinks have too."""
        assert self._pipeline.flush(90)
        found = events_in(self.home)
        heads = [one for one in self.console.getvalue().splitlines() if one.startswith("[")]
        assert len(heads) == len(found)
        signals = self.home / "signals.jsonl"
        lines = signals.read_bytes().splitlines() if signals.exists() else []
        told = [json.loads(one) for one in lines]
        # A start that ours adds to a lone end is a signal, and no event.
        marks = [
            one["attributes"].get("otelagents.event.type") for one in told if "attributes" in one
        ]
        assert len([one for one in marks if one]) == len(found)
        return found


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test silence another's warnings, which come once a minute."""
    monkeypatch.setattr("otel_agents.events._Refused.said", {})


@pytest.fixture
def sinks(captured: Captured, pipeline: Pipeline, tmp_path: Path) -> Sinks:
    """Sinks of the test's own runtime."""
    assert captured
    return Sinks(pipeline, tmp_path)


@pytest.mark.parametrize("hostile", _HOSTILE)
def test_whatever_else_a_payload_holds_the_event_is_told(
    captured: Captured, sinks: Sinks, hostile: str
) -> None:
    """An extra value of any kind, plain or nested: one line that parses, known fields as given."""
    for type_, payload in _GOOD.items():
        made = _HOSTILE[hostile]
        emit_event(type_, {**payload, "extra": made(), "more": {"nested": [made()]}})

    found = sinks.events()
    assert [one["event_type"] for one in found] == list(_GOOD)
    for one in found:
        expected = _GOOD[one["event_type"]]
        assert {key: one["payload"][key] for key in expected} == expected
        assert set(one["payload"]) == {*expected, "extra", "more"}
        assert len(json.dumps(one)) < 1_000_000
    assert captured.metric("otelagents.telemetry.dropped") == 0


def _refused(type_: str, payload: Any) -> EventError | None:
    try:
        emit_event(type_, payload)
    except EventError as error:
        return error
    return None


@pytest.mark.parametrize("hostile", _HOSTILE)
def test_a_field_is_taken_or_refused(sinks: Sinks, hostile: str) -> None:
    """Each field of each type: an event, or an EventError of bearable length that names it."""
    told = 0
    for type_, good in _GOOD.items():
        for key in SCHEMAS[type_].__struct_fields__:
            refused = _refused(type_, {**good, key: _HOSTILE[hostile]()})
            told += refused is None
            if refused is not None:
                assert refused.type == type_
                assert key in str(refused)
                assert len(str(refused)) < 2000
    emit_event("budget_warning", _GOOD["budget_warning"])

    found = sinks.events()
    assert len(found) == told + 1
    assert found[-1]["payload"] == _GOOD["budget_warning"]


_KEYS: Final[dict[str, Callable[[], Any]]] = {
    "number": lambda: 1,
    "none": lambda: None,
    "tuple": tuple,
    "bytes": lambda: b"x",
    "object": Raising,
    "half a pair": lambda: "\ud800",
    "long": lambda: "x" * 1_000_000,
    "empty": str,
    "control": lambda: "\n\x1b[2J",
    "dot": lambda: "a.b",
    "text subclass": lambda: Blocking("x"),
}


@pytest.mark.parametrize("kind", _KEYS)
def test_a_key_is_taken_or_refused(sinks: Sinks, kind: str) -> None:
    """Whatever the key is: an event whose line parses, or an EventError, and nothing in between."""
    key = _KEYS[kind]()
    with contextlib.suppress(EventError):
        emit_event("budget_warning", {**_GOOD["budget_warning"], key: 1})
        assert len(sinks.events()) == 1
    emit_event("budget_warning", _GOOD["budget_warning"])

    assert sinks.events()[-1]["payload"] == _GOOD["budget_warning"]


class _Keys(collections.UserDict[str, Any]):
    """A mapping that is no dict."""


@pytest.mark.parametrize(
    "make", [_Keys, MappingProxyType, collections.OrderedDict, collections.ChainMap],
)  # fmt: skip
def test_a_mapping_is_a_payload(sinks: Sinks, make: Callable[[Any], Any]) -> None:
    """It need not be a dict."""
    emit_event("budget_warning", make(dict(_GOOD["budget_warning"])))

    assert [one["payload"] for one in sinks.events()] == [_GOOD["budget_warning"]]


class _BrokenKeys:
    def keys(self) -> NoReturn:
        raise RuntimeError


class _NoItems:
    def keys(self) -> list[str]:
        return ["scope"]


_NO_PAYLOADS: Final[dict[str, Callable[[], Any]]] = {
    "none": lambda: None,
    "number": lambda: 1,
    "text": lambda: "text",
    "bytes": bytes,
    "list": list,
    "pairs": lambda: [("a", 1)],
    "object": object,
    "raising": Raising,
    "mock": mock.Mock,
    "broken keys": _BrokenKeys,
    "no items": _NoItems,
    "type": lambda: type,
    "class": lambda: _Keys,
}


@pytest.mark.parametrize("kind", _NO_PAYLOADS)
def test_what_is_no_payload_is_refused(sinks: Sinks, kind: str) -> None:
    """With an EventError, whatever its attributes do."""
    with pytest.raises(EventError) as caught:
        emit_event("budget_warning", _NO_PAYLOADS[kind]())

    assert caught.value.type == "budget_warning"
    assert sinks.events() == []


_NO_TYPES: Final[dict[str, Callable[[], Any]]] = {
    "none": lambda: None,
    "number": lambda: 1,
    "empty": str,
    "unknown": lambda: "nothing",
    "half a pair": lambda: "\ud800",
    "long": lambda: "x" * 1_000_000,
    "bytes": lambda: b"task_queued",
    "raising": Raising,
    "mock": mock.Mock,
    "list": lambda: ["task_queued"],
    "not for emit_event": lambda: "critic_decision",
    "text subclass": lambda: Blocking("nothing"),
}


@pytest.mark.parametrize("kind", _NO_TYPES)
def test_what_is_no_type_is_refused(sinks: Sinks, kind: str) -> None:
    """With an EventError that names the types there are, and is of bearable length."""
    with pytest.raises(EventError) as caught:
        emit_event(_NO_TYPES[kind](), _GOOD["budget_warning"])

    assert "task_queued" in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert sinks.events() == []


@pytest.mark.parametrize("hostile", _HOSTILE)
def test_a_decision_of_hostile_names_is_told(sinks: Sinks, hostile: str) -> None:
    """`record_critic_decision` never raises; it tells once."""
    made = _HOSTILE[hostile]
    record_critic_decision(rejected=True, task_id=made(), agent=made(), name=made())

    assert [one["payload"]["rejected"] for one in sinks.events()] == [True]


def test_a_payload_that_changes_afterwards_is_told_as_it_was(
    captured: Captured, sinks: Sinks
) -> None:
    """Its values, their values and its keys: the sinks see what was given."""
    nested: dict[str, Any] = {"list": [1, {"deep": "before"}]}
    tools = ["read"]
    payload = {"agent": "a", "task_id": "t", "tools": tools, "nested": nested, "gone": 1}
    emit_event("agent_started", payload)
    nested["list"][1]["deep"] = "after"
    nested["list"].append(2)
    tools.append("write")
    payload["agent"] = "b"
    del payload["gone"]

    told = {
        "agent": "a", "task_id": "t", "tools": ["read"], "gone": 1,
        "nested": {"list": [1, {"deep": "before"}]},
    }  # fmt: skip
    assert [one["payload"] for one in sinks.events()] == [told]
    assert payload == {"agent": "b", "task_id": "t", "tools": ["read", "write"], "nested": nested}
    emit_event("agent_completed", {**_GOOD["agent_completed"], "agent": "a"})
    captured.runtime.require_pipeline().flush()
    attributes = captured.spans[-1].attributes
    assert attributes is not None
    assert attributes["gen_ai.agent.name"] == "a"


_texts = st.text(max_size=20) | st.sampled_from(["\ud800", "a\udfffb", "\u2028", "\x1b[2J", "\x85"])
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _texts | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(_texts | st.integers(), inner),
    max_leaves=8,
)


def test_any_extras_make_one_line_or_an_error(captured: Captured) -> None:
    """Whatever text, numbers and nesting hypothesis finds."""

    @settings(deadline=None, max_examples=50, phases=[Phase.reuse, Phase.generate])
    @given(st.sampled_from(sorted(_GOOD)), st.dictionaries(_texts, _json))
    def told(type_: str, extras: dict[str, Any]) -> None:
        captured.clear()
        try:
            emit_event(type_, {**extras, **_GOOD[type_]})
        except EventError:
            return
        events = [event for one in captured.signals if (event := event_of(one)) is not None]
        found = [json.loads(line) for event in events for line in line_of(event).splitlines()]

        assert [one["event_type"] for one in found] == [type_]
        assert found[0]["payload"].items() >= _GOOD[type_].items()

    told()


# ---------------------------------------------------------------------- not strict


def test_what_is_wrong_is_counted_each_time_and_said_once_a_minute(
    captured: Captured,
    sinks: Sinks,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With strict=False nothing is raised; a minute later it is said again, and of each type."""
    from otel_agents import events

    monkeypatch.setattr(events._Refused, "said", {})
    now = time.monotonic()
    monkeypatch.setattr("otel_agents.events.time.monotonic", lambda: now)
    for _ in range(50):
        emit_event("budget_warning", {"scope": "s"}, strict=False)
        emit_event("nonsense", {}, strict=False)
    now += 61
    emit_event("budget_warning", {"scope": "s"}, strict=False)
    get_emitter().emit("budget_warning", {**_GOOD["budget_warning"], "limit": "x"}, strict=False)

    said = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert [("budget_warning" in one, "limit" in one) for one in said if "nonsense" not in one] == [
        (True, True), (True, True),
    ]  # fmt: skip
    assert sum("nonsense" in one for one in said) == 1
    dropped = captured.metric("otelagents.telemetry.dropped", sink="events", reason="invalid")
    assert dropped == 102
    assert sinks.events() == []


def test_many_wrong_types_are_no_leak_and_no_flood(
    captured: Captured, caplog: pytest.LogCaptureFixture
) -> None:
    """Types that are made up as they come are counted under one reason."""
    for number in range(1000):
        emit_event(f"type-{number}", {}, strict=False)

    assert captured.metric("otelagents.telemetry.dropped", reason="invalid") == 1000
    assert len(caplog.records) <= 100


# ---------------------------------------------------------------------- secrets

_SECRETS: Final = {
    "by shape": "key sk-abcdefghijklmnopqrstuvwx1234 of the day",
    "password": "hunter2-hunter2",
    "api_key": "hunter2-plain",
    "Authorization": "Basic hunter2-basic",
    "url": "postgresql://admin:hunter2-url@db/x",
    "nested": {"credentials": {"user": "me", "deep": "hunter2-deep"}, "token": ["hunter2-list"]},
    "jwt": ["eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.hunter2"],
}
_GIVEN_AWAY: Final = ("hunter2", "abcdefghijklmnopqrstuvwx1234", "eyJhbGci")


@pytest.mark.parametrize("type_", _GOOD)
def test_secrets_reach_no_sink(
    captured: Captured, sinks: Sinks, tmp_path: Path, type_: str
) -> None:
    """Neither by shape nor by name: not file, console, signals, spans nor metrics."""
    emit_event(type_, {**_GOOD[type_], **_SECRETS})

    assert len(sinks.events()) == 1
    text = "\n".join(
        [
            (tmp_path / "agent-events.jsonl").read_text(),
            (tmp_path / "signals.jsonl").read_text(),
            sinks.console.getvalue(),
            *(
                str(one.attributes) + str([e.attributes for e in one.events])
                for one in captured.spans
            ),
            str(captured.points()),
        ]
    )
    assert [one for one in _GIVEN_AWAY if one in text] == []
    assert "[redacted]" in text


def test_a_secret_in_a_known_field_reaches_no_sink(
    captured: Captured, sinks: Sinks, tmp_path: Path
) -> None:
    """Agent, task, feature, error, scope and tools can quote one too."""
    secret = _SECRETS["by shape"]
    assert isinstance(secret, str)
    for type_, payload in _GOOD.items():
        texts = {key: secret for key, value in payload.items() if isinstance(value, str)}
        texts = {key: value for key, value in texts.items() if key not in {"status", "result"}}
        emit_event(
            type_, {**payload, **texts, **({"tools": [secret]} if type_ == "agent_started" else {})}
        )
    get_emitter().get_metrics()
    assert len(sinks.events()) == len(_GOOD)

    text = "\n".join(
        [
            (tmp_path / "agent-events.jsonl").read_text(),
            (tmp_path / "signals.jsonl").read_text(),
            sinks.console.getvalue(),
            *(
                one.name + str(one.attributes) + str([e.attributes for e in one.events])
                for one in captured.spans
            ),
            str(captured.points()),
        ]
    )
    assert [one for one in _GIVEN_AWAY if one in text] == []


def test_a_secret_in_an_error_of_ours_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """What was refused is named by type and field, and not quoted."""
    payload = {**_GOOD["agent_completed"], "status": _SECRETS["by shape"]}
    with pytest.raises(EventError) as caught:
        emit_event("agent_completed", payload)
    emit_event("agent_completed", payload, strict=False)

    assert _GIVEN_AWAY[1] not in str(caught.value)
    assert _GIVEN_AWAY[1] not in caplog.text


def test_hostile_payloads_in_a_program_that_is_not_strict_are_never_lost(
    program: Program, tmp_path: Path
) -> None:
    """As a program runs, where our own failures are logged, not raised: none is, none is lost."""
    done = program(
        """
        from unittest import mock
        from otel_agents import emit_event
        class Raising:
            @property
            def __class__(self): raise RuntimeError
            def __str__(self): raise RuntimeError
            __repr__ = __str__
        good = {"scope": "day", "limit": 9, "spent": 8}
        for value in (Raising(), mock.Mock(spec=int), "\\ud800", [Raising()], {"\\ud800": 1}):
            emit_event("budget_warning", {**good, "extra": value})
        """
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert len(events_in(tmp_path / "logs")) == 5
