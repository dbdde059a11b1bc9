"""A lane against a real backend: delivered, kept, refused, split, forked and closed."""

from __future__ import annotations

import resource
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_agents.spool import memory, pauses
from otel_agents.spool.directory import Directory
from otel_agents.spool.lane import Lane
from otel_agents.spool.segment import Segment
from tests.forking import Forked

from .conftest import SOURCE

if TYPE_CHECKING:
    from .conftest import Backend, Losses

pytestmark = pytest.mark.usefixtures("told")

THING = object()


def span(name: str) -> bytes:
    return Span(name=name, trace_id=bytes(16), span_id=bytes(8)).SerializeToString()


def names(count: int, first: int = 0) -> list[str]:
    return [f"span-{number}" for number in range(first, first + count)]


def end(lane: Lane, wanted: list[str]) -> None:
    """Append spans so that the sender finds all of them or none."""
    with lane._lock:
        one_by_one(lane, wanted)


def one_by_one(lane: Lane, wanted: list[str]) -> None:
    for name in wanted:
        lane.append(THING, THING, span(name), 0)


def in_a_minute() -> float:
    return time.monotonic() + 60


def test_what_is_appended_is_delivered_and_its_file_goes(
    lane: Lane, backend: Backend, directory: Directory, losses: Losses
) -> None:
    """All arrives, in order and once; nothing is left behind."""
    end(lane, names(5000))
    assert lane.flush(in_a_minute())
    lane.tidy()
    assert backend.spans() == names(5000)
    assert (lane.sent, losses, directory.names()) == (5000, {}, [])
    assert backend.headers[0]["Content-Type"] == "application/x-protobuf"


def test_it_is_delivered_without_anybody_waiting(lane: Lane, backend: Backend) -> None:
    """The sender goes by itself, again and again."""
    for first in range(0, 30, 10):
        end(lane, names(10, first))
        backend.wait(lambda first=first: backend.spans() == names(first + 10))


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_may_be_retried_is_kept_until_it_is_taken(
    lane: Lane, backend: Backend, losses: Losses, told: list[str], status: int
) -> None:
    """The backend comes to itself, and has everything once; one line was logged."""
    backend.answers = [status] * 5
    end(lane, names(10))
    backend.wait(lambda: backend.spans() == names(10))
    assert losses == {}
    assert len(told) == 1
    assert f"{status}" in told[0]
    assert "is kept" in told[0]


def test_a_backend_that_is_away_costs_the_end_nothing(
    lane: Lane, backend: Backend, directory: Directory
) -> None:
    """Nobody listens: the flush says so at once, and the next process delivers."""
    backend.close()
    end(lane, names(3))
    assert not lane.flush(in_a_minute())
    lane.close()
    assert directory.status()["waiting"]["traces"] == 3


@pytest.mark.parametrize(
    ("header", "least"), [("2", 2), ("0", 0), ("1000000000", 300), ("soon", 0), ("-5", 0)]
)
def test_a_wait_that_is_asked_for_is_kept_within_bounds(
    lane: Lane, backend: Backend, monkeypatch: pytest.MonkeyPatch, header: str, least: float
) -> None:
    """Retry-After in seconds is honoured up to five minutes; what it is not is passed over."""
    monkeypatch.setattr(pauses, "FIRST_SECONDS", 1.0)
    backend.answers = [(503, {"Retry-After": header})]
    end(lane, names(1))
    backend.wait(lambda: backend.refused == 1)
    assert not lane.flush(in_a_minute())
    pause = lane._pauses.left
    assert max(0.0, least - 1) < pause <= max(least, 1.2)


def test_a_refusal_for_good_is_counted(
    lane: Lane, backend: Backend, losses: Losses, directory: Directory, told: list[str]
) -> None:
    """A backend that has no such path: the batch is lost, and what comes after it is not."""
    backend.answers = [404]
    end(lane, names(3))
    backend.wait(lambda: backend.refused == 1)
    assert lane.flush(in_a_minute())
    end(lane, names(2, 3))
    assert lane.flush(in_a_minute())
    assert losses == {"refused": 3}
    assert directory.losses() == {("traces", "refused"): 3}
    assert backend.spans() == names(2, 3)
    assert "3 items are lost: 404" in told[0]


def test_one_item_that_is_refused_does_not_cost_the_others(
    lane: Lane, backend: Backend, losses: Losses, told: list[str]
) -> None:
    """The batch is split until the bad one is alone."""
    backend.poison = b"span-77"
    end(lane, names(100))
    assert lane.flush(in_a_minute())
    assert sorted(backend.spans()) == sorted(set(names(100)) - {"span-77"})
    assert losses == {"refused": 1}
    assert told == [told[0]]
    assert told[0].endswith("1 items are lost: 400 Bad Request")


def test_what_a_reply_says_was_rejected_is_counted(
    lane: Lane, backend: Backend, losses: Losses
) -> None:
    """`partial_success` names them by number only."""
    backend.reject = 2
    end(lane, names(5))
    assert lane.flush(in_a_minute())
    assert losses == {"rejected": 2}
    assert lane.sent == 3


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(
    lane: Lane, backend: Backend, losses: Losses, status: int
) -> None:
    """It would bring the data, and the headers' secrets, to wherever somebody says."""
    backend.answers = [(status, {"Location": f"{backend.url}/v1/traces"})]
    end(lane, names(1))
    assert lane.flush(in_a_minute())
    assert (backend.spans(), losses) == ([], {"refused": 1})


