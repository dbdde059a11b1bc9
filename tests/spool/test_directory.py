"""The directory: adoption, what is dropped first, losses that are counted, what is set aside."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from otel_agents.errors import SettingsError
from otel_agents.spool import directory as directory_module
from otel_agents.spool.directory import Directory
from otel_agents.spool.segment import Segment, Source

if TYPE_CHECKING:
    from .conftest import Losses

SOURCE = Source(b"resource", "", b"scope", "")


def left_behind(directory: Directory, *weights: int, size: int = 10) -> Path:
    """Leave a dead process's segment with an item of each weight."""
    segment = Segment.create(directory.path, "traces")
    for weight in weights:
        segment.add_item(SOURCE, bytes(size), weight)
    segment.close()
    return segment.path


def test_the_oldest_segment_of_the_dead_is_adopted_first(directory: Directory) -> None:
    """By the time in its name; those of the living and of other kinds of data are left alone."""
    first, second = left_behind(directory, 0), left_behind(directory, 0)
    living = Segment.create(directory.path, "traces")
    found = [directory.adopt("traces"), directory.adopt("traces"), directory.adopt("traces")]
    assert [one and one.path for one in found] == [first, second, None]
    assert directory.adopt("logs") is None
    for one in (living, *found):
        if one is not None:
            one.close()


def test_what_was_delivered_whole_is_deleted(directory: Directory) -> None:
    """A process that died between its last acknowledgement and the deletion leaves no file."""
    path = left_behind(directory, 0)
    segment = Segment.adopt(path)
    assert segment is not None
    segment.acknowledge(segment.read(10, 1000))
    segment.close()
    assert directory.adopt("traces") is None
    assert not path.exists()


def test_what_is_no_segment_is_set_aside_and_counted(directory: Directory, losses: Losses) -> None:
    """The others are adopted all the same, and the bad one is kept for a look."""
    bad = left_behind(directory, 0, 0, 0)
    bad.write_bytes(b"spoiled!" + bad.read_bytes()[8:])
    good = left_behind(directory, 0)
    segment = directory.adopt("traces")
    assert segment is not None
    assert segment.path == good
    segment.close()
    assert (directory.path / "quarantine" / bad.name).exists()
    assert losses == {"corrupt": 3}
    assert directory.status()["quarantined_bytes"] > 0


def test_losses_outlive_the_process(directory: Directory, losses: Losses) -> None:
    """Whoever asks later is told what was dropped, by kind of data and reason."""
    directory.lose("traces", "refused", 3)
    directory.lose("traces", "refused", 4)
    directory.lose("logs", "corrupt", 1)
    directory.lose("logs", "nothing", 0)
    other = Directory(directory.path, 1)
    assert other.losses() == {("traces", "refused"): 7, ("logs", "corrupt"): 1}
    assert losses == {"refused": 7, "corrupt": 1}


def test_a_torn_line_of_losses_costs_that_line(directory: Directory) -> None:
    """A crash in the middle of a line does not hide the others."""
    directory.lose("traces", "refused", 3)
    with (directory.path / "losses.jsonl").open("ab") as file:
        file.write(b'{"time": 1, "sig')
    assert directory.losses() == {("traces", "refused"): 3}


