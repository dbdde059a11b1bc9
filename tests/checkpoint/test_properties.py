"""Any tree, any change: a checkpoint gives it back to the last bit, and its undo the other."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_agents.checkpoint.record import About
from otel_agents.checkpoint.repository import Repository
from otel_agents.checkpoint.restore import restore
from otel_agents.checkpoint.snapshot import create

from .conftest import picture
from .real import Repo, isolate

# Few names, so that files, folders and links meet in the same places; most of them odd.
NAMES: Final = [
    b"a", b"b", b"c d", b"-n", b'q"\\', b"l\nf\tt", b"\xff\xfe", "ü".encode(), b":(top)x", b"*.py",
    b"~", b"HEAD", b"#", b"\x01", b"n" * 200,
]  # fmt: skip
PATHS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).map(b"/".join)
FILES = st.tuples(
    st.just("file"), PATHS, st.binary(max_size=40),
    st.sampled_from([0o644, 0o755, 0o600, 0o664, 0o700, 0o400]),
)  # fmt: skip
LINKS = st.tuples(st.just("link"), PATHS, st.sampled_from([*NAMES, b"../..", b"/etc", b"a/b"]))
STEPS = st.one_of(
    FILES,
    LINKS,
    st.tuples(st.just("delete"), PATHS),
    st.tuples(st.just("move"), PATHS, PATHS),
    st.tuples(st.just("mode"), PATHS, st.sampled_from([0o644, 0o755, 0o600, 0o711])),
    st.tuples(st.just("stage")),
)
ROUNDS: Final = 40


def take(repo: Repo, step: tuple[object, ...]) -> None:
    """Do one thing that an agent may do; what is in the way is removed."""
    kind, *rest = step
    root = os.fsencode(repo.path)
    if kind == "stage":
        repo.git("add", "-A", check=False)
        return
    path = root + b"/" + rest[0]
    if kind in {"file", "link"}:
        clear(root, rest[0])
        if kind == "link":
            os.symlink(rest[1], path)  # noqa: PTH211
            return
        with open(path, "wb") as file:  # noqa: PTH123
            file.write(rest[1])
        os.chmod(path, rest[2])  # noqa: PTH101
    elif real(root, rest[0]):
        if kind == "delete":
            remove(path)
        elif kind == "mode":
            if not os.path.islink(path):  # noqa: PTH114
                os.chmod(path, rest[1] | (0o100 if os.path.isdir(path) else 0))  # noqa: PTH101, PTH112
        elif not (rest[1] + b"/").startswith(rest[0] + b"/"):
            part = root + b"/.git/moved"
            os.rename(path, part)  # noqa: PTH104
            clear(root, rest[1])
            os.rename(part, root + b"/" + rest[1])  # noqa: PTH104


def real(root: bytes, path: bytes) -> bool:
    """Say whether a path is there, and not behind a link."""
    parts = path.split(b"/")
    folders = (root + b"/" + b"/".join(parts[:end]) for end in range(1, len(parts)))
    inside = not any(os.path.islink(one) for one in folders)  # noqa: PTH114
    return inside and os.path.lexists(root + b"/" + path)


def clear(root: bytes, path: bytes) -> None:
    """Make the folders of a path, and remove what is in its place and theirs."""
    here = root
    *folders, name = path.split(b"/")
    for folder in folders:
        here += b"/" + folder
        if os.path.islink(here) or not os.path.isdir(here):  # noqa: PTH112, PTH114
            remove(here)
            os.mkdir(here)  # noqa: PTH102
    remove(here + b"/" + name)


def remove(path: bytes) -> None:
    if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114
        shutil.rmtree(path)
    else:
        with suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108


@pytest.fixture
def template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a place for repositories; each round has one of its own."""
    isolate(tmp_path, monkeypatch)
    (tmp_path / "rounds").mkdir()
    return tmp_path / "rounds"


@settings(
    max_examples=ROUNDS,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(first=st.lists(STEPS, max_size=12), then=st.lists(STEPS, max_size=12))
def test_any_tree_comes_back_to_the_last_bit(
    template: Path, first: list[tuple[object, ...]], then: list[tuple[object, ...]]
) -> None:
    """Bytes, modes and links' targets: as they were at the checkpoint, and then as changed."""
    repo = Repo(Path(tempfile.mkdtemp(dir=template)))
    repo.git("init", "-q", "--template=")
    for step in first:
        take(repo, step)
    before = picture(repo.path)
    found = Repository.find(repo.path)

    saved = create(found, About())
    for step in then:
        take(repo, step)
    after = picture(repo.path)
    said = {change.path for change in restore(found, saved.id, dry_run=True).changed}
    done = restore(found, saved.id)

    assert picture(repo.path) == before
    assert {change.path for change in done.changed} == said
    assert done.undo_id is not None
    restore(found, done.undo_id)
    assert picture(repo.path) == after
    shutil.rmtree(repo.path)
