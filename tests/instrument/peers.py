"""Other instrumentations of the same calls, kept apart from the environment that tests run in.

An installed one would be loaded by every test of `opentelemetry-instrument`. So they are in a
folder of their own, outside the repository, which these tests alone put on their path. In CI it is
made where it is missing (one second); elsewhere the tests are skipped with a reason.
"""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

PACKAGES = (
    "openinference-instrumentation==0.1.72",
    "openinference-instrumentation-openai==0.1.66",
    "openinference-instrumentation-pydantic-ai==0.1.30",
    "openinference-semantic-conventions==0.1.42",
    "opentelemetry-instrumentation-genai-openai==1.3b0",
    "opentelemetry-util-genai==1.3b0",
)


def folder() -> Path:
    """Return where this set of packages is, or would be."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "otel-agents" / f"peers-{sha256(repr(PACKAGES).encode()).hexdigest()[:12]}"


def make(path: Path) -> None:
    """Install the packages into a folder, without what they need: that is here already."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-deps", "--target", fresh, *PACKAGES], check=True)  # noqa: S603
    try:
        fresh.rename(path)
    except OSError:  # another worker was faster
        shutil.rmtree(fresh)


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put the other instrumentations on the path."""
    path = folder()
    if not path.exists():
        if not os.environ.get("CI"):
            pytest.skip(f"no other instrumentations in {path}: set CI=true to have them installed")
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path)
    monkeypatch.syspath_prepend(str(path))
    importlib.invalidate_caches()
    yield
    for name in [name for name in sys.modules if name.startswith("openinference")]:
        del sys.modules[name]
