"""What was ignored when a checkpoint was taken, where the rules have changed since.

An agent that removes a `.gitignore` makes work of what was none: `.env`, a folder of packages. The
checkpoint does not have these files, and yet they were there; a restore brings back the rules, and
leaves alone what they ignore.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otel_agents.checkpoint.blobs import content, contents

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_agents.checkpoint.repository import Repository
    from otel_agents.checkpoint.stored import Wanted
    from otel_agents.checkpoint.tree import Tree

_RULES: Final = b".gitignore"


def ignored_then(
    repository: Repository, now: Tree, then: Mapping[bytes, Wanted]
) -> frozenset[bytes]:
    """Return the paths of a tree that the rules of another would ignore, which has them not."""
    rules = {path: one.id for path, one in then.items() if _is_rules(path, one.mode)}
    if rules == {path: one.id for path, one in now.files.items() if _is_rules(path, one.mode)}:
        return frozenset()
    new = [path for path in now.files if path not in then]
    if not new:
        return frozenset()
    with tempfile.TemporaryDirectory(prefix="otel-agents-") as folder:
        with contents(repository, rules.values()) as stream:
            for path in rules:
                place = Path(folder, os.fsdecode(path))
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(b"".join(content(stream, path)))
        found = repository.run(
            "check-ignore", "-z", "--stdin", "--no-index",
            stdin=b"".join(b"./" + path + b"\0" for path in new),
            environment={"GIT_WORK_TREE": folder},
            fine=(0, 1),
        )[0]  # fmt: skip
    return frozenset(path.removeprefix(b"./") for path in found.split(b"\0")[:-1])


def _is_rules(path: bytes, mode: int) -> bool:
    return path.rpartition(b"/")[2] == _RULES and stat.S_ISREG(mode)
