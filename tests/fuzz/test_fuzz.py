"""Every target holds to its property: on all that ever failed, and on inputs made by chance.

`make fuzz` goes on from here for as long as it is told to.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from starlette.websockets import WebSocket

from otel_agents import settings as configuration
from otel_agents import templates
from otel_agents.cli import log_files
from otel_agents.errors import InvalidInputError
from otel_agents.receiver.bounded import Body
from otel_agents.receiver.decode import LOGS, METRICS, TRACES, Decoding
from otel_agents.receiver.status import Refusal
from otel_agents.receiver.wire import framed
from otel_agents.server.live_access import wanted_by
from otel_agents.store.blocks import opened
from otel_agents.store.paging import decode as paging_decode
from otel_agents.values import CUT
from otel_agents.vocabulary import SIGNAL
from otel_agents.workspace import Workspace
from tests.fuzz import driver, mutate, served
from tests.fuzz.targets import CORPUS, TARGETS
from tests.receiver.kit import logs, nested

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fuzz.targets import Target

EXAMPLES = 60
MOST_CORPUS = 100_000  # bytes in all


def by_name(found: dict[str, Target]) -> list[object]:
    return [pytest.param(target, id=name) for name, target in found.items()]


@pytest.mark.parametrize("target", by_name(TARGETS))
def test_the_corpus_holds(target: Target) -> None:
    """Seeds, and inputs that failed once and are kept under a name that says what they are."""
    assert target.seeds

    for seed in target.seeds:
        target.run(seed.read_bytes())


@pytest.mark.parametrize("target", by_name(TARGETS))
def test_what_is_changed_by_chance_holds(target: Target) -> None:
    """Inputs changed by those who know their structure, by hypothesis, which makes them small."""
    seeds = [seed.read_bytes() for seed in target.seeds]

    @settings(
        max_examples=EXAMPLES, deadline=None, database=None,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )  # fmt: skip
    @given(st.sampled_from(seeds), st.integers(0, 2**32 - 1), st.integers(1, 3))
    @example(b"", 0, 1)
    def holds(data: bytes, number: int, times: int) -> None:
        random = Random(number)  # noqa: S311 - chance, no secret
        for _ in range(times):
            data = mutate.mutated(data, target.mutator, random)
        target.run(data)

    holds()


@pytest.mark.parametrize("target", by_name(TARGETS))
@settings(max_examples=20, deadline=None, database=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_hold(target: Target, data: bytes) -> None:
    """Bytes that mean nothing are refused as documented, and never by another exception."""
    target.run(data)


# ---------------------------------------------------------------------- what was found, by name


def test_a_number_that_no_float_holds_spoils_no_other_setting(tmp_path: Path) -> None:
    """An amount of 400 digits is one wrong amount: all other settings stay."""
    file = tmp_path / "otel-agents.toml"
    file.write_text(f'semconv = "latest"\n[[budget]]\nusd = {"9" * 400}\n')

    found = configuration.load({}, tmp_path)

    assert found.semconv == "latest"
    assert found.budgets == ()
    assert any("usd must be a number" in problem for problem in found.problems)


def nested_span(fields: bytes) -> bytes:
    """Return a request of one span with these fields."""
    return nested(b"\x0a\x10" + b"t" * 16 + b"\x12\x08" + b"s" * 8 + fields, 1, 2, 2)


@pytest.mark.parametrize(
    "spelled", [b"\x50\x05", b"\xd0\x00\x05", b"\xd0\x80\x80\x00\x85\x00"], ids=bytes.hex
)
def test_dropped_attributes_are_counted_on_however_the_count_is_spelled(spelled: bytes) -> None:
    """A field's number, and its value, may take more bytes than they need."""
    long = framed(9, framed(1, b"key") + framed(2, framed(1, b"x" * 70_000)))

    found = span_of(nested_span(spelled + long))

    assert found.dropped_attributes_count == 6


