"""What a checkpoint of a large tree costs, beside what git itself takes to write such a tree.

    python benchmarks/checkpoint.py [--files 10000] [--rounds 7] [--quick] [--json FILE]

Each round makes a tree for each way, all alike, and takes the steps in it one after the other;
the ways take turns in being the first, so that a drift of the machine hits all alike. git's ways
are those that others build checkpoints of: `git add -A` with `git write-tree` in an index of its
own, and `git stash create`, which leaves untracked files out; both are new processes. Ours is a
call in a process that runs, and starts git as often as it needs. It makes a commit and a ref, too,
and its restore saves the tree first and can be undone; beside it stands `git read-tree -u --reset`
of a saved tree, which does neither. Figures are medians, and ratios those of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import machine
import report

from otel_agents.checkpoint.catalog import checkpoints
from otel_agents.checkpoint.record import About
from otel_agents.checkpoint.repository import Repository
from otel_agents.checkpoint.restore import restore
from otel_agents.checkpoint.snapshot import create

if TYPE_CHECKING:
    from collections.abc import Callable

_CHANGED: Final = 10
_FOLDER: Final = 100  # files in one folder
_BYTES: Final = 4_000  # of a file, on average
_STEPS: Final = {
    "first": "first time",
    "unchanged": "unchanged",
    "same": "unchanged, deduplicated",
    "changed": f"{_CHANGED} files changed",
    "restore": f"restore of {_CHANGED} files",
}
_OURS: Final = "otel-agents"
_ADD: Final = "git add -A && git write-tree"
_STASH: Final = "git stash create"
_COLUMNS: Final = (
    ("otel-agents ms", _OURS, ".1f"),
    (f"{_ADD} ms", _ADD, ".1f"),
    (f"{_STASH} ms", _STASH, ".1f"),
    ("x add", f"x {_ADD}", ".2f"),
    ("x stash", f"x {_STASH}", ".2f"),
)


class Tree:
    """A repository with so many files, half of them committed; all of one seed are alike."""

    def __init__(self, directory: Path, files: int, seed: int) -> None:
        self.root = directory / "repository"
        self.index = directory / "index"
        self.chance = random.Random(seed)  # noqa: S311 - the same files in every run
        self.paths = [
            self.root / f"package{number // _FOLDER:03}" / f"module{number % _FOLDER:02}.py"
            for number in range(files)
        ]
        for path in self.paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._content())
        self.tracked = [path for number, path in enumerate(self.paths) if number // _FOLDER % 2]
        self.git("init", "-q")
        self.git("config", "gc.auto", "0")
        self.git("add", *sorted({path.parent.name for path in self.tracked}))
        self.git("commit", "-q", "-m", "half of it")
        shutil.copy2(self.root / ".git/index", self.index)

    def git(self, *args: str, own_index: bool = False) -> str:
        """Run git with no settings but its own."""
        environment = {
            **os.environ, "HOME": str(self.root.parent), "GIT_CONFIG_NOSYSTEM": "1",
            **{f"GIT_{who}_NAME": "benchmark" for who in ("AUTHOR", "COMMITTER")},
            **{f"GIT_{who}_EMAIL": "benchmark@localhost" for who in ("AUTHOR", "COMMITTER")},
        }  # fmt: skip
        if own_index:
            environment["GIT_INDEX_FILE"] = str(self.index)
        done = subprocess.run(  # noqa: S603 - git, with words of ours
            ["git", *args],  # noqa: S607
            cwd=self.root,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def change(self) -> None:
        """Edit files of the committed half, so that a stash sees them too."""
        for path in self.chance.sample(self.tracked, _CHANGED):
            path.write_bytes(self._content())

    def add(self) -> str:
        """Write the tree as git does it, with an index of its own."""
        self.git("add", "-A", own_index=True)
        return self.git("write-tree", own_index=True)

    def _content(self) -> bytes:
        """Return a file of some thousand bytes that compresses as source code does."""
        chance = self.chance
        size = chance.randint(_BYTES // 2, _BYTES * 3 // 2)
        lines = [f"value_{chance.getrandbits(40):x} = {chance.random()}" for _ in range(9)]
        text = "\n".join(chance.choices(lines, k=size // 30))
        return text.encode().ljust(size, b"#")[:size]


Steps = dict[str, float]


def _milliseconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return (time.perf_counter() - begun) * 1e3


def ours(tree: Tree) -> Steps:
    """Take the steps with checkpoints; the first and last trees are checked by git."""
    found = Repository.find(tree.root)

    def save(*, deduplicate: bool = False) -> object:
        return create(found, About(), max_seconds=None, deduplicate=deduplicate)

    took = {
        "first": _milliseconds(save),
        "unchanged": _milliseconds(save),
        "same": _milliseconds(lambda: save(deduplicate=True)),
    }
    assert len(checkpoints(found)) == 2
    before = tree.add()
    tree.change()
    took["changed"] = _milliseconds(save)
    saved = checkpoints(found)[1].id
    took["restore"] = _milliseconds(lambda: restore(found, saved))
    assert tree.add() == before
    return took


def added(tree: Tree) -> Steps:
    """Take them with `git add -A` and `git write-tree` in an index of its own."""
    took = {"first": _milliseconds(tree.add), "unchanged": _milliseconds(tree.add)}
    before = tree.add()
    tree.change()
    took["changed"] = _milliseconds(tree.add)
    took["restore"] = _milliseconds(
        lambda: tree.git("read-tree", "-u", "--reset", before, own_index=True)
    )
    assert tree.add() == before
    return took


def stashed(tree: Tree) -> Steps:
    """Take those that `git stash create` has, which leaves untracked files out."""
    tree.git("status")  # after which the index knows that its files are unchanged
    took = {"unchanged": _milliseconds(lambda: tree.git("stash", "create"))}
    tree.change()
    took["changed"] = _milliseconds(lambda: tree.git("stash", "create"))
    return took


_WAYS: Final = {_OURS: ours, _ADD: added, _STASH: stashed}


def one_round(number: int, files: int) -> tuple[dict[str, Steps], int]:
    """Let each way take its steps in a tree of its own; return the times, and the tree's size."""
    ways = list(_WAYS)
    took, size = {}, 0
    for way in ways[number % len(ways) :] + ways[: number % len(ways)]:
        with tempfile.TemporaryDirectory(prefix="otel-agents-bench-") as path:
            tree = Tree(Path(path), files, seed=number)
            size = sum(file.stat().st_size for file in tree.paths)
            took[way] = _WAYS[way](tree)
    return took, size


