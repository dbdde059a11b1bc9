"""What happens when a signal handler, a second thread or a slow backend comes at a bad moment."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from otel_agents.spool import lane as lane_module
from otel_agents.spool import pauses
from otel_agents.spool import segment as segment_module
from otel_agents.spool.directory import Directory
from otel_agents.spool.lane import Lane
from otel_agents.spool.memory import Memory
from otel_agents.spool.records import SCOPE
from otel_agents.spool.segment import Segment, Source

from .conftest import SOURCE
from .test_lane import THING, end, in_a_minute, names, one_by_one, span

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Backend, Losses


pytestmark = pytest.mark.usefixtures("told")


def once(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, first: Callable[[], None]) -> None:
    """Have something done once, right before a function is called, as a signal handler would."""
    real = getattr(owner, name)
    left = [first]

    def call(*args: Any, **kwargs: Any) -> Any:
        if left:
            left.pop()()
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, call)


def left_behind(directory: Directory, *wanted: str) -> Path:
    """Leave a dead process's segment."""
    segment = Segment.create(directory.path, "traces")
    for name in wanted:
        segment.add_item(SOURCE, span(name), 0)
    segment.close()
    return segment.path


# ---------------------------------------------------------------------- in a signal handler


def test_a_span_that_ends_while_a_segment_is_made_is_delivered(
    lane: Lane, backend: Backend, directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two segments made at once one is used, and none is left behind."""
    once(monkeypatch, segment_module, "head", lambda: one_by_one(lane, ["handled"]))
    one_by_one(lane, ["first"])
    assert lane.flush(in_a_minute())
    lane.tidy()
    assert sorted(backend.spans()) == ["first", "handled"]
    assert directory.names() == []


def test_a_span_that_ends_while_the_sender_begins_begins_no_second(
    lane: Lane, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two would each send all there is."""
    begun: list[int] = []
    once(monkeypatch, lane, "_begin_thread", lambda: one_by_one(lane, ["handled"]))
    once(monkeypatch, lane, "_work", lambda: begun.append(threading.get_ident()))
    one_by_one(lane, ["first"])
    assert lane.flush(in_a_minute())
    assert sorted(backend.spans()) == ["first", "handled"]
    names_now = [one.name for one in threading.enumerate()]
    assert names_now.count("otel-agents-spool-traces") == len(begun) == 1


def test_a_span_that_ends_within_an_append_spoils_no_number(
    lane: Lane, backend: Backend, losses: Losses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader counts what is missing by the numbers: each is given once, in order."""
    one_by_one(lane, ["first"])
    once(monkeypatch, segment_module, "framed", lambda: one_by_one(lane, ["handled"]))
    one_by_one(lane, ["second", "third"])
    assert lane.flush(in_a_minute())
    assert sorted(backend.spans()) == ["first", "handled", "second", "third"]
    assert losses == {}


def test_sources_that_are_written_at_once_have_their_own_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A span is never shown under another library's scope."""
    segment = Segment.create(tmp_path, "traces")
    ours, other = Source(b"r", "", b"ours", ""), Source(b"r", "", b"other", "")
    segment.add_item(Source(b"r", "", b"before", ""), b"0", 0)
    real, kinds = segment_module.framed, []

    def framed(kind: int, *rest: Any) -> bytes:
        kinds.append(kind)
        if kinds == [SCOPE]:
            segment.add_item(other, b"of other", 0)
        return real(kind, *rest)

    monkeypatch.setattr(segment_module, "framed", framed)
    segment.add_item(ours, b"of ours", 0)
    found = {body: source.scope for source, body in segment.read(10, 1 << 20).items}
    assert found == {b"0": b"before", b"of other": b"other", b"of ours": b"ours"}
    segment.close(remove=True)


def test_a_flush_within_a_flush_ends(lane: Lane) -> None:
    """A handler of SIGTERM that flushes may interrupt one that is under way."""
    ended = threading.Event()

    def flush_twice() -> None:
        with lane._idle:
            lane.flush(time.monotonic())
        ended.set()

    threading.Thread(target=flush_twice, daemon=True).start()
    assert ended.wait(30)


# ---------------------------------------------------------------------- while a backend is away


def test_who_waits_does_not_press_a_backend_that_asked_for_a_pause(
    lane: Lane, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request that was under way when somebody began to wait is the last one."""
    monkeypatch.setattr(pauses, "FIRST_SECONDS", 30.0)
    backend.answers = [503] * 1000
    real, asked = lane._shipping.ship, threading.Event()

    def ship(*args: Any) -> Any:
        lane.hurry()  # somebody does, in another thread
        found = real(*args)
        asked.set()
        return found

    monkeypatch.setattr(lane._shipping, "ship", ship)
    end(lane, names(1))
    assert asked.wait(30)
    assert not lane.flush(time.monotonic() + 1)
    assert backend.refused == 1


def test_what_is_spoiled_is_counted_once_however_often_it_is_tried(
    directory: Directory, backend: Backend, losses: Losses
) -> None:
    """A long outage multiplies nothing."""
    path = left_behind(directory, *names(10))
    content = bytearray(path.read_bytes())
    content[content.index(b"span-5")] ^= 1
    path.write_bytes(content)
    backend.answers = [503] * 5
    lane = Lane("traces", directory, backend.destination(), lambda *_: SOURCE)
    assert lane.drain(in_a_minute())
    lane.close()
    assert backend.refused == 5
    assert losses == {"corrupt": 1}


def test_dead_processes_cost_one_open_file(directory: Directory, backend: Backend) -> None:
    """However many left something, and however long the backend is away."""
    for number in range(20):
        left_behind(directory, f"span-{number}")
    backend.answers = [503] * 10
    lane = Lane("traces", directory, backend.destination(), lambda *_: SOURCE)
    most = 0
    for _ in range(10):
        lane._adopted = -60.0
        found = lane._next()
        assert found is not None
        lane._deliver(*found)
        most = max(most, len(lane._done))
    assert backend.refused == 10
    assert most == 1
    assert lane.drain(in_a_minute())
    lane.close()
    assert sorted(backend.spans()) == sorted(names(20))


def test_short_programs_keep_the_spool_to_its_size(
    backend: Backend, tmp_path: Path, losses: Losses
) -> None:
    """None of them fills a segment, and together they are more than there is room for."""
    backend.close()
    directory = Directory(tmp_path / "small", 64 << 10, losses)
    directory.make()
    total = 0
    for _ in range(20):
        lane = Lane("traces", directory, backend.destination(), lambda *_: SOURCE)
        for _ in range(20):
            lane.append(THING, THING, bytes(500), 0)
            total += 1
        ends = in_a_minute()
        while lane._turned:  # its sender has not looked yet
            assert time.monotonic() < ends
            time.sleep(0.001)
        lane.close()
    assert directory.bytes <= (64 << 10) + 20 * 600
    assert directory.status()["waiting"]["traces"] + losses["size cap"] == total


def test_an_end_does_not_wait_for_who_makes_room(lane: Lane, losses: Losses) -> None:
    """What is in memory only is written meanwhile."""
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with lane._front:
            held.set()
            go_on.wait(60)

    holder = threading.Thread(target=hold, daemon=True)
    holder.start()
    assert held.wait(30)
    lane._memory.keep(SOURCE, span("in memory"), 1)
    ended = threading.Thread(target=lane.tidy, daemon=True)
    ended.start()
    ended.join(30)
    assert not ended.is_alive()
    assert lane._live is not None
    assert lane._live.waiting == 1
    assert losses == {}
    go_on.set()
    holder.join(30)


def test_what_waits_is_on_the_disk_before_a_slow_request(
    lane: Lane, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power failure costs what came since the request began, not all that waits for its turn."""
    monkeypatch.setattr(lane_module, "_SYNC_SECONDS", 0.0)
    monkeypatch.setattr(lane_module, "_BATCH_ITEMS", 10)
    real, unsynced = lane._shipping.ship, []

    def ship(*args: Any) -> Any:
        assert lane._live is not None
        unsynced.append(lane._live.size - lane._live.synced)
        return real(*args)

    monkeypatch.setattr(lane._shipping, "ship", ship)
    end(lane, names(30))
    assert lane.flush(in_a_minute())
    assert unsynced == [0, 0, 0]


# ---------------------------------------------------------------------- in memory


def test_what_is_in_hand_is_kept_until_it_is_delivered() -> None:
    """It goes back in its order, and is given away with the rest at an end."""
    memory = Memory()
    for number in range(5):
        assert memory.keep(SOURCE, b"%d" % number, 1)
    first = memory.take(2)
    assert first is not None
    assert [body for _, body in first.items] == [b"0", b"1"]
    memory.put_back()
    again = memory.take(3)
    assert again is not None
    memory.delivered()
    assert memory.take(1) is not None
    assert [one.body for one in memory.empty()] == [b"3", b"4"]
    assert not memory


def test_an_end_while_memory_is_sent_loses_nothing(
    lane: Lane, backend: Backend, losses: Losses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider is shut down while the disk is full: the file takes it, or the backend does."""
    real, under_way, go_on = lane._shipping.ship, threading.Event(), threading.Event()

    def ship(*args: Any) -> Any:
        under_way.set()
        go_on.wait(60)
        return real(*args)

    monkeypatch.setattr(lane._shipping, "ship", ship)
    for name in names(10):
        lane._memory.keep(SOURCE, span(name), 1)
    lane._rouse()
    assert under_way.wait(30)
    lane.tidy()
    end(lane, names(7, 10))
    go_on.set()
    backend.wait(lambda: set(names(17)) <= set(backend.spans()))
    assert losses == {}


# ---------------------------------------------------------------------- whom a backend lets in


@pytest.mark.parametrize("status", [401, 403, 404, 302])
def test_what_others_told_is_kept_where_we_are_not_let_in(
    directory: Directory, backend: Backend, losses: Losses, status: int
) -> None:
    """A wrong token or address costs a drain nothing; with the right one all arrives."""
    left_behind(directory, *names(10))
    backend.answers = [status]
    lane = Lane("traces", directory, backend.destination(), lambda *_: SOURCE)
    assert not lane.drain(in_a_minute())
    assert str(status) in lane.trouble
    lane.close()
    assert losses == {}
    other = Lane("traces", directory, backend.destination(), lambda *_: SOURCE)
    assert other.drain(in_a_minute())
    other.close()
    assert backend.spans() == names(10)


def test_a_program_that_is_not_let_in_loses_its_own_only(
    directory: Directory, backend: Backend, losses: Losses
) -> None:
    """As OTLP demands; what a dead process left waits until something was taken."""
    left_behind(directory, *names(10))
    backend.answers = [403, 403]
    lane = Lane("traces", directory, backend.destination(), lambda *_: SOURCE)
    end(lane, ["own"])
    backend.wait(lambda: backend.refused == 2)
    assert lane.flush(in_a_minute())
    assert losses == {"refused": 1}
    assert directory.status()["waiting"]["traces"] == 10
    end(lane, ["next"])
    assert lane.flush(in_a_minute())
    lane._adopted = -60.0
    end(lane, ["last"])
    backend.wait(lambda: len(backend.spans()) == 12)
    lane.close()


def test_no_more_is_rejected_than_was_sent(lane: Lane, backend: Backend, losses: Losses) -> None:
    """A reply that says so is a liar's."""
    backend.reject = 1_000_000_000
    end(lane, names(5))
    assert lane.flush(in_a_minute())
    assert losses == {"rejected": 5}
    assert lane.sent == 0


# ---------------------------------------------------------------------- the directory


def test_a_directory_that_was_deleted_is_made_again(
    lane: Lane, backend: Backend, directory: Directory, losses: Losses
) -> None:
    """Somebody tidied up; the program goes on."""
    directory.path.joinpath(".lock").unlink()
    directory.path.rmdir()
    end(lane, names(5))
    assert lane.flush(in_a_minute())
    assert backend.spans() == names(5)
    assert losses == {}
    assert directory.path.stat().st_mode & 0o777 == 0o700
