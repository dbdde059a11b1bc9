"""Signals on their way: queues, sinks, files, metrics that are sums."""

from __future__ import annotations

import io
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_agents import metrics as metrics_module
from otel_agents import pipeline as pipeline_module
from otel_agents.boundary import boundary
from otel_agents.errors import SettingsError
from otel_agents.metrics import Metrics
from otel_agents.pipeline import Pipeline
from otel_agents.signals import (
    Failure,
    Ids,
    Signal,
    attributes_of,
    decode_line,
    decode_lines,
    encode_line,
    new_id,
)
from otel_agents.sinks import jsonl, make_sink
from otel_agents.sinks.console import ConsoleSink, line_of
from otel_agents.usage import Usage
from otel_agents.vocabulary import RUNS_STARTED, Metric, metric
from tests.forking import Forked

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def a_signal(number: int = 0, **fields: Any) -> Signal:
    return Signal(**{"id": f"s-{number}", "kind": "run", "edge": "start", "time": number, **fields})


class Kept:
    """A sink that keeps what it is given, once it is let go."""

    name = "kept"

    def __init__(self) -> None:
        self.signals: list[Signal] = []
        self.open = threading.Event()
        self.open.set()
        self.asked = threading.Event()
        self.closed = False

    def write(self, signals: Sequence[Signal]) -> None:
        self.asked.set()
        self.open.wait(60)
        self.signals += signals

    def close(self) -> None:
        self.closed = True


class Broken(Kept):
    """A sink whose disk is full."""

    name = "broken"

    def write(self, signals: Sequence[Signal]) -> None:
        raise OSError(28, "No space left on device")


def test_signals_reach_every_sink_in_order() -> None:
    """What is emitted is written, by each sink, in the order of emission."""
    sinks = [Kept(), Kept()]
    pipeline = Pipeline(sinks, Metrics().dropped)
    for number in range(2500):
        pipeline.emit(a_signal(number))

    assert pipeline.flush()
    assert [[signal.time for signal in sink.signals] for sink in sinks] == [list(range(2500))] * 2
    pipeline.close()
    assert [sink.closed for sink in sinks] == [True, True]


def test_a_broken_sink_costs_the_others_nothing_and_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Created = stored + dropped, sink by sink."""
    monkeypatch.setattr(boundary, "strict", False)
    dropped: dict[tuple[str, str], int] = {}

    def drop(sink: str, reason: str, amount: int) -> None:
        dropped[sink, reason] = dropped.get((sink, reason), 0) + amount

    good = Kept()
    pipeline = Pipeline([Broken(), good], drop)
    for number in range(100):
        pipeline.emit(a_signal(number))
    pipeline.close()

    assert len(good.signals) == 100
    assert dropped == {("broken", "OSError"): 100}


def test_a_slow_sink_never_blocks_and_drops_what_it_cannot_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The queue is bounded; what came too much is counted to the last one."""
    monkeypatch.setattr(pipeline_module, "MAX_WAITING", 10)
    dropped: list[int] = []
    slow = Kept()
    slow.open.clear()
    pipeline = Pipeline([slow], lambda _sink, _reason, amount: dropped.append(amount))
    for number in range(1000):
        pipeline.emit(a_signal(number))
    slow.open.set()
    pipeline.close()

    assert sum(dropped) + len(slow.signals) == 1000
    assert sum(dropped) > 0


def test_the_end_waits_for_a_patient_sink() -> None:
    """A sink that says so is waited for beyond the time that the end gives: its write is whole."""
    slow = Kept()
    slow.patience = 30.0  # type: ignore[attr-defined]
    slow.open.clear()
    pipeline = Pipeline([slow], Metrics().dropped)
    pipeline.emit(a_signal())
    end = threading.Thread(target=pipeline.close, args=(0.0,))
    end.start()
    end.join(0.2)
    assert end.is_alive(), "it has given up"
    slow.open.set()
    end.join(30)

    assert [signal.id for signal in slow.signals] == ["s-0"]
    assert slow.closed


