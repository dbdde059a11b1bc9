"""What has to be there after faults: one oracle for servers, files and backends.

The five properties are those of reliability.md: what was acknowledged is there, what is there was
sent, it is as it was sent, what is sent after the faults comes through, and there was enough of
all that for the rest to mean something. `broken.py` has a program for each that lacks it.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from .clients import NUMBER, TEXT, once
from .served import until

if TYPE_CHECKING:
    from .clients import Ledger
    from .served import Served

Key = tuple[str, str]

_FRESH_SECONDS = 30.0
_ROWS_SECONDS = 20.0


class Verdict(NamedTuple):
    """What is wrong, by kind and number; nothing is where all are empty.

    Attributes:
        lost: Acknowledged, and not there.
        doubled: There more than once.
        unknown: There, and sent by nobody.
        altered: There, and not as it was sent.
        runs: Runs that are shown otherwise than they were told, with how.
        stuck: Sent after the faults, and not there.
        missing: How many requests there were too few for the rest to mean something.

    """

    lost: set[Key]
    doubled: set[Key]
    unknown: set[Key]
    altered: set[Key]
    runs: dict[str, Any]
    stuck: set[Key]
    missing: int

    @property
    def clean(self) -> bool:
        """Nothing is wrong."""
        return not any(self)

    def __str__(self) -> str:
        counts = ", ".join(f"{count(part)} {name}" for name, part in self._asdict().items())
        found = [sorted(part)[:3] for part in self if part and not isinstance(part, int)]
        return f"{counts}; such as {found}"


def count(part: Any) -> int:
    """Return how much of one thing is wrong."""
    return part if isinstance(part, int) else len(part)


class Held:
    """What is there of what was sent: each thing, how often, and the rows of runs."""

    def __init__(self) -> None:
        self.times: Counter[Key] = Counter()
        self.told: dict[Key, tuple[Any, ...]] = {}
        self.runs: dict[str, Any] = {}

    def put(self, kind: str, number: str, told: tuple[Any, ...]) -> None:
        """Take in one thing that was found."""
        self.times[kind, number] += 1
        self.told[kind, number] = told


class Holding(Held):
    """All that a server shows of what clients sent."""

    def __init__(self, served: Served) -> None:
        super().__init__()
        until(served.caught_up, "an index that has caught up")
        for row in served.pages("/api/traces"):
            self._trace(row, served.data(f"/api/traces/{row['trace_id']}"))
        for event in served.pages("/api/events", "after"):
            self._event(event)
        for line in served.pages("/api/logs"):
            self.put("log", line["attributes"][NUMBER], (line["body"],))
        self.runs = {row["run_id"]: row for row in served.pages("/api/runs")}

    def _trace(self, row: dict[str, Any], trace: dict[str, Any]) -> None:
        for span in trace["spans"]:
            said = span["attributes"]
            told = span["trace_id"], span["span_id"], span["name"], said[TEXT]
            self.put("span", said[NUMBER], told)
        # Spans are told apart when they are read; the list counts them as they are stored.
        if row["spans"] != len(trace["spans"]):
            self.times["trace", row["trace_id"]] = row["spans"] - len(trace["spans"]) + 1

    def _event(self, event: dict[str, Any]) -> None:
        payload = event["payload"]
        said = payload["attributes"]
        usage = None if payload["usage"] is None else payload["usage"]["input_tokens"]
        told = (
            event["run_id"], event["type"], payload["scope_id"], payload["name"] or "",
            said[TEXT], usage,
        )  # fmt: skip
        self.put("signal", said[NUMBER], told)


def judge(ledger: Ledger, held: Held, *, fresh: Ledger | None = None, requests: int = 0) -> Verdict:
    """Compare what was sent with what is there.

    Args:
        ledger: What was sent during the faults.
        held: What is there.
        fresh: What was sent after them: all of it, acknowledged or not, has to be there.
        requests: How many the ledger must have for the rest to mean something.

    """
    there = held.told.keys()
    issued = ledger.issued if fresh is None else ledger.issued | fresh.issued
    return Verdict(
        lost=ledger.acked - there,
        doubled={key for key, times in held.times.items() if times != 1},
        unknown=there - issued.keys(),
        altered={key for key in there & issued.keys() if held.told[key] != issued[key]},
        runs=_wrong_runs(ledger, fresh, held),
        stuck=set() if fresh is None else fresh.issued.keys() - there,
        missing=max(0, requests - ledger.requests),
    )


def _wrong_runs(ledger: Ledger, fresh: Ledger | None, held: Held) -> dict[str, Any]:
    """Return the runs that were told whole and are shown otherwise, and those never told of."""
    runs = ledger.runs if fresh is None else ledger.runs | fresh.runs
    wrong: dict[str, Any] = dict.fromkeys(held.runs.keys() - runs.keys(), "unknown")
    for run_id, told in runs.items():
        row = held.runs.get(run_id)
        if not told.whole:
            continue
        if row is None:
            wrong[run_id] = "lost"
            continue
        found = row["status"], row["usage"]["input_tokens"], row["workflow"]
        status = "succeeded" if told.ended else row["status"]
        if found != (status, told.tokens, "chaos") or (not told.ended and found[0] == "succeeded"):
            wrong[run_id] = found
    return wrong


def examine(
    served: Served, ledger: Ledger, *, requests: int, seconds: float = _FRESH_SECONDS
) -> Verdict:
    """Send one more run, for so long, and say what of the five properties a server lacks."""
    fresh = once(served, 0, seconds=seconds)
    # The rows of runs follow their signals, at once on an idle machine; nothing else may change.
    deadline = time.monotonic() + _ROWS_SECONDS
    while True:
        found = judge(ledger, Holding(served), fresh=fresh, requests=requests)
        if found.clean or not found.runs or time.monotonic() > deadline:
            ledger.add(fresh)
            return found


def assert_holds(served: Served, ledger: Ledger, *, requests: int, note: str) -> None:
    """Assert the five properties."""
    assert not ledger.wrong, note
    found = examine(served, ledger, requests=requests)
    assert found.clean, f"{found} ({note})"
