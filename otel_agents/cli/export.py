"""`otel-agents events --export html`: a run as one file that needs nothing else."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from otel_agents.cli.envelope import OK, print_data
from otel_agents.errors import InvalidInputError, UnavailableError
from otel_agents.text import visible

if TYPE_CHECKING:
    from otel_agents.cli.reader import Reader

_STANDARD_OUTPUT: Final = "-"
_PART_OF_NAME: Final = 60  # characters of the run's id
# What `pip install otel-agents` leaves away.
_EXTRA: Final = frozenset({"jinja2", "markupsafe", "starlette"})


def export(source: Reader, run_id: str | None, output: str | None, *, as_json: bool) -> int:
    """Write a run, by default the one that started last, to a file or to standard output."""
    if as_json and output == _STANDARD_OUTPUT:
        message = "--json says where the file is: give it a file, or leave --json away."
        raise InvalidInputError(message, parameter="output")
    try:
        from otel_agents.cli.export_page import page_of
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        message = "An export needs more packages: pip install 'otel-agents[server]'."
        raise UnavailableError(message) from error
    run = source.run(run_id or source.report().id)
    text = page_of(source, run).encode()
    if output == _STANDARD_OUTPUT:
        sys.stdout.buffer.write(text)
        sys.stdout.flush()
        return OK
    path = Path(output) if output else Path(name_of(run["run_id"]))
    _write(path, text)
    if as_json:
        print_data({"file": str(path.absolute()), "run_id": run["run_id"], "bytes": len(text)})
    else:
        click.echo(visible(f"{path} ({len(text) / 1024:,.0f} KiB)"))
    return OK


def name_of(run_id: str) -> str:
    """Return the name of the file for a run, whatever is in its id."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", run_id).strip("-")[:_PART_OF_NAME]
    return f"otel-agents-{plain or 'run'}.html"


def _write(path: Path, text: bytes) -> None:
    """Write a file as a whole or not at all."""
    handle, made = tempfile.mkstemp(prefix=f".{path.name[:40]}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text)
        mask = os.umask(0)
        os.umask(mask)
        Path(made).chmod(0o666 & ~mask)  # as an ordinary file: it is there to be shared
        Path(made).replace(path)
    except BaseException:
        Path(made).unlink(missing_ok=True)
        raise
