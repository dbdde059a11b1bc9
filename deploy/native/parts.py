"""What the native stack is made of, at which versions, and where its programs are.

Programs stand in a cache by version, outside the repository, so that every checkout on a machine
shares them: `OTEL_AGENTS_STACK_CACHE`, else `otel-agents/stack` below `XDG_CACHE_HOME`, else below
`~/.cache`.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

DEPLOY = Path(__file__).resolve().parent.parent
COLLECTOR_SOURCES = tuple(DEPLOY / "collector" / n for n in ("builder.yaml", "go.mod", "go.sum"))

# Jaeger 1.76.0 and 2.13.0 are one release; its 2.x tags cannot be had as Go modules, since the
# module's path has no /v2. The sum is Go's own hash of the module, compared before it is built.
JAEGER_MODULE = "github.com/jaegertracing/jaeger"
JAEGER_MODULE_VERSION = "1.76.0"
JAEGER_MODULE_SUM = "h1:sWCOOF1dr+NL0PLil7mFo3BqqQL8k4WiM7aguFbc14g="
JAEGER_VERSION = "2.13.0"


@dataclass(frozen=True)
class Part:
    """One part of the stack: its name, its version, and its programs by name.

    A program that is not there has no path.
    """

    name: str
    version: str
    programs: dict[str, Path | None]

    @property
    def complete(self) -> bool:
        """Whether every program of the part is there."""
        return all(self.programs.values())


def cache_dir() -> Path:
    """Return the folder that holds the programs, which need not exist yet."""
    if explicit := os.environ.get("OTEL_AGENTS_STACK_CACHE"):
        return Path(explicit).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "otel-agents" / "stack"


def collector_version() -> str:
    """Return the collector's version, as its builder's manifest gives it."""
    manifest = COLLECTOR_SOURCES[0].read_text(encoding="utf-8")
    match = re.search(r"^  version: (\S+)$", manifest, re.MULTILINE)
    if match is None:
        message = f"{COLLECTOR_SOURCES[0]} gives no version."
        raise ValueError(message)
    return match[1]


def collector_path() -> Path:
    """Return where the collector stands, or will once it is built.

    The path carries a hash of what it is built from: another choice of components at the same
    version is another program.
    """
    sources = b"\0".join(path.read_bytes() for path in COLLECTOR_SOURCES)
    digest = hashlib.sha256(sources).hexdigest()[:12]
    return cache_dir() / f"collector-{collector_version()}-{digest}" / "otelcol"


def jaeger_path() -> Path:
    """Return where Jaeger stands, or will once it is built."""
    return cache_dir() / f"jaeger-{JAEGER_VERSION}" / "jaeger"


def parts() -> dict[str, Part]:
    """Return all parts by name: those of the stack, and those that only the tests need."""
    return {
        **stack_parts(),
        "postgresql": Part("postgresql", "of this machine", _postgresql()),
        "chromium": Part("chromium", "of this machine", {"chromium": _on_path("chromium")}),
    }


def stack_parts() -> dict[str, Part]:
    """Return the parts of the stack by name, with the programs that are there."""
    return {
        part.name: part
        for part in (
            Part("collector", collector_version(), {"otelcol": _existing(collector_path())}),
            Part("jaeger", JAEGER_VERSION, {"jaeger": _existing(jaeger_path())}),
            _prometheus(),
        )
    }


def _postgresql() -> dict[str, Path | None]:
    """Find the server's programs: Debian keeps them by version, off the PATH; the latest counts."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda f: int(f.parent.name))
    names = ("initdb", "postgres")
    if folders:
        return {name: _existing(folders[-1] / name) for name in names}
    return {name: _on_path(name) for name in names}


def _on_path(name: str) -> Path | None:
    found = shutil.which(name)
    return None if found is None else Path(found)


def _prometheus() -> Part:
    """Find Prometheus: the machine's own, else the Debian package unpacked in the cache."""
    names = ("prometheus", "promtool")
    own = {name: shutil.which(name) for name in names}
    if all(own.values()):
        return Part("prometheus", "of this machine", {n: Path(p) for n, p in own.items() if p})
    unpacked = sorted(cache_dir().glob("prometheus-*/usr/bin/prometheus"))
    if not unpacked:
        return Part("prometheus", "of Debian", dict.fromkeys(names))
    folder = unpacked[-1].parent
    version = folder.parent.parent.name.removeprefix("prometheus-")
    return Part("prometheus", version, {name: _existing(folder / name) for name in names})


def _existing(path: Path) -> Path | None:
    return path if path.is_file() else None