def test_what_dead_processes_left_is_delivered_first(
    directory: Directory, backend: Backend
) -> None:
    """The oldest first, then what this process tells."""
    for first in (0, 10):
        segment = Segment.create(directory.path, "traces")
        for name in names(10, first):
            segment.add_item(SOURCE, span(name), 0)
        segment.close()
    lane = Lane("traces", directory, backend.destination(), lambda *_: SOURCE)
    end(lane, names(10, 20))
    backend.wait(lambda: len(backend.spans()) == 30)
    lane.close()
    assert sorted(backend.spans()) == sorted(names(30))
    assert backend.spans()[:10] == names(10)


def test_what_is_spoiled_is_counted_and_the_rest_delivered(
    directory: Directory, backend: Backend, losses: Losses
) -> None:
    """A flipped bit costs one span, which is kept aside."""
    segment = Segment.create(directory.path, "traces")
    for name in names(10):
        segment.add_item(SOURCE, span(name), 0)
    segment.close()
    content = bytearray(segment.path.read_bytes())
    content[content.index(b"span-5")] ^= 1
    segment.path.write_bytes(content)
    lane = Lane("traces", directory, backend.destination(), lambda *_: SOURCE)
    assert lane.drain(in_a_minute())
    lane.close()
    assert backend.spans() == [name for name in names(10) if name != "span-5"]
    assert losses == {"corrupt": 1}
    (kept,) = (directory.path / "quarantine").iterdir()
    assert b"pan-5" in kept.read_bytes()


def test_what_the_disk_does_not_take_goes_through_memory(
    lane: Lane, backend: Backend, losses: Losses
) -> None:
    """A full disk costs nothing while the backend is there."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        end(lane, names(10))
        assert lane.flush(in_a_minute())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    end(lane, names(5, 10))
    assert lane.flush(in_a_minute())
    assert sorted(backend.spans()) == sorted(names(15))
    assert losses == {}


def test_disk_full_and_backend_away_loses_no_more_than_it_must(
    backend: Backend, directory: Directory, losses: Losses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded; created = kept + dropped, and what is kept goes to disk once it can."""
    monkeypatch.setattr(memory, "_MOST_BYTES", 1000)
    backend.close()
    lane = Lane("traces", directory, backend.destination(), lambda *_: SOURCE)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        end(lane, names(100))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    lane.close()
    kept = directory.status()["waiting"]["traces"]
    assert 0 < kept < 100
    assert losses == {"disk full": 100 - kept}
    assert directory.losses() == {("traces", "disk full"): 100 - kept}


def test_a_long_outage_drops_the_oldest_and_counts_it(
    backend: Backend, tmp_path: Any, losses: Losses
) -> None:
    """Beyond its size the spool loses what weighs least, and keeps the roots."""
    backend.close()
    directory = Directory(tmp_path / "small", 256 << 10, losses)
    directory.make()
    lane = Lane("traces", directory, backend.destination(), lambda *_: SOURCE)
    for number in range(4000):
        lane.append(THING, THING, span(f"{number}" + "x" * 200), 2 if number % 10 == 0 else 0)
    ends = in_a_minute()
    while directory.bytes > (256 << 10) + (64 << 10):
        assert time.monotonic() < ends
        lane.flush(0)
    lane.close()
    waiting = directory.status()["waiting"]["traces"]
    assert waiting + losses["size cap"] == 4000
    roots = 0
    while (segment := directory.adopt("traces")) is not None:
        roots += sum(Span.FromString(body).name.rstrip("x").endswith("0")
                     for _, body in segment.read(10_000, 1 << 30).items)  # fmt: skip
        segment.close(remove=True)
    assert roots == 400


def test_what_comes_after_the_end_is_counted(lane: Lane, losses: Losses) -> None:
    """A span that ends when all is closed cannot be kept, but is not silently lost."""
    lane.close()
    end(lane, names(2))
    assert losses == {"closed": 2}


def test_threads_append_at_once(lane: Lane, backend: Backend) -> None:
    """Eight threads, and a sender beside them: each item arrives once."""
    threads = [
        threading.Thread(target=one_by_one, args=(lane, names(500, 1000 * which)))
        for which in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lane.flush(in_a_minute())
    wanted = [name for which in range(8) for name in names(500, 1000 * which)]
    assert sorted(backend.spans()) == sorted(wanted)


def test_a_signal_handler_may_end_spans(lane: Lane, backend: Backend) -> None:
    """It interrupts an append in the middle, and appends."""
    count = iter(range(1_000_000))
    handled: list[str] = []

    def handler(*_: object) -> None:
        handled.append(f"handled-{next(count)}")
        lane.append(THING, THING, span(handled[-1]), 0)

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        one_by_one(lane, names(5000))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert lane.flush(in_a_minute())
    assert handled, "none came: the test shows nothing"
    assert sorted(backend.spans()) == sorted([*names(5000), *handled])


def test_a_forked_child_has_a_lane_of_its_own(
    lane: Lane, backend: Backend, directory: Directory
) -> None:
    """It neither sends nor spoils what its parent has, and what it appends is delivered."""
    backend.answers = [503] * 3
    end(lane, names(10))

    def child() -> None:
        lane.after_fork()
        end(lane, names(10, 10))

    Forked(child).end()
    backend.wait(lambda: set(names(10)) <= set(backend.spans()))
    ends = in_a_minute()
    other = Lane("traces", directory, backend.destination(), lambda *_: SOURCE)
    while len(backend.spans()) < 20:  # the parent's own sender may adopt it as well
        other.drain(time.monotonic() + 1)
        assert time.monotonic() < ends
    other.close()
    assert sorted(backend.spans()) == sorted(names(20))


def test_an_item_too_large_for_any_receiver_is_counted(lane: Lane, losses: Losses) -> None:
    """More than 32 MiB in one span."""
    lane.append(THING, THING, bytes(33 << 20), 0)
    assert losses == {"too large": 1}
