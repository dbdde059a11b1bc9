"""Deleting a run, and taking it along."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from otel_agents.errors import NotFoundError
from otel_agents.signals import Signal, decode_line
from otel_agents.store import Batch, LogRecord
from otel_agents.vocabulary import LAYERS, OPERATIONS, RUNTIME_LAYER, RUNTIME_OPERATION
from tests.state.build import BEGIN, Story, shop

from .build import block, fact, ids_of, made, number, trace_number, write

if TYPE_CHECKING:
    from otel_agents.store import Store
    from tests.databases import Opener

SHARED, OWN, OTHER = (trace_number(n) for n in range(3))


def story(run_id: str, *traces: bytes) -> list[Signal]:
    """Return the signals of a run that ran in some traces."""
    found = shop(run_id).signals
    for count, signal in enumerate(found):
        signal.trace_id = traces[count % len(traces)].hex()
    event = {RUNTIME_LAYER.key: LAYERS[0], RUNTIME_OPERATION.key: OPERATIONS[0]}
    return [*found, fact("runtime", len(run_id), BEGIN, run_id=run_id, attributes=event)]


def fill(store: Store) -> None:
    """Write two runs that share a trace and a block."""
    store.write(
        Batch(
            blocks=[
                block(
                    {"trace": SHARED, "span": number(1), "run": "mine"},
                    {"trace": SHARED, "span": number(2), "run": "yours"},
                    {"trace": SHARED, "span": number(3), "parent": number(1)},
                    {"trace": OWN, "span": number(4), "run": "mine"},
                    {"trace": OWN, "span": number(5), "parent": number(4)},
                    {"trace": OTHER, "span": number(6), "run": "yours"},
                ),
                block({"trace": SHARED, "span": number(7), "run": "mine"}),
            ],
            logs=[LogRecord(time=BEGIN, body=run, run_id=run) for run in ("mine", "yours")],
        )
    )
    write(store, *story("mine", SHARED, OWN), *story("yours", SHARED, OTHER))


def test_exactly_that_run_goes(store: Store) -> None:
    """Another run in the same block and trace stays, with the spans that nobody claims."""
    fill(store)
    before = made(store)
    assert store.delete_run("mine") == {"signals": 15, "spans": 4, "logs": 1}
    after = made(store)
    for table, rows in before.items():
        kept = [row for row in rows if row.get("run_id") != "mine"]
        assert after[table] == kept, table
    assert sorted(ids_of(store.trace(SHARED.hex())["spans"], "span_id")) == [
        number(2).hex(), number(3).hex(),
    ]  # fmt: skip
    with pytest.raises(NotFoundError):
        store.trace(OWN.hex())
    assert {row["trace_id"]: (row["spans"], row["run_id"]) for row in store.traces()["items"]} == {
        SHARED.hex(): (2, "yours"), OTHER.hex(): (1, "yours"),
    }  # fmt: skip
    assert ids_of(store.logs()["items"], "run_id") == ["yours"]
    assert {event["run_id"] for event in store.feed(0)} == {"yours"}
    assert ids_of(store.run_spans("yours")["items"], "span_id") == [
        number(2).hex(), number(3).hex(), number(6).hex(),
    ]  # fmt: skip


def test_what_is_deleted_is_not_there_twice_over(store: Store) -> None:
    """It is in no answer, and cannot be deleted again."""
    fill(store)
    store.delete_run("mine")
    for ask in (store.run, store.report, store.run_signals, store.run_spans, store.delete_run):
        with pytest.raises(NotFoundError):
            ask("mine")
    with pytest.raises(NotFoundError):
        next(store.export_run("mine"))


def test_a_request_that_is_sent_again_does_not_bring_its_spans_back(store: Store) -> None:
    """The block keeps its digest."""
    one = block({"trace": OWN, "span": number(4), "run": "mine"})
    store.write(Batch(blocks=[one]))
    write(store, *story("mine", OWN))
    assert store.delete_run("mine")["spans"] == 1
    store.write(Batch(blocks=[one]))
    assert store.settle()
    with pytest.raises(NotFoundError):
        store.trace(OWN.hex())


def test_an_export_holds_all_there_is_of_a_run(store: Store) -> None:
    """One object a line: the run, its events, spans and log records; nothing of another run."""
    fill(store)
    found: dict[str, list[Any]] = {}
    for line in store.export_run("mine"):
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
        ((kind, value),) = json.loads(line).items()
        found.setdefault(kind, []).append(value)
    assert {kind: len(values) for kind, values in found.items()} == {
        "run": 1, "event": 15, "span": 5, "log": 1,
    }  # fmt: skip
    assert found["run"][0]["run_id"] == "mine"
    assert {event["run_id"] for event in found["event"]} == {"mine"}
    assert number(2).hex() not in ids_of(found["span"], "span_id")


def test_stored_signals_make_the_same_run_in_another_store(
    store: Store, stores: Opener, database_url: str
) -> None:
    """What is stored of a signal is all of it: the rows made of it again are the same."""
    fill(store)
    before = made(store)
    rows = store._database.here.rows("SELECT body FROM signals ORDER BY seq")
    signals = [decode_line(row["body"].encode()) for row in rows]
    for run_id in ("mine", "yours"):
        store.delete_run(run_id)
    write(store, *(signal for signal in signals if signal is not None))
    assert made(store) == before


def test_a_run_that_goes_on_while_it_is_deleted_begins_anew(store: Store) -> None:
    """Signals that come later make a run of what they say."""
    told = Story("mine").start("run", name="shop").start("phase", "plan", "plan", parent="run")
    write(store, *told.signals)
    store.delete_run("mine")
    told.end("plan")
    write(store, told.signals[-1])
    assert [phase["name"] for phase in store.run("mine")["phases"]] == ["plan"]
    assert len(store.feed(0)) == 1
