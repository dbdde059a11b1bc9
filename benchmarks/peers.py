"""The peers' environments: one a peer, outside the repository, kept between runs."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path
from typing import Final

HOME: Final = (
    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "otel-agents" / "bench"
)
# All run on the same pydantic-ai and SDK as ours, so that only the instrumentation differs.
_SAME: Final = (
    "pydantic-ai-slim", "opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http",
)  # fmt: skip


def python(peer: str) -> Path | None:
    """Return the interpreter of a peer's environment, or None if it was not installed."""
    found = HOME / peer / "bin" / "python"
    return found if (HOME / peer / "installed").exists() else None


def install(peer: str, distribution: str) -> str:
    """Make a peer's environment; return what went wrong, in one line, or an empty text."""
    home = HOME / peer
    venv.create(home, with_pip=True, clear=True)
    same = [f"{name}=={metadata.version(name)}" for name in _SAME]
    command = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    command += ["--disable-pip-version-check", *same, distribution]
    done = subprocess.run(  # noqa: S603 - pip, with names from this repository
        command, capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        return (lines or done.stderr.splitlines() or ["pip failed"])[0]
    (home / "installed").touch()
    return ""


def own_python() -> Path:
    """Return the interpreter that runs this."""
    return Path(sys.executable)