def test_what_an_end_cuts_off_is_counted() -> None:
    """A write that is not done when the time is up counts as lost, as does what waits behind it."""
    dropped: dict[str, int] = {}
    stuck = Kept()
    stuck.open.clear()
    pipeline = Pipeline([stuck], lambda _sink, reason, amount: dropped.update({reason: amount}))
    pipeline.emit(a_signal(1))
    assert stuck.asked.wait(60)
    pipeline.emit(a_signal(2))
    pipeline.close(0.0)
    stuck.open.set()

    assert dropped == {"closed": 2}


@given(
    st.builds(
        Signal,
        id=st.text(),
        kind=st.sampled_from(["run", "agent", "gate"]),
        edge=st.sampled_from(["start", "progress", "end", "fact"]),
        time=st.integers(0, 2**62),
        ids=st.builds(Ids, run_id=st.none() | st.text(), iteration=st.none() | st.integers(0, 9)),
        usage=st.none() | st.builds(Usage, input_tokens=st.integers(0, 2**40)),
        cost=st.none() | st.floats(0, 1e6),
        error=st.none() | st.builds(Failure, type=st.text(), message=st.text()),
        attributes=st.dictionaries(st.text(), st.none() | st.text() | st.integers(-9, 9)),
    )
)
def test_a_signal_survives_its_line(signal: Signal) -> None:
    """A JSON line gives back the signal it was made of."""
    try:
        line = encode_line(signal)
    except UnicodeEncodeError:
        return  # lone surrogates: not text
    assert decode_line(line) == signal
    assert line.count(b"\n") == 1


@given(st.binary())
def test_garbage_is_no_signal(line: bytes) -> None:
    """A torn or foreign line gives None, never an exception."""
    assert decode_line(line) is None or line.strip().startswith(b"{")


def test_torn_lines_are_left_out() -> None:
    """The good lines around a torn one are read."""
    good = encode_line(a_signal())
    assert list(decode_lines([good, good[:20], b"\n", good])) == [a_signal(), a_signal()]


def test_ids_sort_by_time_and_are_unique() -> None:
    """Ids of ours are UUID text, version 7."""
    ids = [new_id() for _ in range(2000)]
    assert len(set(ids)) == 2000
    assert all(len(found) == 36 and found[14] == "7" and found[19] in "89ab" for found in ids)
    assert ids[0][:13] <= ids[-1][:13]


