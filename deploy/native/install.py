"""Install or build the programs of the native stack into a cache outside the repository.

    install [--check] [PART...]

The parts are `collector` and `jaeger`, built with Go; `prometheus` and `alertmanager`, the
machine's own or else the Debian packages, unpacked without being installed; `redis`, which hangs
together with other packages and is therefore installed on the machine, by root; and what only the
tests need: `promtool3`, `compose` and `helm`, built with Go, and `postgresql` and `chromium`,
installed as `redis` is.
What is there already is left alone. Exits 0 when every part asked for is there, 1 when one is
missing or could not be made, 2 on wrong usage.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import compose_tools
import helm_tool
import parts

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

BUILDER = "go.opentelemetry.io/collector/cmd/builder"
LOG_TAIL = 15
LINE_LIMIT = 1000


class InstallError(Exception):
    """A part cannot be had; the message is one sentence, and a log's end if there is any."""


class Runner:
    """Runs the commands that make one part, their output in a log beside the cache's programs."""

    def __init__(self, log: Path) -> None:
        """Start an empty log."""
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")

    def __call__(self, *argv: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> str:
        """Run a command to its end and return what it wrote on standard output.

        Raises:
            InstallError: when it fails.
        """
        with self._log.open("ab") as log:
            done = subprocess.run(
                argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=log, check=False,
            )  # fmt: skip
            log.write(done.stdout)
        if done.returncode:
            lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
            tail = "\n".join(f"  {line[:LINE_LIMIT]}" for line in lines[-LOG_TAIL:])
            message = f"{argv[0]} failed with code {done.returncode}; {self._log} ends:\n{tail}"
            raise InstallError(message)
        return done.stdout.decode()


def build_collector(run: Runner, work: Path) -> None:
    """Generate the collector's sources from its manifest and compile them."""
    go = _go()
    version = f"v{parts.collector_version()}"
    tools = work / "tools"
    run(go, "install", f"{BUILDER}@{version}", cwd=work, env=_go_env(GOBIN=str(tools)))
    manifest, *locks = parts.COLLECTOR_SOURCES
    sources = work / "sources"
    sources.mkdir()
    (work / "builder.yaml").write_text(
        manifest.read_text(encoding="utf-8").replace(
            "dist:\n", f"dist:\n  output_path: {sources}\n"
        ),
        encoding="utf-8",
    )
    run(
        tools / "builder", "--config", "builder.yaml", "--skip-get-modules", "--skip-compilation",
        # It makes a folder for its default output even where it is told another.
        cwd=work, env=_go_env(TMPDIR=str(work)),
    )  # fmt: skip
    for lock in locks:
        shutil.copy(lock, sources)
    _compile(run, go, ".", sources, work / "otelcol")
    _place(work / "otelcol", parts.collector_path())


def build_jaeger(run: Runner, work: Path) -> None:
    """Compile Jaeger."""
    folder = _module(
        run, work, parts.JAEGER_MODULE, parts.JAEGER_MODULE_VERSION, parts.JAEGER_MODULE_SUM
    )
    _compile(run, _go(), "./cmd/jaeger", folder, work / "jaeger")
    _place(work / "jaeger", parts.jaeger_path())


def build_promtool(run: Runner, work: Path) -> None:
    """Compile Prometheus 3's promtool, without what looks for targets in clouds."""
    folder = _module(
        run, work, parts.PROMTOOL_MODULE, parts.PROMTOOL_MODULE_VERSION, parts.PROMTOOL_MODULE_SUM
    )
    tags = ("-tags", "netgo,remove_all_sd")
    _compile(run, _go(), "./cmd/promtool", folder, work / "promtool", *tags)
    _place(work / "promtool", parts.promtool_path())


def build_with(make: Callable[..., None]) -> Callable[[Runner, Path], None]:
    """Return what makes a part whose own module knows of what it is made."""

    def build(run: Runner, work: Path) -> None:
        make(
            work, parts.cache_dir(),
            module=partial(_module, run, work), build=partial(_compile, run, _go()),
        )  # fmt: skip

    return build


def unpack(part: str, package: str) -> Callable[[Runner, Path], None]:
    """Return what unpacks a Debian package: to install it would need root and start a service."""

    def make(run: Runner, work: Path) -> None:
        if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
            message = (
                f"{part.capitalize()} is not on the PATH and apt-get is not here to fetch it: "
                f"install {part.capitalize()} with this system's own package manager."
            )
            raise InstallError(message)
        try:
            run("apt-get", "download", package, cwd=work)
        except InstallError:
            # A machine may have no package lists yet. Lists of our own need no root.
            for name in ("lists/partial", "cache/archives/partial"):
                (work / name).mkdir(parents=True)
            own = ("-o", f"Dir::State::lists={work}/lists", "-o", f"Dir::Cache={work}/cache")
            run("apt-get", *own, "update", cwd=work)
            run("apt-get", *own, "download", package, cwd=work)
        (archive,) = work.glob(f"{package}_*.deb")
        version = run("dpkg-deb", "-f", archive, "Version", cwd=work).strip()
        run("dpkg-deb", "-x", archive, work / "unpacked", cwd=work)
        target = parts.cache_dir() / f"{part}-{version}"
        if not target.exists():
            (work / "unpacked").rename(target)

    return make


def system_package(name: str) -> Callable[[Runner, Path], None]:
    """Return what installs a Debian package on this system."""

    def make(run: Runner, work: Path) -> None:
        if shutil.which("apt-get") is None or os.geteuid() != 0:
            message = f"{name} is not here: install it with this system's own package manager."
            raise InstallError(message)
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        wanted = ("apt-get", "install", "--yes", "--no-install-recommends", name)
        try:
            run(*wanted, cwd=work, env=env)
        except InstallError:
            run("apt-get", "update", cwd=work, env=env)
            run(*wanted, cwd=work, env=env)

    return make


MAKERS: dict[str, tuple[Callable[[Runner, Path], None], str]] = {
    "collector": (build_collector, "built with Go, about 3 minutes on 2 cores"),
    "jaeger": (build_jaeger, "built with Go, about 3 minutes on 2 cores"),
    "prometheus": (unpack("prometheus", "prometheus"), "fetched as a Debian package"),
    "alertmanager": (
        unpack("alertmanager", "prometheus-alertmanager"),
        "fetched as a Debian package",
    ),
    "redis": (system_package("redis-server"), "installed as a Debian package"),
    "promtool3": (build_promtool, "built with Go, about 2 minutes on 2 cores"),
    "compose": (build_with(compose_tools.make), "built with Go, about 1 minute on 2 cores"),
    "helm": (build_with(helm_tool.make), "built with Go, about 2 minutes on 2 cores"),
    "postgresql": (system_package("postgresql"), "installed as a Debian package"),
    "chromium": (system_package("chromium"), "installed as a Debian package"),
}


def install(name: str) -> parts.Part:
    """Make a part unless it is there, and return it.

    Raises:
        InstallError: when it cannot be made.
    """
    part = parts.parts()[name]
    if part.complete:
        return part
    with _alone(name) as cache:
        part = parts.parts()[name]
        if part.complete:  # Somebody else made it while we waited for the lock.
            return part
        make, how = MAKERS[name]
        log = cache / "logs" / f"{name}.log"
        print(f"{name:<11} {part.version}: being {how}; log: {log}", flush=True)
        began = time.monotonic()
        with tempfile.TemporaryDirectory(dir=cache, prefix=f"{name}-work-") as work:
            make(Runner(log), Path(work))
        print(f"{name:<11} done in {time.monotonic() - began:.0f} s", flush=True)
        return parts.parts()[name]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog="install", description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="only say what is there")
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"{', '.join(MAKERS)} (default: all)"
    )
    asked = parser.parse_args(argv)
    if unknown := [name for name in asked.parts if name not in MAKERS]:
        parser.error(f"no such part: {', '.join(unknown)}")
    whole = True
    for name in asked.parts or MAKERS:
        try:
            part = parts.parts()[name] if asked.check else install(name)
        except InstallError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
        for program, path in part.programs.items():
            print(f"{name:<11} {part.version:<24} {path or f'{program} is missing'}")
        whole &= part.complete
    return 0 if whole else 1


