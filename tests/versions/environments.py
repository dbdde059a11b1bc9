"""Environments with other versions than the one that tests run in, cached outside the repository.

`python -m tests.versions.environments` builds those that are missing: some ten seconds each with
pip's cache, half a minute each without.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from hashlib import sha256
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
# What the library needs to run agents; the command line's packages are left out.
NEEDED: Final = (
    "opentelemetry-api", "opentelemetry-sdk", "opentelemetry-instrumentation", "wrapt", "msgspec",
    "genai-prices",
)  # fmt: skip
# The lower end of every range that pyproject.toml declares.
OLDEST: Final = (
    "opentelemetry-api==1.40.0", "opentelemetry-sdk==1.40.0",
    "opentelemetry-instrumentation==0.61b0", "wrapt==1.17.3", "msgspec==0.19.0",
)  # fmt: skip

ENVIRONMENTS: Final[dict[str, tuple[str, ...]]] = {
    "oldest": ("pydantic-ai-slim==1.75.0", "genai-prices==0.1.0", *OLDEST),
    "1.75": ("pydantic-ai-slim==1.75.0", *NEEDED),
    "1.107": ("pydantic-ai-slim==1.107.10", *NEEDED),
    "2.0": ("pydantic-ai-slim==2.0.0", *NEEDED),
    "2.30": ("pydantic-ai-slim==2.30.0", *NEEDED),
    "newest-on-oldest": ("pydantic-ai-slim==2.68.0", "genai-prices", *OLDEST),
}


def path_of(name: str) -> Path:
    """Return where an environment is, or would be."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    made_of = repr((sys.version_info[:2], ENVIRONMENTS[name]))
    return (
        cache / "otel-agents" / "versions" / f"{name}-{sha256(made_of.encode()).hexdigest()[:12]}"
    )


def python_of(path: Path) -> Path:
    """Return an environment's interpreter."""
    return path / "bin" / "python"


def build(name: str) -> Path:
    """Return an environment, made if it is not there."""
    path = path_of(name)
    ready = path / "ready"
    if ready.exists():
        return path
    shutil.rmtree(path, ignore_errors=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    venv.create(path, with_pip=False)
    pip = [sys.executable, "-m", "pip", "--python", python_of(path), "--quiet"]
    install = ["install", "--disable-pip-version-check", *ENVIRONMENTS[name]]
    subprocess.run([*pip, *install], check=True)  # noqa: S603 - our own list
    ready.touch()
    return path


if __name__ == "__main__":
    for name in ENVIRONMENTS:
        sys.stdout.write(f"{name}: {build(name)}\n")
