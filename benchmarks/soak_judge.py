"""The five properties of `tests/chaos/oracle.py`, of a soak: spans in the store, and what is shown.

What was acknowledged is a span whose end returned: with a spool it is in its file by then.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.chaos.oracle import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from soak_ledger import Ledger
    from soak_parts import Server

    from tests.chaos.oracle import Key

_ROWS_SECONDS: Final = 20.0


def judge(
    ledger: Ledger,
    server: Server,
    *,
    fresh: str,
    kept: float,
    spans: int,
) -> Verdict:
    """Return what is lacking.

    Args:
        ledger: What was told, beside the store.
        server: The server of that store, which is asked for traces of late.
        fresh: The process that began after the faults.
        kept: For how many seconds the server surely keeps a run.
        spans: How many have to have ended for the rest to mean something.

    """
    # The rows of runs follow their signals, at once on an idle machine.
    deadline = time.monotonic() + _ROWS_SECONDS
    since = time.time() - kept
    while (runs := _wrong_runs(ledger, shown_runs(server), since)) and time.monotonic() < deadline:
        time.sleep(0.5)
    doubled, missing = _shown(ledger, server)
    stuck = _keys(ledger.lost(fresh))
    return Verdict(
        lost=(_keys(ledger.lost()) - stuck) | missing,
        doubled=doubled,
        unknown=_keys(ledger.invented()),
        altered=_keys(ledger.altered),
        runs=runs,
        stuck=stuck,
        missing=max(0, spans - ledger.ended),
    )


def shown_runs(server: Server) -> dict[str, str]:
    """Return the status of each run that the server shows."""
    found: dict[str, str] = {}
    cursor = ""
    while True:
        page = server.data(f"/api/runs?limit=500{cursor}")
        found |= {row["run_id"]: row["status"] for row in page["items"]}
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={quote(page['next_cursor'])}"


def _keys(known: Iterable[str]) -> set[Key]:
    return {("span", one) for one in known}


def _shown(ledger: Ledger, server: Server) -> tuple[set[Key], set[Key]]:
    """Ask for traces of late through the API; return spans shown twice, and not at all."""
    twice: set[Key] = set()
    never: set[Key] = set()
    for trace, spans in ledger.samples.items():
        found = server.data(f"/api/traces/{trace}") or {"spans": []}
        shown = [one["span_id"] for one in found["spans"]]
        twice |= _keys(one for one in shown if shown.count(one) > 1)
        never |= _keys(spans.difference(shown))
    return twice, never


def _wrong_runs(ledger: Ledger, runs: dict[str, str], since: float) -> dict[str, Any]:
    """Return runs that ended since and are shown otherwise, and those that nobody began."""
    begun: set[str] = set()
    wrong: dict[str, Any] = {}
    for told in ledger.told.values():
        of_it, ended = told.runs()
        begun |= of_it
        for run, at in ended.items():
            status = runs.get(run, "lost")
            if at > since and status != "succeeded":
                wrong[run] = status
    return wrong | dict.fromkeys(runs.keys() - begun, "unknown")
