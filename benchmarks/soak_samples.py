"""What processes use over time, and whether it grows: a robust line with its uncertainty."""

from __future__ import annotations

import itertools
import statistics
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_HOUR: Final = 3600.0
_Z: Final = 1.96  # of 95 %
_FEWEST: Final = 4  # points of a life that has a line
# Connections and segments come and go; what is added for good by each fault soon exceeds it.
FLAT: Final = {"descriptors": 8, "threads": 2}


class Sample(NamedTuple):
    """What a process used at a moment, in seconds since the beginning."""

    at: float
    rss_mib: float
    descriptors: int
    threads: int


class Growth(NamedTuple):
    """The growth of memory in % an hour, and the interval that holds it at 95 %."""

    percent: float
    low: float
    high: float


def of_process(pid: int, at: float) -> Sample | None:
    """Return what a process uses; None where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        found = dict(line.split(":", 1) for line in lines if ":" in line)
        descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        rss = int(found["VmRSS"].split()[0]) / 1024
    except (OSError, KeyError):  # one that is ending has no memory
        return None
    return Sample(at, rss, descriptors, int(found["Threads"]))


def bytes_in(folder: Path, pattern: str) -> int:
    """Return how many bytes the files of a folder have whose names match."""
    total = 0
    for path in folder.glob(pattern):
        try:
            total += path.stat().st_size
        except OSError:
            continue
    return total


class Samples:
    """Samples of several programs, each with a life for each of its processes."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self._lives: dict[str, dict[int, list[Sample]]] = defaultdict(dict)

    def take(self, program: str, pid: int) -> None:
        """Take a sample of a program's process."""
        found = of_process(pid, time.monotonic() - self.begun)
        if found is not None:
            self._lives[program].setdefault(pid, []).append(found)

    def row(self, program: str, warm_up: float) -> dict[str, Any]:
        """Return a program's figures; of each life what came in its first seconds is left out."""
        lives = list(self._lives[program].values())
        warm = [after(life, warm_up) for life in lives]
        longest = max(warm, key=len, default=[])
        grown = growth([[(one.at, one.rss_mib) for one in life] for life in warm])
        row: dict[str, Any] = {
            "label": program,
            "lives": len(lives),
            "rss_peak_mib": max((one.rss_mib for life in lives for one in life), default=None),
            "growth": None if grown is None else grown.percent,
            "low": None if grown is None else grown.low,
            "high": None if grown is None else grown.high,
        }
        for key in ("rss_mib", "descriptors", "threads"):
            first, last = ends([getattr(one, key) for one in longest])
            row[f"{key}_first"], row[f"{key}_last"] = first, last
        return row

    def risen(self, program: str, warm_up: float) -> dict[str, float]:
        """Return by how much descriptors and threads rose, in the life where they rose most."""
        found = {}
        for key in FLAT:
            rises = [0.0]
            for life in self._lives[program].values():
                first, last = ends([getattr(one, key) for one in after(life, warm_up)])
                if first is not None and last is not None:
                    rises.append(last - first)
            found[key] = max(rises)
        return found

    def as_data(self) -> dict[str, Any]:
        """Return all samples, for a file."""
        return {name: list(lives.values()) for name, lives in self._lives.items()}


def after(life: Sequence[Sample], warm_up: float) -> list[Sample]:
    """Return the samples of a life without those of its first seconds."""
    return [one for one in life if one.at - life[0].at >= warm_up]


def ends(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Return the medians of the first third and of the last; None where there are too few."""
    third = len(values) // 3
    if not third:
        return None, None
    return statistics.median(values[:third]), statistics.median(values[-third:])


def growth(lives: Iterable[Sequence[tuple[float, float]]]) -> Growth | None:
    """Return the growth an hour by the line of Theil and Sen, with Sen's interval.

    Slopes are of all pairs of points within a life, each in % of that life's median, so that a
    process that begins anew neither grows nor shrinks by that. Points are medians of neighbours,
    some thirty a life: samples that follow each other closely tell the same, and would make the
    interval look narrower than it is.

    Args:
        lives: For each process its points: seconds, and MiB.

    """
    slopes: list[float] = []
    variance = 0.0
    for life in lives:
        points = _thinned(life)
        count = len(points)
        if count < _FEWEST:
            continue
        middle = statistics.median(value for _, value in points)
        for (early, before), (late, then) in itertools.combinations(points, 2):
            slopes.append((then - before) / (late - early) * _HOUR / middle * 100)
        variance += count * (count - 1) * (2 * count + 5) / 18
    if not slopes:
        return None
    slopes.sort()
    half = _Z * variance**0.5 / 2
    low = max(0, int(len(slopes) / 2 - half))
    high = min(len(slopes) - 1, int(len(slopes) / 2 + half))
    return Growth(statistics.median(slopes), slopes[low], slopes[high])


def _thinned(life: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    size = max(1, len(life) // 30)
    groups = [life[at : at + size] for at in range(0, len(life) - size + 1, size)]
    return [
        (statistics.median(at for at, _ in one), statistics.median(value for _, value in one))
        for one in groups
    ]
