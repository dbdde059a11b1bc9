"""A restore killed fifty times: the tree is before or after, never between, and undo works."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from otel_agents.checkpoint import catalog, journal
from otel_agents.checkpoint.restore import recover, restore

from .conftest import Picture, picture, untouched

if TYPE_CHECKING:
    from .real import Repo

KILLS: Final = 50
FILES: Final = 200

RESTORES: Final = """
import os, sys
from pathlib import Path
from otel_agents.checkpoint.repository import Repository
from otel_agents.checkpoint.restore import restore
found = Repository.find(Path(sys.argv[1]))
for line in sys.stdin:
    child = os.fork()
    if not child:
        restore(found, line.strip())
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


def fill(repo: Repo, turn: int) -> None:
    """Write a tree that has another content, other names, kinds and modes each turn."""
    for number in range(FILES):
        folder = f"d{number % 20}"
        repo.write(f"{folder}/same{number}", f"{turn} {number}\n" * 20)
        if number % 4 == turn:
            repo.write(f"{folder}/only{turn}/{number}", f"{turn}\n")
    repo.write("kind" if turn else "kind/inside", f"{turn}\n")
    repo.write("mode", "mode\n", executable=not turn)
    (repo.path / "to").symlink_to(f"{turn}")


class Restorer:
    """A process with a child for each restore, which is killed at a moment or ends by itself."""

    def __init__(self, repo: Repo) -> None:
        self._state = repo.path / ".git/otel-agents"
        self._process = subprocess.Popen(  # noqa: S603 - the program above
            [sys.executable, "-c", RESTORES, str(repo.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()

    def restore(self, identity: str, moment: str = "", after: float = 60.0) -> float:
        """Restore, kill it so many seconds after a file of ours is there; return the seconds."""
        process, begun = self._process, time.monotonic()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(identity + "\n")
        process.stdin.flush()
        child = int(process.stdout.readline())
        while moment and not os.path.lexists(self._state / moment):
            if time.monotonic() > begun + 30 or self._ended():
                break
        self._ended(after)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        process.stdout.readline()
        return time.monotonic() - begun

    def _ended(self, seconds: float = 0.0) -> bool:
        return bool(select.select([self._process.stdout], [], [], seconds)[0])


def test_a_restore_killed_at_any_moment_is_before_or_after(repo: Repo) -> None:
    """Fifty kill -9, spread over saving, staging and the steps: never between, and undo works."""
    states: dict[str, Picture] = {}
    for turn in (0, 1):
        repo.git("rm", "-rfq", ".", check=False)
        repo.git("clean", "-fdxq")
        fill(repo, turn)
        states[repo.checkpoint(str(turn)).id] = picture(repo.path)
    there, here = states
    outside = untouched(repo)
    chance = random.Random(7)  # noqa: S311
    met = {"staging": 0, "stepping": 0, "before": 0, "after": 0}
    restorer = Restorer(repo)
    try:
        whole = restorer.restore(there)
        assert picture(repo.path) == states[there]
        for turn in range(KILLS):
            there, here = here, there
            moment = ("", "staged", "journal")[turn % 3]
            restorer.restore(there, moment, chance.random() * whole * (0.1 if moment else 1.0))

            state = repo.path / ".git/otel-agents"
            met["stepping"] += (state / "journal").exists()
            met["staging"] += (state / "staged").exists() and not (state / "journal").exists()
            recover(repo.found)

            now = picture(repo.path)
            assert now in (states[there], states[here])
            assert not journal.pending(repo.found)
            if now == states[here]:
                met["before"] += 1
                there, here = here, there
            else:
                met["after"] += 1
                if turn % 4 == 1:
                    undo = next(
                        one for one in catalog.checkpoints(repo.found) if one.undo_of == there
                    )
                    restore(repo.found, undo.id)
                    assert picture(repo.path) == states[here]
                    there, here = here, there
    finally:
        restorer.end()
    assert untouched(repo) == outside
    assert min(met.values()) > 0, met
    repo.git("fsck", "--connectivity-only")