def _go() -> str:
    go = shutil.which("go")
    if go is None:
        message = "Go is not on the PATH and this part is built with it: install Go 1.26 or newer."
        raise InstallError(message)
    return go


def _go_env(**more: str) -> dict[str, str]:
    """Return the environment for Go: no C compiler, no paths of this machine in the program."""
    flags = f"{os.environ.get('GOFLAGS', '')} -trimpath -buildvcs=false".strip()
    return {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": flags, **more}


def _module(run: Runner, work: Path, path: str, version: str, expected: str) -> Path:
    """Fetch a module, and return its folder, in which alone its replacements of others count.

    Raises:
        InstallError: when its sum, Go's own hash of it, is another one than expected.
    """
    wanted = f"{path}@v{version}"
    module = json.loads(run(_go(), "mod", "download", "-json", wanted, cwd=work, env=_go_env()))
    if module["Sum"] != expected:
        message = f"{wanted} is not what it was: its sum is {module['Sum']}."
        raise InstallError(message)
    return Path(module["Dir"])


def _compile(run: Runner, go: str, package: str, folder: Path, target: Path, *more: str) -> None:
    stripped = ("-ldflags", "-s -w")
    run(go, "build", *stripped, *more, "-o", target, package, cwd=folder, env=_go_env())


def _place(program: Path, target: Path) -> None:
    """Move a finished program to its place in one step, so that half a program is never found."""
    target.parent.mkdir(parents=True, exist_ok=True)
    program.replace(target)


@contextmanager
def _alone(name: str) -> Generator[Path]:
    """Hold the lock of one part, so that two installations do not build it side by side."""
    cache = parts.cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{name}.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield cache


if __name__ == "__main__":
    sys.exit(main())
