"""What a server has to hold after faults, read through its API.

The five properties are those of reliability.md: what was acknowledged is there, what is there was
sent, it is as it was sent, what is sent after the faults comes through, and there was enough of
all that for the rest to mean something.
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


class Verdict(NamedTuple):
    """What is wrong, by kind and number; nothing is where all are empty."""

    lost: set[Key]
    doubled: set[Key]
    unknown: set[Key]
    altered: set[Key]
    runs: dict[str, Any]

    @property
    def clean(self) -> bool:
        """Nothing is wrong."""
        return not any(self)

    def __str__(self) -> str:
        counts = ", ".join(f"{len(part)} {name}" for name, part in self._asdict().items())
        return f"{counts}; such as {[sorted(part)[:3] for part in self if part]}"


class Holding:
    """All that a server shows of what clients sent."""

    def __init__(self, served: Served) -> None:
        until(served.caught_up, "an index that has caught up")
        self.times: Counter[Key] = Counter()
        self.told: dict[Key, tuple[Any, ...]] = {}
        for row in served.pages("/api/traces"):
            self._trace(row, served.data(f"/api/traces/{row['trace_id']}"))
        for event in served.pages("/api/events", "after"):
            self._event(event)
        for line in served.pages("/api/logs"):
            self._put("log", line["attributes"][NUMBER], (line["body"],))
        self.runs = {row["run_id"]: row for row in served.pages("/api/runs")}

    def _put(self, kind: str, number: str, told: tuple[Any, ...]) -> None:
        self.times[kind, number] += 1
        self.told[kind, number] = told

    def _trace(self, row: dict[str, Any], trace: dict[str, Any]) -> None:
        for span in trace["spans"]:
            said = span["attributes"]
            told = span["trace_id"], span["span_id"], span["name"], said[TEXT]
            self._put("span", said[NUMBER], told)
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
        self._put("signal", said[NUMBER], told)


def judge(ledger: Ledger, holding: Holding) -> Verdict:
    """Compare what was sent with what is there."""
    there = holding.told.keys()
    return Verdict(
        lost=ledger.acked - there,
        doubled={key for key, times in holding.times.items() if times != 1},
        unknown=there - ledger.issued.keys(),
        altered={
            key for key in there & ledger.issued.keys() if holding.told[key] != ledger.issued[key]
        },
        runs=_wrong_runs(ledger, holding),
    )


def _wrong_runs(ledger: Ledger, holding: Holding) -> dict[str, Any]:
    """Return the runs that were told whole and are shown otherwise, and those never told of."""
    wrong: dict[str, Any] = dict.fromkeys(holding.runs.keys() - ledger.runs.keys(), "unknown")
    for run_id, told in ledger.runs.items():
        row = holding.runs.get(run_id)
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


def assert_holds(served: Served, ledger: Ledger, *, requests: int, note: str) -> None:
    """Assert the five properties."""
    assert not ledger.wrong, note
    ledger.add(once(served, 0))
    # The rows of runs follow their signals, at once on an idle machine; nothing else may change.
    deadline = time.monotonic() + 20
    found = judge(ledger, Holding(served))
    while not found.clean and time.monotonic() < deadline:
        found = judge(ledger, Holding(served))
    assert found.clean, f"{found} ({note})"
    assert ledger.requests >= requests, f"too little traffic to mean anything ({note})"
