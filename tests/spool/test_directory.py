"""The directory: adoption, what is dropped first, losses that are counted, what is set aside."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from otel_agents.errors import SettingsError
from otel_agents.spool.directory import Directory
from otel_agents.spool.segment import Segment, Source

if TYPE_CHECKING:
    from pathlib import Path

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
    """Even if it was there before, and open to all."""
    path = tmp_path / "spool"
    path.mkdir(mode=0o777)
    path.chmod(0o777)
    Directory(path, 1).make()
    assert path.stat().st_mode & 0o777 == 0o700


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
