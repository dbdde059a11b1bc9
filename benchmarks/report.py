"""The table that the hot path's figures are printed as."""

from __future__ import annotations

import sys
from typing import Any, Final

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
    print("| contestant | " + " | ".join(title for title, _, _ in _COLUMNS) + " |")
    print("|---|" + "--:|" * len(_COLUMNS))
    for row in rows.values():
        if "error" in row:
            print(f"| {row['label']} | {row['error']} |" + " |" * (len(_COLUMNS) - 1))
            continue
        cells = ["-" if row[key] is None else format(row[key], form) for _, key, form in _COLUMNS]
        print(f"| {row['label']} | " + " | ".join(cells) + " |")
    print()
    if sentence := noise(rows):
        print(f"{sentence}\n")
    for name, row in rows.items():
        versions = row.get("versions")
        if versions:
            print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in versions.items()))
