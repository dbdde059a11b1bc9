"""Where the files of the stack are: in the checkout, or laid out of the installed package.

The package brings them along as data. Compose mounts them by path and the user's settings stand
beside them, so they are copied into `stack/` of the workspace, and again when the version changes;
an `.env` that is there is the user's.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otel_agents.version import __version__

if TYPE_CHECKING:
    from otel_agents.workspace import Workspace

COMPOSE_FILE: Final = "docker-compose.yml"
ENV_FILE: Final = ".env"
PACKAGED: Final = Path(__file__).parent.parent / "_stack"
CHECKOUT: Final = Path(__file__).parent.parent.parent
_FOLDER: Final = "stack"
_VERSION: Final = ".version"
# The user's, beside the settings: what Compose merges over the file by itself.
_OVERRIDES: Final = ("docker-compose.override.yml", "docker-compose.override.yaml")


def in_checkout() -> Path | None:
    """Return the checkout that this package runs from, or None where it is installed."""
    if PACKAGED.is_dir():
        return None
    return CHECKOUT if (CHECKOUT / COMPOSE_FILE).is_file() else None


def laid_out(workspace: Workspace) -> Path | None:
    """Return the folder of the stack in a workspace, or None where there is none."""
    folder = workspace.path / _FOLDER
    return folder if (folder / COMPOSE_FILE).is_file() else None


def lay_out(workspace: Workspace) -> Path:
    """Make the folder of the stack in a workspace what this version brings; return it.

    Raises:
        OSError: It cannot be written.

    """
    folder = workspace.path / _FOLDER
    version = folder / _VERSION
    if version.is_file() and version.read_text(encoding="utf-8") == __version__:
        return folder
    brought = {path.relative_to(PACKAGED) for path in PACKAGED.rglob("*") if path.is_file()}
    mine = {Path(name) for name in (ENV_FILE, *_OVERRIDES)}
    for name in sorted(brought):
        target = folder / name
        if name in mine and target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PACKAGED / name, target)
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if path.is_file() and name not in brought | mine | {Path(_VERSION)}:
            path.unlink()  # of another version: a rule or dashboard that is no more
        elif name not in mine:
            # Whatever the user's umask: the containers read them as users of their own.
            path.chmod(0o755 if path.is_dir() else 0o644)
    version.write_text(__version__, encoding="utf-8")
    return folder
