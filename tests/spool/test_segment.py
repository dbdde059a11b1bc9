"""One segment: what is appended is read back, whatever a crash or a disk does to the file."""

from __future__ import annotations

import os
import resource
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_agents.spool.records import HEAD_BYTES, MAX_BODY, Spoiled, records
from otel_agents.spool.segment import Segment, Source, TooLargeError, name_of

A = Source(b"resource", "https://schema/1", b"scope a", "")
B = Source(b"resource", "https://schema/1", b"scope b", "https://schema/2")
C = Source(b"another", "", b"", "")

sources = st.sampled_from([A, B, C])
bodies = st.binary(max_size=300)
items = st.lists(st.tuples(sources, bodies, st.integers(0, 2)), max_size=30)


def filled(folder: Path, wanted: list[tuple[Source, bytes, int]]) -> Segment:
    segment = Segment.create(folder, "traces")
    for source, body, weight in wanted:
        segment.add_item(source, body, weight)
    return segment


def all_of(segment: Segment, most: int = 7) -> tuple[list[tuple[Source, bytes]], int]:
    """Read a segment to its end, in batches; return its items, and how many were lost."""
    found, lost = [], 0
    while not segment.done:
        batch = segment.read(most, 1 << 20)
        found += batch.items
        lost += batch.lost
        segment.acknowledge(batch)
    return found, lost


def adopted(path: Path) -> Segment:
    segment = Segment.adopt(path)
    assert segment is not None
    return segment


@given(items, st.integers(1, 40))
def test_what_is_appended_is_read_back_in_order(
    wanted: list[tuple[Source, bytes, int]], most: int
) -> None:
    """Items come back with their sources, however many are asked for at a time."""
    with tempfile.TemporaryDirectory() as folder:
        segment = filled(Path(folder), wanted)
        assert segment.waiting == len(wanted)
        found, lost = all_of(segment, most)
        assert segment.waiting == 0
        segment.close()
    assert (found, lost) == ([(source, body) for source, body, _ in wanted], 0)


@given(items, st.integers(0, 30))
def test_who_adopts_a_segment_goes_on_behind_what_was_acknowledged(
    wanted: list[tuple[Source, bytes, int]], sent: int
) -> None:
    """A process dies with some items acknowledged; another one reads exactly the others."""
    with tempfile.TemporaryDirectory() as folder:
        segment = filled(Path(folder), wanted)
        if sent and wanted:
            segment.acknowledge(segment.read(sent, 1 << 20))
        segment.close()
        other = adopted(segment.path)
        assert other.waiting == len(wanted[sent:])
        assert all_of(other) == ([(source, body) for source, body, _ in wanted[sent:]], 0)
        other.close()


def test_a_file_that_ends_anywhere_gives_all_that_was_whole(tmp_path: Path) -> None:
    """A crash cuts the file at each of its bytes: what stands before the cut is read, no more."""
    wanted = [(A, b"one", 0), (B, b"two", 0), (A, b"three", 0)]
    segment = filled(tmp_path, wanted)
    whole = segment.path.read_bytes()
    ends = [one.end for one in records(whole[HEAD_BYTES:], HEAD_BYTES)]
    kinds = [one.kind for one in records(whole[HEAD_BYTES:], HEAD_BYTES)]  # type: ignore[union-attr]
    segment.close(remove=True)
    for cut in range(len(whole)):
        segment.path.write_bytes(whole[:cut])
        other = adopted(segment.path)
        found, lost = all_of(other)
        before = sum(end <= cut and kind == 3 for end, kind in zip(ends, kinds, strict=True))
        assert found == [(source, body) for source, body, _ in wanted[:before]]
        assert lost == (cut > HEAD_BYTES and cut not in ends)
        other.close()


@given(items.filter(bool), st.data())
def test_a_flipped_bit_costs_what_it_hits_and_is_counted(
    wanted: list[tuple[Source, bytes, int]], data: st.DataObject
) -> None:
    """Nothing is read that was not written; what is missing is counted to the last item."""
    with tempfile.TemporaryDirectory() as folder:
        segment = filled(Path(folder), wanted)
        segment.close()
        content = bytearray(segment.path.read_bytes())
        place = data.draw(st.integers(8, len(content) - 1))
        content[place] ^= 1 << data.draw(st.integers(0, 7))
        segment.path.write_bytes(content)
        other = adopted(segment.path)
        found, lost = all_of(other)
        other.close()
    left = iter([(source, body) for source, body, _ in wanted])
    assert all(one in left for one in found), "in order, and written by us"
    assert len(found) + lost == len(wanted)


def test_a_segment_is_held_by_one(tmp_path: Path) -> None:
    """What a live writer holds cannot be adopted; once it lets go, one can, and no other."""
    segment = filled(tmp_path, [(A, b"x", 0)])
    assert Segment.adopt(segment.path) is None
    segment.close()
    first = adopted(segment.path)
    assert Segment.adopt(segment.path) is None
    first.close(remove=True)
    assert Segment.adopt(segment.path) is None