def test_losses_are_summed_up_before_their_file_grows(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backend that refuses for weeks does not fill the disk with lines about it."""
    monkeypatch.setattr("otel_agents.spool.directory._MOST_LOSSES", 2000)
    for _ in range(500):
        directory.lose("traces", "refused", 2)
    assert directory.losses() == {("traces", "refused"): 1000}
    assert (directory.path / "losses.jsonl").stat().st_size < 3000


def test_losses_that_the_disk_did_not_take_are_told_later(directory: Directory) -> None:
    """A file in the way of the list stands for a full disk."""
    (directory.path / "losses.jsonl").mkdir()
    directory.lose("traces", "disk full", 3)
    (directory.path / "losses.jsonl").rmdir()
    assert directory.losses() == {}
    directory.tell_untold()
    directory.tell_untold()
    assert directory.losses() == {("traces", "disk full"): 3}


def test_the_lightest_goes_first_from_everywhere(tmp_path: Path, losses: Losses) -> None:
    """Over its size the spool drops other people's spans from all segments before one of ours."""
    directory = Directory(tmp_path / "spool", 3200, losses)
    directory.make()
    paths = [left_behind(directory, 0, 1, 2, size=400) for _ in range(3)]
    directory.make_room(list)
    kept = [Segment.adopt(path) for path in paths]
    assert [one and one.waiting for one in kept] == [2, 2, 2]
    assert losses == {"size cap": 3}
    assert directory.losses() == {("traces", "size cap"): 3}
    for one in kept:
        if one is not None:
            one.close()


def test_the_oldest_goes_first_among_equals(tmp_path: Path, losses: Losses) -> None:
    """Where all weigh the same, the oldest segments are emptied until the rest fits."""
    directory = Directory(tmp_path / "spool", 3200, losses)
    directory.make()
    paths = [left_behind(directory, 0, 0, 0, size=400) for _ in range(3)]
    directory.make_room(list)
    assert [path.exists() for path in paths] == [False, True, True]
    assert losses == {"size cap": 3}


def test_roots_go_last(tmp_path: Path, losses: Losses) -> None:
    """With room for next to nothing, what is left is the newest root."""
    directory = Directory(tmp_path / "spool", 1500, losses)
    directory.make()
    paths = [left_behind(directory, 0, 1, 2, size=400) for _ in range(3)]
    directory.make_room(list)
    assert directory.bytes <= 1500
    newest = Segment.adopt(paths[-1])
    assert newest is not None
    assert newest.waiting == 1
    newest.close()


def test_a_spool_below_its_size_is_left_alone(directory: Directory) -> None:
    """Nothing is dropped while there is room."""
    path = left_behind(directory, 0, 0)
    before = path.read_bytes()
    directory.make_room(list)
    assert path.read_bytes() == before


def test_what_the_living_hold_is_not_dropped(tmp_path: Path, losses: Losses) -> None:
    """A spool can be larger than it should while its segments are being written."""
    directory = Directory(tmp_path / "spool", 500, losses)
    directory.make()
    segment = Segment.create(directory.path, "traces")
    segment.add_item(SOURCE, bytes(900), 0)
    directory.make_room(lambda: [segment])
    assert (segment.waiting, losses) == (1, {})
    segment.close()


def test_the_directory_is_for_its_owner_alone(tmp_path: Path) -> None:
    """One that is made can be read by nobody else."""
    Directory(tmp_path / "a" / "spool", 1).make()
    assert (tmp_path / "a" / "spool").stat().st_mode & 0o777 == 0o700


def test_a_directory_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    """It may be there for something else; segments are their owner's in any."""
    path = tmp_path / "spool"
    path.mkdir(mode=0o755)
    path.chmod(0o755)
    directory = Directory(path, 1)
    directory.make()
    segment = Segment.create(path, "traces")
    assert path.stat().st_mode & 0o777 == 0o755
    assert segment.path.stat().st_mode & 0o777 == 0o600
    segment.close()


def test_a_directory_that_anybody_may_write_to_is_refused(tmp_path: Path) -> None:
    """Whoever could put a segment there would have it sent."""
    path = tmp_path / "spool"
    path.mkdir()
    path.chmod(0o777)
    with pytest.raises(SettingsError, match="chmod 700 it, or name another"):
        Directory(path, 1).make()


def test_files_without_locks_are_no_place_for_a_spool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some network filesystems have none: a dead process's segment could not be told."""

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr("otel_agents.spool.segment.fcntl.flock", no_locks)
    with pytest.raises(SettingsError, match="name a local directory"):
        Directory(tmp_path / "spool", 1).make()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make a directory another user's")
def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    """Who owns it could read and change what is in it."""
    path = tmp_path / "spool"
    path.mkdir()
    os.chown(path, 12345, -1)
    with pytest.raises(SettingsError, match="another user's: name a directory of your own"):
        Directory(path, 1).make()


def test_status_tells_what_is_there_without_touching_it(directory: Directory) -> None:
    """How much waits, how old it is, who holds it and what was lost."""
    dead = left_behind(directory, 0, 1)
    living = Segment.create(directory.path, "logs")
    living.add_item(SOURCE, b"x", 0)
    directory.lose("traces", "refused", 3)
    before = dead.read_bytes()
    found = directory.status()
    living.close()

    assert found["waiting"] == {"traces": 2, "metrics": 0, "logs": 1}
    assert [(one["signal"], one["alive"], one["items"]) for one in found["segments"]] == [
        ("traces", False, 2), ("logs", True, 1),
    ]  # fmt: skip
    assert found["segments"][0]["pid"] == os.getpid()
    assert 0 <= found["oldest_seconds"] < 600
    assert found["dropped"] == [{"signal": "traces", "reason": "refused", "count": 3}]
    assert dead.read_bytes() == before
    adopted = directory.adopt("traces")
    assert adopted is not None, "asking takes nothing away"
    adopted.close()


def test_an_empty_spool_has_no_oldest(directory: Directory) -> None:
    """Nothing waits, and nothing is old."""
    assert directory.status()["oldest_seconds"] is None


def test_a_process_that_is_killed_gives_its_segments_up(directory: Directory) -> None:
    """The kernel drops the lock with the process, at whatever moment it dies."""
    code = (
        "import sys, time; from pathlib import Path\n"
        "from otel_agents.spool.segment import Segment, Source\n"
        "segment = Segment.create(Path(sys.argv[1]), 'traces')\n"
        "segment.add_item(Source(b'r', '', b's', ''), b'mine', 0)\n"
        "print('held', flush=True); time.sleep(600)"
    )
    with subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-c", code, str(directory.path)], stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert directory.adopt("traces") is None
        child.kill()
    ends = time.monotonic() + 60
    while (segment := directory.adopt("traces")) is None:
        assert time.monotonic() < ends
    assert segment.read(10, 1000).items == [(Source(b"r", "", b"s", ""), b"mine")]
    segment.close()


def test_losses_of_many_at_once_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each writer is a process's: none loses a line to another, or to who sums the lines up."""
    monkeypatch.setattr(directory_module, "_MOST_LOSSES", 2000)
    writers = [Directory(tmp_path, 1) for _ in range(4)]

    def lose(writer: Directory) -> None:
        for _ in range(100):
            writer.lose("traces", "refused", 1)
        while writer._untold:
            writer.tell_untold()

    threads = [threading.Thread(target=lose, args=(one,)) for one in writers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert writers[0].losses() == {("traces", "refused"): 400}


def test_a_torn_line_of_losses_costs_no_other(tmp_path: Path) -> None:
    """A crash, or a full disk, may leave the beginning of one."""
    directory = Directory(tmp_path, 1)
    directory.lose("traces", "refused", 2)
    with (tmp_path / "losses.jsonl").open("ab") as file:
        file.write(b'{"time":1,"sig')
    directory.lose("traces", "refused", 3)
    assert directory.losses() == {("traces", "refused"): 5}


def test_losses_that_cannot_be_summed_up_count_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines are there already."""
    monkeypatch.setattr(directory_module, "_MOST_LOSSES", 0)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(Directory, "_sum_up", full)
    directory = Directory(tmp_path, 1)
    directory.lose("traces", "refused", 5)
    directory.tell_untold()
    assert directory.losses() == {("traces", "refused"): 5}


def test_what_a_crash_kept_from_replacing_a_segment_goes(tmp_path: Path, losses: Losses) -> None:
    """It counts as bytes of the spool, and is deleted when room is made."""
    directory = Directory(tmp_path, 100, losses)
    (tmp_path / "traces-1.new").write_bytes(bytes(200))
    assert directory.bytes == 200
    directory.make_room(list)
    assert not (tmp_path / "traces-1.new").exists()
    assert losses == {}


def test_what_cannot_be_listed_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that has no descriptor left goes on with the segments it has."""
    directory = Directory(tmp_path, 100)
    left_behind(directory, 0)

    def none_left(*_: object) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(Path, "iterdir", none_left)
    assert directory.names() == []
    assert directory.adopt("traces") is None