def test_what_is_no_count_of_dropped_attributes_is_not_counted_on() -> None:
    """A field of another wire type is unknown, whatever its bytes, and no reason to refuse."""
    long = framed(9, framed(1, b"key") + framed(2, framed(1, b"x" * 70_000)))

    found = span_of(nested_span(b"\x55\xff\xff\xff\xff" + long))

    assert found.dropped_attributes_count == 1


def span_of(body: bytes) -> Any:
    """Return the one span of a request, as it is kept."""
    batch = Decoding(TRACES, Body(body, len(body))).next()
    assert batch is not None
    return opened(batch.blocks[0].body).resource_spans[0].scope_spans[0].spans[0]


@pytest.mark.parametrize("field", ["a" * 5, "[" + "9" * 5000 + "]", "[-" + "9" * 4301 + "]"])
def test_a_number_of_any_length_is_no_reason_to_raise(field: str) -> None:
    """Python refuses to read more than 4,300 digits; such an item is a key like any other."""
    template = templates.compile("{x" + (field if field[0] == "[" else "." + field) + "}")

    assert template.render({"x": {}}) is None


def test_a_place_of_any_length_is_denied_in_a_sentence() -> None:
    """`since` of 5,000 digits is none, and the handshake is answered with 400."""
    scope = {"type": "websocket", "query_string": b"since=" + b"9" * 5000, "headers": []}
    socket = WebSocket(scope, None, None)  # type: ignore[arg-type]

    with pytest.raises(InvalidInputError, match="since"):
        wanted_by(socket)


@pytest.mark.parametrize("level", ["resourceSpans", "resourceLogs", "resourceMetrics"])
def test_null_in_a_list_is_refused_at_every_level(level: str) -> None:
    """It stood for an empty message above the spans, and was refused among them."""
    kind = {"resourceSpans": TRACES, "resourceLogs": LOGS, "resourceMetrics": METRICS}[level]
    body = f'{{"{level}":[null]}}'.encode()

    with pytest.raises(Refusal) as refused:
        Decoding(kind, Body(body, len(body)), as_json=True).next()

    assert refused.value.http == 400


def signal_nested(levels: int) -> bytes:
    """Return a request with one signal whose attributes nest so deep, and one that is plain."""
    request = logs(2)
    deep = "[" * (levels - 1) + "]" * (levels - 1)
    for record, value in zip(
        request.resource_logs[0].scope_logs[0].log_records, (deep or "0", "0"), strict=True
    ):
        told = (
            f'"id":"{len(value)}","kind":"run","edge":"fact","time":5,"attributes":{{"a":{value}}}'
        )
        line = f"{{{told}}}"
        record.attributes.add(key=SIGNAL.key).value.string_value = line
    return bytes(request.SerializeToString())


@pytest.mark.parametrize("levels", [1, 40, 41, 500, 980, 5000])
def test_a_signal_that_nests_deep_spoils_no_others(levels: int) -> None:
    """At the depth where it could be read but not written again, whole pages could not be shown."""
    body = signal_nested(levels)
    decoding = Decoding(LOGS, Body(body, len(body)))
    batch = decoding.next()

    assert batch is not None
    assert len(batch.signals) + decoding.rejected == 2
    assert decoding.rejected == (levels > 40)


def test_a_log_file_reads_as_it_is_followed(tmp_path: Path) -> None:
    """A carriage return alone ends no line, and one before a line feed is not shown."""
    workspace = Workspace(tmp_path)
    workspace.logs.mkdir()
    (workspace.logs / "a.log").write_bytes(b"one\rtwo\r\nthree\n")
    tail = log_files.Tail(workspace, "a")
    try:
        followed = list(tail.new())
    finally:
        tail.close()

    assert followed == log_files.lines_of(workspace, "a") == ["one two", "three"]


# ---------------------------------------------------------------------- the tools themselves


def _less(_self: object, *_: object) -> Any:
    yield from ()