def test_what_is_no_segment_is_not_read(tmp_path: Path) -> None:
    """A file of another kind under a segment's name, and a link to one, are refused."""
    path = tmp_path / f"traces-{1:020d}-1-00000000.seg"
    path.write_bytes(b"hello, I am a text, and long enough")
    with pytest.raises(ValueError, match="no segment"):
        Segment.adopt(path)
    link = tmp_path / f"traces-{2:020d}-1-00000000.seg"
    link.symlink_to(path)
    with pytest.raises(OSError, match="symbolic"):
        Segment.adopt(link)


@pytest.mark.parametrize("name", ["x.seg", "traces-1-1-00000000.seg", f"spans-{1:020d}-1-0.seg"])
def test_names_of_others_are_no_segments(tmp_path: Path, name: str) -> None:
    """Only what looks like our name is a segment."""
    assert name_of(tmp_path / name) is None


@given(items, st.integers(0, 3))
def test_a_thinned_segment_has_what_weighs_enough(
    wanted: list[tuple[Source, bytes, int]], lightest: int
) -> None:
    """What is light goes and is counted, what was acknowledged goes silently; the rest is whole."""
    with tempfile.TemporaryDirectory() as folder:
        segment = filled(Path(folder), wanted)
        if wanted:
            segment.acknowledge(segment.read(1, 1 << 20))
        left = wanted[1:]
        kept = [one for one in left if one[2] >= lightest]
        least = min((weight for _, _, weight in kept), default=3)
        assert segment.thin(lightest) == (len(left) - len(kept), 0, least)
        assert all_of(segment) == ([(source, body) for source, body, _ in kept], 0)
        segment.close()


def test_a_thinned_segment_is_still_held(tmp_path: Path) -> None:
    """The smaller file that takes its place is locked before it has the name."""
    segment = filled(tmp_path, [(A, b"x", 0), (A, b"y", 2)])
    segment.thin(1)
    assert Segment.adopt(segment.path) is None
    segment.close()


def test_whole_requests_count_as_many_as_they_hold(tmp_path: Path) -> None:
    """A request of five items is one record and five items, delivered or lost."""
    segment = Segment.create(tmp_path, "metrics")
    segment.add_request(b"a" * 50, 5)
    segment.add_request(b"b" * 50, 7)
    segment.add_request(b"c" * 50, 1)
    assert segment.waiting == 13
    content = bytearray(segment.path.read_bytes())
    segment.close()
    content[content.index(b"bbb")] ^= 1
    segment.path.write_bytes(content)
    batch = adopted(segment.path).read(100, 1 << 20)
    assert (batch.requests, batch.total, batch.lost) == ([(5, b"a" * 50), (1, b"c" * 50)], 6, 7)


def test_a_program_that_makes_a_scope_each_time_costs_one_definition(tmp_path: Path) -> None:
    """Sources are told apart by what they are, not by which object says so."""
    segment = Segment.create(tmp_path, "traces")
    for _ in range(3000):
        segment.add(object(), object(), b"x", 0, lambda *_: A)
    kinds = [
        one.kind
        for one in records(segment.path.read_bytes()[HEAD_BYTES:], HEAD_BYTES)
        if not isinstance(one, Spoiled)
    ]
    assert (kinds.count(1), kinds.count(2), kinds.count(3)) == (1, 1, 3000)
    segment.close()


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """An item that the disk takes a part of is not there; the next one is, once there is room."""
    segment = filled(tmp_path, [(A, b"first", 0)])
    before = segment.path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for room in (0, 10):  # nothing of it fits, or a part
        resource.setrlimit(resource.RLIMIT_FSIZE, (segment.size + room, hard))
        try:
            with pytest.raises(OSError, match=r"large|part"):
                segment.add_item(A, b"x" * 100, 0)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert segment.path.read_bytes() == before
    segment.add_item(A, b"second", 0)
    assert all_of(segment) == ([(A, b"first"), (A, b"second")], 0)
    segment.close()


def test_an_item_that_no_receiver_takes_is_refused(tmp_path: Path) -> None:
    """More than 32 MiB in one item is an error, and the segment is as it was."""
    segment = filled(tmp_path, [(A, b"first", 0)])
    with pytest.raises(TooLargeError, match="more than a receiver takes"):
        segment.add_item(A, bytes(MAX_BODY + 1), 0)
    assert all_of(segment) == ([(A, b"first")], 0)
    segment.close()


def test_a_segment_is_for_its_owner_alone(tmp_path: Path) -> None:
    """What is in it may be confidential."""
    before = os.umask(0)
    try:
        segment = filled(tmp_path, [(A, b"x", 0)])
    finally:
        os.umask(before)
    assert segment.path.stat().st_mode & 0o777 == 0o600
    segment.close()
