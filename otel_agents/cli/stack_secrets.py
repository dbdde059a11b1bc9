"""The secrets of the stack in containers: `python -m otel_agents.cli.stack_secrets DIR`.

Compose runs it once before all else, with a volume for each folder, so that a service sees only the
secrets it needs:

    admin/{token,ingest_token,viewer_token}   the otel-agents server
    ingest/ingest_token                       who sends to it: the collector, Alertmanager
    view/viewer_token                         who reads from it: Prometheus
    grafana/grafana_password                  Grafana

A secret that is there is left as it is. Files can be read by everyone: the services have different
users, and what keeps others out is that they do not mount the volume.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

# Each secret, and where it stands: in the first place it is made, in the others it is a copy.
PLACES: Final = {
    "token": ("admin",),
    "ingest_token": ("admin", "ingest"),
    "viewer_token": ("admin", "view"),
    "grafana_password": ("grafana",),
}
_BYTES: Final = 32  # as many as secrets.token_urlsafe takes by itself
_MODE: Final = 0o444


def make(root: Path) -> list[str]:
    """Make the secrets that are not there; return their names.

    Args:
        root: The folder with a folder for each group.

    Raises:
        OSError: A folder cannot be written to.

    """
    new = []
    for name, (home, *copies) in PLACES.items():
        original = root / home / name
        if _read(original) is None:
            _write(original, secrets.token_urlsafe(_BYTES))
            new.append(name)
        for place in copies:
            copy = root / place / name
            if _read(copy) != _read(original):
                _write(copy, _read(original) or "")
    return new


def read(root: Path, name: str) -> str:
    """Return a secret.

    Raises:
        FileNotFoundError: It has not been made.

    """
    found = _read(root / PLACES[name][0] / name)
    if found is None:
        raise FileNotFoundError(name)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the secrets, and print one where it is asked for; return the exit code."""
    parser = argparse.ArgumentParser(prog="stack_secrets", description="Make the stack's secrets.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--print", dest="printed", choices=PLACES, help="a secret to print")
    asked = parser.parse_args(arguments)
    try:
        new = make(asked.directory)
        if asked.printed:
            sys.stdout.write(f"{read(asked.directory, asked.printed)}\n")
        else:
            sys.stdout.write(f"made: {', '.join(new) or 'nothing, all are there'}\n")
    except OSError as error:
        sys.stderr.write(f"The secrets cannot be kept in {asked.directory}: {error}.\n")
        return 1
    return 0


def _read(path: Path) -> str | None:
    """Return what is in a file; an empty one counts as none."""
    try:
        return path.read_text(encoding="ascii").strip() or None
    except FileNotFoundError:
        return None


def _write(path: Path, secret: str) -> None:
    """Put a secret in its place in one step: who reads it finds all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, made = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secret)
            os.fchmod(file.fileno(), _MODE)
            file.flush()
            os.fsync(file.fileno())
        Path(made).replace(path)
    except BaseException:
        Path(made).unlink(missing_ok=True)
        raise


if __name__ == "__main__":
    sys.exit(main())
