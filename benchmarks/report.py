"""The tables that figures are printed as, and what they are printed under."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_COLUMNS: Final = (
    ("added CPU µs a run", "added_us", "+.0f"),
    ("median of pairs", "added_median_us", "+.0f"),
    ("x bare", "x_bare", ".2f"),
    ("x nothing", "x_nothing", ".2f"),
    ("50 tasks, µs", "added_concurrent_us", "+.0f"),
    ("p50 µs", "added_p50_us", "+.0f"),
    ("p99 µs", "added_p99_us", "+.0f"),
    ("spans", "spans_a_run", ".1f"),
    ("B a span", "bytes_a_span", ".0f"),
    ("logs", "log_records_a_run", ".1f"),
    ("RSS MB", "rss_mb", ".0f"),
    ("start-up ms", "start_ms", "+.0f"),
)


def progress(text: str) -> None:
    """Show what is going on, in one line, where somebody looks."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


# The control's share of the bare SDK from which on the ratios say little.
_TOO_NOISY: Final = 0.25


def noise(rows: dict[str, dict[str, Any]]) -> str:
    """Return a sentence where the control is too far from zero, else an empty text."""
    control = rows.get("nothing", {}).get("added_us")
    bare = rows.get("bare", {}).get("added_us")
    if control is None or not bare or abs(control) <= _TOO_NOISY * abs(bare):
        return ""
    return f"TOO NOISY: the control shows {control:+.0f} µs a run; repeat on a quieter machine."


def with_ratios(rows: dict[str, dict[str, Any]]) -> None:
    """Add each row's ratios: its added CPU to the bare SDK's, its CPU to that of nothing."""
    bare = rows.get("bare", {}).get("added_us")
    start = rows.get("nothing", {}).get("start_ms", 0.0)
    for name, row in rows.items():
        if "error" in row:
            continue
        row["start_ms"] -= start
        row["x_nothing"] = 1 + row["added_us"] / row["off_us"]
        row["x_bare"] = row["added_us"] / bare if bare and name != "nothing" else None


def print_table(rows: dict[str, dict[str, Any]], about: dict[str, str], arguments: str) -> None:
    """Print the rows as a Markdown table, under what they were measured on."""
    with_ratios(rows)
    for name, value in about.items():
        print(f"{name}: {value}")
    print(f"arguments: {arguments or 'none'}\n")
    table("contestant", _COLUMNS, rows.values())
    print()
    if sentence := noise(rows):
        print(f"{sentence}\n")
    for name, row in rows.items():
        versions = row.get("versions")
        if versions:
            print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in versions.items()))


def table(
    title: str, columns: Sequence[tuple[str, str, str]], rows: Iterable[dict[str, Any]]
) -> None:
    """Print rows as a Markdown table; columns are title, key and format.

    A row without a figure has a dash there; one with an `error` has that instead of figures.
    """
    print(f"| {title} | " + " | ".join(name for name, _, _ in columns) + " |")
    print("|---|" + "--:|" * len(columns))
    for row in rows:
        if "error" in row:
            print(f"| {row['label']} | {row['error']} |" + " |" * (len(columns) - 1))
            continue
        cells = ["-" if row[key] is None else format(row[key], form) for _, key, form in columns]
        print(f"| {row['label']} | " + " | ".join(cells) + " |")


def disk() -> str:
    """Return how long a flush of 16 KiB takes where temporary files are."""
    times = []
    with tempfile.NamedTemporaryFile(prefix="otel-agents-bench-") as file:
        for _ in range(100):
            file.write(bytes(16_384))
            file.flush()
            begun = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - begun) * 1e3)
    return f"a flush of 16 KiB takes {statistics.median(times):.1f} ms in {tempfile.gettempdir()}"