def _row(step: str, rounds: list[dict[str, Steps]]) -> dict[str, Any]:
    """Return the medians of a step, and of its ratios."""
    row: dict[str, Any] = {"label": _STEPS[step]}
    for way in _WAYS:
        if all(step in one[way] for one in rounds):
            row[way] = statistics.median(one[way][step] for one in rounds)
            row[f"x {way}"] = statistics.median(one[_OURS][step] / one[way][step] for one in rounds)
        else:
            row[way] = row[f"x {way}"] = None
    return row


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="3 rounds")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    given = parser.parse_args()
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        del os.environ[name]
    about = machine.described()
    about["git"] = subprocess.run(
        ["git", "--version"],  # noqa: S607
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    about["disk"] = report.disk()
    rounds = []
    size = 0
    for number in range(3 if given.quick else given.rounds):
        report.progress(f"round {number + 1}")
        took, size = one_round(number, given.files)
        rounds.append(took)
    report.progress("")
    rows = {step: _row(step, rounds) for step in _STEPS}
    for name, value in about.items():
        print(f"{name}: {value}")
    print(f"tree: {given.files:,} files of {size / 1e6:.0f} MB, half of them untracked")
    print(f"rounds: {len(rounds)}; medians; x is ours over git's, below 1 is faster\n")
    report.table("a checkpoint", _COLUMNS, rows.values())
    if given.json:
        given.json.write_text(json.dumps({"machine": about, "rows": rows, "rounds": rounds}))


if __name__ == "__main__":
    main()