def _cut_elsewhere(data: bytes, at: int) -> bytes:
    return data[at : at + 8] + CUT.encode()


def _any_amount(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value < float("inf")


def _any_cursor(_name: str, cursor: str | None, *types: type) -> Any:
    return paging_decode("runs", cursor, *types)


@pytest.mark.parametrize(
    ("target", "where", "broken"),
    [
        ("json", "tests.fuzz.otlp.JsonSlices.__iter__", _less),
        ("protobuf", "tests.fuzz.otlp.Slices.__iter__", _less),
        ("texts", "otel_agents.receiver.wire._cut", _cut_elsewhere),
        ("gzip", "tests.fuzz.otlp.Inflate.feed", lambda *_: b""),
        ("http", "otel_agents.receiver.decode.Decoding.answer", lambda *_, **__: b"\x0a\x00"),
        ("record", "otel_agents.receiver.logs._too_deep", lambda _: False),
        ("signal", "tests.fuzz.texts.encode_line", lambda _: b"{}"),
        ("settings", "otel_agents.settings_guards.is_amount", _any_amount),
        ("template", "otel_agents.templates._public", lambda *_: None),
        ("cursor", "tests.fuzz.texts.paging.decode", _any_cursor),
        ("log", "otel_agents.cli.log_files.visible", str),
        ("stream", "tests.fuzz.texts._read", lambda *_: None),
        ("frames", "tests.fuzz.wires._CLOSED", {1000}),
        ("socket", "otel_agents.server.live.reader", lambda caller: caller),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_target_sees_what_is_broken(
    monkeypatch: pytest.MonkeyPatch, target: str, where: str, broken: Any
) -> None:
    """The control: with a part that does otherwise, the same inputs do not hold."""
    monkeypatch.setattr(where, broken)
    monkeypatch.setattr(served, "PATIENCE", 10.0)

    with pytest.raises(Exception):  # noqa: B017 - whichever property it is
        for seed in TARGETS[target].seeds:
            TARGETS[target].run(seed.read_bytes())


@settings(max_examples=200, deadline=None, database=None)
@given(st.integers(0, 2**32 - 1))
def test_changed_messages_are_messages_still(number: int) -> None:
    """The wire mutator re-encodes what it changed: most of what it makes parses in its own reader.

    It takes apart and puts together again without a change what nobody changed.
    """
    body = (CORPUS / "protobuf" / "traces").read_bytes().partition(b"\n")[2]
    assert mutate.encoded(mutate.parsed(body)) == body

    random = Random(number)  # noqa: S311 - chance, no secret

    changed = mutate.mutated(body, mutate.of_wire, random)

    assert len(changed) <= mutate.MOST
    assert changed != body


def test_a_failing_input_is_made_small() -> None:
    """What has nothing to do with the failure is taken away."""

    def run(data: bytes) -> None:
        assert b"ab" not in data

    assert driver.smallest(b"x" * 100 + b"ab" + b"y" * 77, run) == b"ab"


def test_without_atheris_a_broken_target_is_found_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver's own loop finds what fails, keeps the input, and says so by its exit code."""
    monkeypatch.setenv("OTEL_AGENTS_FUZZ_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache" / "cursor").mkdir(parents=True)

    def run(data: bytes) -> None:
        assert not data.startswith(b"W") or b"\x00" not in data

    broken = TARGETS["cursor"]._replace(run=run)
    monkeypatch.setitem(TARGETS, "cursor", broken)

    with pytest.raises(AssertionError):
        driver._plain("cursor", 20, tmp_path)

    assert b"\x00" in (tmp_path / "small").read_bytes()


def test_the_corpus_is_small() -> None:
    """It is read by people: some kilobytes, and a name for each input that is not new."""
    files = [path for path in CORPUS.rglob("*") if path.is_file()]

    assert sum(path.stat().st_size for path in files) < MOST_CORPUS
    assert {path.parent.name for path in files} == set(TARGETS)