def test_a_file_is_rotated_at_its_size_and_old_ones_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No line is lost in the file that is kept, and files do not grow without end."""
    monkeypatch.setattr(jsonl, "MAX_BYTES", 2000)
    monkeypatch.setattr(jsonl, "KEEP", 2)
    sink = jsonl.JsonlSink(tmp_path / "signals.jsonl")
    for number in range(200):
        sink.write([a_signal(number)])
    sink.close()

    rotated = sorted(tmp_path.glob("signals-*.jsonl"))
    kept = [signal for path in rotated for signal in decode_lines(path.read_bytes().splitlines())]
    assert len(rotated) == 2
    assert [signal.time for signal in kept] == sorted(signal.time for signal in kept)
    assert len(kept) > 20


def test_a_file_that_another_process_renamed_is_opened_anew(tmp_path: Path) -> None:
    """A writer follows the name, not the file it once opened."""
    path = tmp_path / "signals.jsonl"
    sink = jsonl.JsonlSink(path)
    sink.write([a_signal(1)])
    path.rename(tmp_path / "signals-1.jsonl")
    sink.write([a_signal(2)])
    sink.close()

    assert [signal.time for signal in decode_lines(path.read_bytes().splitlines())] == [2]


def test_an_unknown_sink_is_one_sentence() -> None:
    """It names what was asked for and what there is."""
    with pytest.raises(SettingsError, match=r"kafkaesque:x.*console:, events:, jsonl:, otlp:"):
        make_sink("kafkaesque:x", None)


def test_the_console_shows_no_control_characters() -> None:
    """A name cannot steer the terminal."""
    stream = io.StringIO()
    ConsoleSink(stream).write([a_signal(name="\x1b]0;owned\x07\u202e", result="error")])

    assert "\x1b" not in stream.getvalue()
    assert "\\x1b]0;owned\\x07\\u202e" in stream.getvalue()
    assert "run.start" in line_of(a_signal())


def points(reader: InMemoryMetricReader) -> dict[str, list[tuple[dict[str, Any], Any]]]:
    data = reader.get_metrics_data()
    return {
        metric.name: [
            (dict(point.attributes or {}), point.value) for point in metric.data.data_points
        ]  # type: ignore[union-attr]
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def test_counters_of_many_threads_add_up() -> None:
    """Nothing is lost between threads."""
    reader = InMemoryMetricReader()
    metrics = Metrics(MeterProvider([reader]))

    def count() -> None:
        for _ in range(5000):
            metrics.add(RUNS_STARTED, ("shop",))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert points(reader) == {"otelagents.runs.started": [({"workflow": "shop"}, 20_000)]}


def test_ten_thousand_names_do_not_make_ten_thousand_series(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What comes after the limit is summed under the SDK's mark."""
    monkeypatch.setattr(metrics_module, "MAX_SERIES", 10)
    reader = InMemoryMetricReader()
    metrics = Metrics(MeterProvider([reader]))
    for number in range(10_000):
        metrics.add(RUNS_STARTED, (f"shop-{number}",))

    (found,) = points(reader).values()
    assert len(found) == 11
    assert sum(value for _, value in found) == 10_000
    assert ({"otel.metric.overflow": True}, 9990) in found


@pytest.mark.parametrize("label", ["run_id", "agent_id", "task"])
def test_a_metric_refuses_an_id_for_a_label(label: str) -> None:
    """It fails when the vocabulary is imported, not in production."""
    with pytest.raises(ValueError, match="is no label"):
        metric("x", "counter", "1", label, "X.")


def test_a_forked_child_starts_its_sums_from_nothing() -> None:
    """A parent's counts are not reported again by its children."""
    reader = InMemoryMetricReader()
    metrics = Metrics(MeterProvider([reader]))
    metrics.add(RUNS_STARTED, ("shop",), 5)
    read, write = os.pipe()

    def child() -> None:
        metrics.add(RUNS_STARTED, ("shop",), 2)
        os.write(write, str(metrics._sums[RUNS_STARTED.name].sums).encode())

    Forked(child).end()

    assert os.read(read, 100) == b"{('shop',): 2}"
    assert isinstance(RUNS_STARTED, Metric)


def test_a_signal_survives_its_log_record() -> None:
    """What people search by is in attributes; the whole signal is there too, unchanged."""
    signal = a_signal(
        7, ids=Ids(run_id="r1", agent="a"), result="error", error=Failure(type="ValueError")
    )
    found = attributes_of(signal)

    assert {key: value for key, value in found.items() if key != "otelagents.signal"} == {
        "otelagents.run.id": "r1",
        "gen_ai.agent.name": "a",
        "otelagents.result": "error",
        "error.type": "ValueError",
    }
    assert decode_line(found["otelagents.signal"].encode()) == signal


def test_a_torn_line_does_not_swallow_the_next_processs_first(tmp_path: Path) -> None:
    """A file that ends in the middle of a line gets a line feed before anything else."""
    path = tmp_path / "signals.jsonl"
    path.write_bytes(encode_line(a_signal(1))[:-9])
    sink = jsonl.JsonlSink(path)
    sink.write([a_signal(2)])
    sink.close()

    assert [signal.time for signal in decode_lines(path.read_bytes().splitlines())] == [2]


def test_a_line_nested_beyond_reason_is_no_signal() -> None:
    """It is left out, as any other garbage."""
    assert decode_line(b"[" * 100_000) is None
    assert decode_line(b'{"attributes":' + b'{"a":' * 100_000) is None
