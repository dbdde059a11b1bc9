"""Following a workspace's files while they are written, rotated and cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from otel_agents.cli.follow import Follower
from otel_agents.workspace import Workspace, create

from state.build import shop  # isort: skip

if TYPE_CHECKING:
    from pathlib import Path

LINES = shop().lines().splitlines(keepends=True)
IDS = [signal.id for signal in shop().signals]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return create(tmp_path)[0]


def append(workspace: Workspace, *lines: bytes) -> None:
    with workspace.signals.open("ab") as file:
        file.write(b"".join(lines))


def test_only_what_is_new_is_read(workspace: Workspace) -> None:
    """From no file at all to one that grows."""
    follower = Follower(workspace)
    seen = [[signal.id for signal in follower.new()]]
    for part in (LINES[:3], LINES[3:4], []):
        append(workspace, *part)
        seen.append([signal.id for signal in follower.new()])

    assert seen == [[], IDS[:3], IDS[3:4], []]


def test_a_line_being_written_is_read_when_it_is_whole(workspace: Workspace) -> None:
    """Half a line is nothing yet."""
    follower = Follower(workspace)
    append(workspace, LINES[0], LINES[1][:20])
    assert [signal.id for signal in follower.new()] == IDS[:1]

    append(workspace, LINES[1][20:])
    assert [signal.id for signal in follower.new()] == IDS[1:2]


def test_rotation_loses_nothing_and_repeats_nothing(workspace: Workspace) -> None:
    """Twice between two looks, with lines written before and after each."""
    follower = Follower(workspace)
    append(workspace, *LINES[:2])
    seen = [signal.id for signal in follower.new()]
    append(workspace, *LINES[2:3])
    workspace.signals.rename(workspace.rotated(1))
    append(workspace, *LINES[3:5])
    workspace.signals.rename(workspace.rotated(2))
    append(workspace, *LINES[5:])
    seen += [signal.id for signal in follower.new()]

    assert seen == IDS


def test_a_file_that_was_cut_is_read_anew(workspace: Workspace) -> None:
    """Folds do not mind what they see again."""
    follower = Follower(workspace)
    append(workspace, *LINES[:4])
    assert len(list(follower.new())) == 4

    workspace.signals.write_bytes(LINES[5])
    assert [signal.id for signal in follower.new()] == IDS[5:6]
