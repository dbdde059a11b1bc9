"""Blocks of spans: what is refused, what is counted once, and trees of any shape."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from otel_agents.errors import InvalidInputError, NotFoundError
from otel_agents.store import Batch
from otel_agents.store.blocks import block_of
from otel_agents.store.traces import in_tree_order

from .build import block, ids_of, number, request, trace_number

if TYPE_CHECKING:
    from otel_agents.store import Block, Store
    from tests.databases import Opener

T = trace_number(1)


def put(store: Store, *blocks: Block) -> None:
    store.write(Batch(blocks=list(blocks)))
    assert store.settle()


def blocks_of(store: Store) -> int:
    row = store._database.here.row("SELECT COUNT(*) AS number FROM blocks")
    assert row is not None
    return int(row["number"])


def test_a_request_sent_again_is_one_block(store: Store) -> None:
    """The same bytes, in the same batch or a later one, are stored once."""
    one = block({"trace": T, "span": number(1)})
    put(store, one, one)
    put(store, one)
    assert blocks_of(store) == 1
    assert store.traces()["items"][0]["spans"] == 1


def test_a_span_in_two_requests_is_once_in_the_trace(store: Store) -> None:
    """The state that ended last is shown; whichever came last."""
    late = {"trace": T, "span": number(1), "name": "late", "end": 9_000}
    early = {"trace": T, "span": number(1), "name": "early", "end": 2_000}
    for order in ((late, early), (early, late)):
        put(store, *(block(one) for one in order))
        (span,) = store.trace(T.hex())["spans"]
        assert (span["name"], span["duration_ms"]) == ("late", 0.008)


@pytest.mark.parametrize(
    "ids",
    [
        {"trace": b"", "span": number(1)}, {"trace": bytes(16), "span": number(1)},
        {"trace": T[:15], "span": number(1)}, {"trace": T + b"x", "span": number(1)},
        {"trace": T, "span": b""}, {"trace": T, "span": bytes(8)},
        {"trace": T, "span": number(1)[:7]}, {"trace": T, "span": T},
    ],
)  # fmt: skip
def test_ids_of_the_wrong_length_are_refused_and_the_rest_is_kept(
    store: Store, ids: dict[str, bytes]
) -> None:
    """A span that nothing could refer to is taken out, and counted."""
    message = request(ids, {"trace": T, "span": number(2)}, ids)
    found, refused = block_of(message, message.SerializeToString())
    assert (found.spans, refused) == (1, 2)
    put(store, found)
    assert ids_of(store.trace(T.hex())["spans"], "span_id") == [number(2).hex()]


def test_a_request_of_refused_spans_alone_is_no_block(store: Store) -> None:
    """Nothing is stored of it."""
    message = request({"trace": b"x", "span": b"y"})
    found, refused = block_of(message, message.SerializeToString())
    assert refused == 1
    put(store, found)
    assert blocks_of(store) == 0


def test_times_that_no_column_holds_are_cut(store: Store) -> None:
    """An end before the start is no negative duration, and 2^64 is the last time there is."""
    put(store, block(
        {"trace": T, "span": number(1), "start": 5_000_000, "end": 1_000},
        {"trace": T, "span": number(2), "start": (1 << 64) - 1, "end": (1 << 64) - 1},
    ))  # fmt: skip
    found = {span["span_id"]: span for span in store.trace(T.hex())["spans"]}
    assert found[number(1).hex()]["duration_ms"] == 0
    assert found[number(2).hex()]["started_at"].startswith("2")
    (row,) = store.traces()["items"]
    assert row["duration_ms"] > 0
    put(store, block({"trace": trace_number(2), "span": number(1), "start": 9, "end": 1}))
    assert store.trace(trace_number(2).hex())["duration_ms"] == 0


def test_a_cycle_and_an_orphan_are_shown_once_each(store: Store) -> None:
    """A span that is its own ancestor, or whose parent never came, stands as a root."""
    put(store, block(
        {"trace": T, "span": number(1), "parent": number(3)},
        {"trace": T, "span": number(2), "parent": number(1)},
        {"trace": T, "span": number(3), "parent": number(2)},
        {"trace": T, "span": number(4), "parent": number(4)},
        {"trace": T, "span": number(5), "parent": number(99)},
        {"trace": T, "span": number(6), "parent": number(5)},
    ))  # fmt: skip
    spans = store.trace(T.hex())["spans"]
    assert sorted(ids_of(spans, "span_id")) == [number(n).hex() for n in range(1, 7)]
    depth = {span["span_id"]: span["depth"] for span in spans}
    assert [depth[number(n).hex()] for n in (4, 5, 6)] == [0, 0, 1]


@pytest.mark.parametrize("closed", [False, True])
def test_a_chain_of_a_hundred_thousand_spans_ends(closed: bool) -> None:
    """It is deeper than Python recurses, and may bite its own tail."""
    count = 100_000
    spans: list[dict[str, Any]] = [
        {"trace_id": "t", "span_id": str(n), "parent_id": str(n - 1) if n else None, "start_ms": n}
        for n in range(count)
    ]
    if closed:
        spans[0]["parent_id"] = str(count - 1)
    found = in_tree_order(list(reversed(spans)))
    assert len(found) == count
    assert {one["depth"] for one in found} == set(range(count))


def test_a_trace_that_is_none_and_one_that_is_not_there(store: Store) -> None:
    """The first is a wrong argument, the second not found."""
    for wrong in ("", "x", "0" * 31, "0" * 33, "zz" * 16, "\0", "\ud800"):
        with pytest.raises(InvalidInputError) as refused:
            store.trace(wrong)
        assert refused.value.parameter == "trace_id"
    with pytest.raises(NotFoundError):
        store.trace("0" * 31 + "1")


def test_traces_are_found_by_each_filter(store: Store) -> None:
    """Name of the root, run, id, service, status and time, also over several blocks."""
    now = time.time_ns()
    put(store, block({"trace": T, "span": number(1), "name": "Plan It", "run": "r-1", "start": now,
                      "end": now + 1}))  # fmt: skip
    put(store, block({"trace": T, "span": number(2), "parent": number(1), "start": now - 10**9,
                      "end": now}))  # fmt: skip
    other = request({"trace": trace_number(2), "span": number(1), "start": 5, "end": 6})
    other.resource_spans[0].scope_spans[0].spans[0].status.code = 2
    other.resource_spans[0].resource.attributes[0].value.string_value = "bank"
    put(store, block_of(other, other.SerializeToString())[0])

    def found(**asked: Any) -> list[str]:
        return [one["trace_id"] for one in store.traces(**asked)["items"]]

    first, second = T.hex(), trace_number(2).hex()
    assert found() == [first, second]
    assert found(q="plan") == found(q="r-1") == found(q=first.upper()) == [first]
    assert found(service="bank") == found(status="error") == [second]
    assert found(status="ok") == [first]
    assert found(since=(now - 5 * 10**9) / 1e9) == [first]
    assert found(until=1.0) == [second]
    (row,) = store.traces(q="plan")["items"]
    assert (row["root"], row["spans"], row["duration_ms"]) == ("Plan It", 2, pytest.approx(1000))


def test_the_index_is_made_of_blocks_that_were_left_without_it(
    stores: Opener, database_url: str
) -> None:
    """A process that died after a commit leaves blocks; the next one indexes them."""
    connection = stores(database_url)._database.here
    one = block({"trace": T, "span": number(1)})
    with connection.writing():
        row = connection.row(
            "INSERT INTO blocks (digest, received_ns, spans, body) "
            "VALUES (?, 1, 1, ?) RETURNING id",
            (one.digest, one.body),
        )
        assert row is not None
        connection.run("INSERT INTO unindexed (block_id) VALUES (?)", (row["id"],))
    store = stores(database_url)
    assert store.settle()
    assert store.traces()["items"][0]["trace_id"] == T.hex()
