"""`make fuzz`: every target for a while, with coverage as a guide where atheris is installed.

    python -m tests.fuzz.driver [--seconds 60] [--plain] [TARGET …]

Each target runs in a process of its own: a fuzzer ends with the first failure, and memory that
grows or an input that takes long ends it too. What fails is kept as `corpus/TARGET/failed-…`, and
the exit code is 1. What reached new code is kept in a cache outside of the repository, so that the
next run goes on from there; `OTEL_AGENTS_FUZZ_CACHE` names it.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.fuzz.targets import Target

ROOT: Final = Path(__file__).resolve().parents[2]
SECONDS: Final = 60.0
_SLOW_SECONDS: Final = 20  # of one input
_MEMORY: Final = 1024  # MiB of a whole process
_SMALL: Final = "small"  # the failing input, made as small as it gets
_SMALLER_SECONDS: Final = 10.0
_DONE: Final = re.compile(r"Done (\d+) (?:runs|executions)|stat::number_of_executed_units: (\d+)")
_STATUS: Final = re.compile(r"^#(\d+)\t", re.MULTILINE)


class Outcome(NamedTuple):
    """What became of a target: how often it ran, what it kept, and the inputs that failed.

    `ended` is the exit code; a process can end by itself, as where its memory was not enough.
    """

    target: str
    ended: int
    executions: int
    kept: int
    failures: list[Path]
    output: str


def cache() -> Path:
    """Return where what was found is kept between runs."""
    given = os.environ.get("OTEL_AGENTS_FUZZ_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(given) if given else base / "otel-agents" / "fuzz"


def run(name: str, seconds: float, *, guided: bool) -> Outcome:
    """Run one target in a process of its own."""
    kept = cache() / name
    kept.mkdir(parents=True, exist_ok=True)
    before = len(list(kept.iterdir()))
    with tempfile.TemporaryDirectory(prefix="otel-agents-fuzz-") as found:
        words = [sys.executable, "-m", "tests.fuzz.driver", "--one", name]
        words += ["--seconds", str(seconds), "--failures", found]
        if not guided:
            words.append("--plain")
        ended = subprocess.run(  # noqa: S603 - this very program
            words, cwd=ROOT, env={**os.environ, "OTEL_AGENTS_HOME": found},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
            timeout=seconds * 3 + 300,
        )  # fmt: skip
        output = ended.stdout.decode(errors="replace")
        failed = sorted(path for path in Path(found).iterdir() if path.is_file())
        small = [path for path in failed if path.name == _SMALL]
        failures = [_saved(name, path) for path in small or failed]
    done = [int(one or other) for one, other in _DONE.findall(output)]
    done += map(int, _STATUS.findall(output))
    new = len(list(kept.iterdir())) - before
    return Outcome(name, ended.returncode, max(done, default=0), new, failures, output)


def _saved(name: str, failed: Path) -> Path:
    """Keep an input that failed in the corpus, and return where."""
    from tests.fuzz.targets import CORPUS

    data = failed.read_bytes()
    found = CORPUS / name / f"failed-{hashlib.sha256(data).hexdigest()[:12]}"
    found.write_bytes(data)
    return found


# ---------------------------------------------------------------------- in the process of a target


def _guided(target: str, seconds: float, failures: Path) -> None:
    """Fuzz with atheris: it keeps what reaches new code, and changes that again."""
    import atheris

    with atheris.instrument_imports(include=["otel_agents"]):
        from tests.fuzz.mutate import MOST, mutated
        from tests.fuzz.targets import CORPUS, TARGETS
    found = TARGETS[target]

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        random = Random(seed)  # noqa: S311 - chance, no secret
        if random.randrange(5) == 0:
            return bytes(atheris.Mutate(data, most))
        return mutated(data, found.mutator, random, most)

    def run_one(data: bytes) -> None:
        try:
            found.run(data)
        except Exception:
            (failures / _SMALL).write_bytes(smallest(data, found.run))
            raise

    _prepare(found)
    arguments = [
        target, str(cache() / target), str(CORPUS / target), f"-max_total_time={seconds:.0f}",
        f"-artifact_prefix={failures}/", f"-max_len={MOST}", f"-timeout={_SLOW_SECONDS}",
        f"-rss_limit_mb={_MEMORY}", "-print_final_stats=1", "-verbosity=1",
    ]  # fmt: skip
    atheris.Setup(arguments, run_one, custom_mutator=mutate)
    atheris.Fuzz()


def _plain(target: str, seconds: float, failures: Path) -> None:
    """Fuzz without coverage: change what is in the corpus, by chance, until the time is over."""
    from tests.fuzz.mutate import mutated
    from tests.fuzz.targets import TARGETS

    found = TARGETS[target]
    _prepare(found)
    inputs = [path.read_bytes() for path in (*found.seeds, *sorted((cache() / target).iterdir()))]
    random = Random(time.time_ns())  # noqa: S311 - chance, no secret
    end = time.monotonic() + seconds
    count = 0
    while time.monotonic() < end:
        data = random.choice(inputs)
        for _ in range(random.randint(1, 3)):
            data = mutated(data, found.mutator, random)
        count += 1
        begun = time.monotonic()
        try:
            found.run(data)
        except BaseException:
            (failures / _SMALL).write_bytes(smallest(data, found.run))
            raise
        if time.monotonic() - begun > _SLOW_SECONDS:
            (failures / "timeout-0").write_bytes(data)
            raise SystemExit(1)
    print(f"Done {count} runs")  # noqa: T201 - read by the process that started this one


def smallest(data: bytes, run: Callable[[bytes], None]) -> bytes:
    """Return an input that still fails, with as much taken away as can be in a few tries."""

    def fails(part: bytes) -> bool:
        try:
            run(part)
        except Exception:  # noqa: BLE001 - whatever the property is
            return True
        return False

    end = time.monotonic() + _SMALLER_SECONDS
    size = max(1, len(data) // 2)
    while size:
        at = 0
        while at < len(data) and time.monotonic() < end:
            part = data[:at] + data[at + size :]
            if fails(part):
                data = part
            else:
                at += size
        size //= 2
    return data


def _prepare(target: Target) -> None:
    """Bring a target to where its first input is like any other, warnings being errors."""
    from otel_agents.boundary import boundary

    warnings.simplefilter("error")
    boundary.strict = True
    for seed in target.seeds[:1]:
        target.run(seed.read_bytes())


# ---------------------------------------------------------------------- all of them


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the targets that are named, or all; return the exit code."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each target")
    parser.add_argument("--plain", action="store_true", help="without atheris")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--failures", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    guided = not given.plain and importlib.util.find_spec("atheris") is not None
    if given.one:
        (_guided if guided else _plain)(given.one, given.seconds, given.failures)
        return 0
    from tests.fuzz.targets import TARGETS

    unknown = set(given.targets) - set(TARGETS)
    if unknown:
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    print("with atheris" if guided else "without coverage: pip install atheris for more")  # noqa: T201
    failed = 0
    for name in given.targets or TARGETS:
        outcome = run(name, given.seconds, guided=guided)
        failed += bool(outcome.ended or outcome.failures)
        said = f"{name:10} {outcome.executions:>9,} executions {outcome.kept:>5} new entries"
        print(f"{said} {len(outcome.failures)} failures", flush=True)  # noqa: T201
        for path in outcome.failures:
            print(f"  {path.relative_to(ROOT)}")  # noqa: T201
        if outcome.ended:
            print(f"ended with {outcome.ended}\n{_told(outcome.output)}", flush=True)  # noqa: T201
    return 1 if failed else 0


def _told(output: str) -> str:
    """Return the last traceback of an output."""
    at = max(output.rfind("Traceback"), output.rfind("Uncaught Python exception"))
    return output[max(0, at) :][:4000].partition("\nMS: ")[0]


if __name__ == "__main__":
    sys.exit(main())
