"""What the tests of the Compose file need: Docker's Compose, and the schema of its specification.

Compose reads and resolves a file without any container engine. Both come from Go modules, compared
with the sums they had when they were chosen, and stand in the cache by version.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COMPOSE_MODULE = "github.com/docker/compose/v5"
COMPOSE_VERSION = "5.5.1"
COMPOSE_SUM = "h1:saWlMxB0tfQ+FVUlWGIUjLvR0jF5cfTU18KI5zKLD/M="

# The one that this Compose is built with; the specification's schema is a file in it.
SPECIFICATION_MODULE = "github.com/compose-spec/compose-go/v2"
SPECIFICATION_VERSION = "2.15.0"
SPECIFICATION_SUM = "h1:tdQw+eMyT+P6ZIb09JfcIVvbMmIa+PjST7cWezVLf00="


def programs(cache: Path) -> dict[str, Path | None]:
    """Return Compose and the schema by name, None for what is not in the cache."""
    wanted = {"docker-compose": _compose(cache), "compose-spec": _schema(cache)}
    return {name: path if path.is_file() else None for name, path in wanted.items()}


def make(
    work: Path,
    cache: Path,
    *,
    module: Callable[[str, str, str], Path],
    build: Callable[..., None],
) -> None:
    """Fetch the schema and build Compose into the cache.

    Args:
        work: a folder of our own on the cache's file system.
        cache: the folder that holds the programs.
        module: fetches a Go module, by path, version and sum, and returns its folder.
        build: compiles a package of a module's folder to a program's path; more words are flags.
    """
    specification = module(SPECIFICATION_MODULE, SPECIFICATION_VERSION, SPECIFICATION_SUM)
    shutil.copyfile(specification / "schema" / "compose-spec.json", work / "compose-spec.json")
    _place(work / "compose-spec.json", _schema(cache))
    # In its module's own folder, since `go install` refuses its `exclude` directives.
    sources = module(COMPOSE_MODULE, COMPOSE_VERSION, COMPOSE_SUM)
    version = f"-s -w -X {COMPOSE_MODULE}/internal.Version=v{COMPOSE_VERSION}"
    build("./cmd", sources, work / "docker-compose", "-ldflags", version)
    _place(work / "docker-compose", _compose(cache))


def _compose(cache: Path) -> Path:
    return cache / f"compose-{COMPOSE_VERSION}" / "docker-compose"


def _schema(cache: Path) -> Path:
    return cache / f"compose-spec-{SPECIFICATION_VERSION}" / "compose-spec.json"


def _place(made: Path, target: Path) -> None:
    """Move what is finished to its place in one step, so that half of it is never found."""
    target.parent.mkdir(parents=True, exist_ok=True)
    made.replace(target)
