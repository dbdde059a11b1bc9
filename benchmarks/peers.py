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
_RELEASE: Final = ("opentelemetry-sdk==1.45.1", "opentelemetry-instrumentation==0.66b1")
# All run on the same pydantic-ai as ours, so that only the instrumentation differs. The peers are
# pinned: without a version pip walks back for half an hour, to releases of years ago.
_REQUIREMENTS: Final = {
    "openinference": ("openinference-instrumentation-pydantic-ai==0.1.30",),
    "logfire": ("logfire==5.2.0",),
    "langfuse": ("langfuse==5.0.4",),
    # These two need other instrumentations of the same release, and not all have the newest.
    "openlit": ("openlit==1.45.0", *_RELEASE),
    "traceloop": ("traceloop-sdk==0.62.4", "httpx", *_RELEASE),
}
# openlit asks for the version of the distribution with all extras; nothing of it is needed.
_UNMET: Final = {"openlit": "pydantic-ai"}


def python(peer: str) -> Path | None:
    """Return the interpreter of a peer's environment, or None if it was not installed."""
    found = HOME / peer / "bin" / "python"
    return found if (HOME / peer / "installed").exists() else None


def install(peer: str) -> str:
    """Make a peer's environment; return what went wrong, in one line, or an empty text."""
    home = HOME / peer
    venv.create(home, with_pip=True, clear=True)
    same = f"pydantic-ai-slim=={metadata.version('pydantic-ai-slim')}"
    exporter = "opentelemetry-exporter-otlp-proto-http"
    wrong = _pip(home, same, exporter, *_REQUIREMENTS[peer])
    if not wrong and peer in _UNMET:
        wrong = _pip(home, "--no-deps", _UNMET[peer])
    if not wrong:
        (home / "installed").touch()
    return wrong


def _pip(home: Path, *arguments: str) -> str:
    command = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    done = subprocess.run(  # noqa: S603 - pip, with names from this repository
        [*command, "--disable-pip-version-check", *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if not done.returncode:
        return ""
    lines = done.stderr.splitlines() or ["pip failed"]
    return next((line for line in lines if line.startswith("ERROR")), lines[-1])


def own_python() -> Path:
    """Return the interpreter that runs this."""
    return Path(sys.executable)
