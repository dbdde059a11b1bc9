"""How many spans a second are stored durably, beside the real collector, and how fast reads are.

    python benchmarks/ingest.py [--quick] [--store sqlite|postgresql] [--read] [--install]

Each server runs alone on one core, and what sends to it on another. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import ingest_fill
import ingest_peers
import ingest_read
import machine
import report
from ingest_cluster import Cluster
from ingest_peers import Collector, Ours, Phoenix
from ingest_process import SERVER_CORE, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_HERE: Final = Path(__file__).parent
_LOAD_CORE: Final = 1
STORES: Final = ("sqlite", "postgresql")
# Spans a request and connections: the two of the target, then what one commit is shared by.
TARGETS: Final = ((50, 8), (500, 4))
_OTHERS: Final = tuple((spans, connections) for spans in (50, 500) for connections in (1, 10, 50))
LEAST: Final = 40_000  # spans a second
_CATCH_UP_SECONDS: Final = 600.0
_INGEST: Final = (
    ("spans a request", "spans", "d"),
    ("connections", "connections", "d"),
    ("spans/s", "rate", ",.0f"),
    ("CPU s a million", "cpu", ".1f"),
    ("p50 ms", "p50_ms", ".1f"),
    ("p99 ms", "p99_ms", ".1f"),
    ("refused", "refused", "d"),
    ("caught up after s", "behind", ".1f"),
    ("stored", "stored", "s"),
    ("RSS before MB", "rss_before", ".0f"),
    ("peak MB", "rss_peak", ".0f"),
    ("after MB", "rss_after", ".0f"),
    ("sender's core", "busy", ".0%"),
)
_READ: Final = (
    ("p50 ms", "p50_ms", ".1f"),
    ("p95 ms", "p95_ms", ".1f"),
    ("most ms", "max_ms", ".1f"),
    ("CPU ms", "cpu_ms", ".1f"),
    ("requests", "requests", "d"),
    ("kB", "kb", ".0f"),
)


def _send(port: int, spans: int, connections: int, seconds: float) -> dict[str, Any]:
    """Have a process of its own send, on its own core."""
    words = (port, spans, connections, seconds, "--core", _LOAD_CORE)
    done = subprocess.run(  # noqa: S603 - this repository's own file
        [sys.executable, str(_HERE / "ingest_load.py"), *map(str, words)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    sent: dict[str, Any] = json.loads(done.stdout)
    if sent["broken"]:
        message = f"connections broke: {sent['broken'][0]}"
        raise RuntimeError(message)
    return sent


def _row(label: str, sent: dict[str, Any], cpu: float, **more: Any) -> dict[str, Any]:
    """Return a row of the table; `cpu` is seconds."""
    return {
        "label": label,
        "rate": sent["spans"] / sent["seconds"],
        "cpu": cpu / sent["spans"] * 1e6,
        "p50_ms": sent["p50_ms"],
        "p99_ms": sent["p99_ms"],
        "refused": sum(sent["refused"].values()),
        "busy": sent["busy"],
        "sent": sent,
        **more,
    }


@contextlib.contextmanager
def _ours(store: str) -> Iterator[Ours]:
    """Run our server on a new, empty store of a kind."""
    if store == "sqlite":
        with Ours() as server:
            yield server
        return
    with Cluster(SERVER_CORE) as cluster, Ours(cluster.url) as server:
        server.extra.append(cluster.pid)
        yield server


def _measure_ours(store: str, spans: int, connections: int, seconds: float) -> dict[str, Any]:
    with _ours(store) as server:
        _send(server.port, spans, 1, 0.5)  # what is made at the first request
        wait_for(server.caught_up, _CATCH_UP_SECONDS, "the index")
        before, used, rss = _stored(server.store), server.cpu(), server.rss()
        sent = _send(server.port, spans, connections, seconds)
        behind = wait_for(server.caught_up, _CATCH_UP_SECONDS, "the index")
        used = server.cpu() - used
        found = [after - first for after, first in zip(_stored(server.store), before, strict=True)]
        kept = "all" if found == [sent["spans"]] * 2 else f"{found} of {sent['spans']}"
        return _row(
            f"otel-agents, {store}", sent, used, behind=behind, stored=kept,
            rss_before=rss, rss_after=server.rss(), rss_peak=server.rss(peak=True),
        )  # fmt: skip


def _stored(url: str) -> tuple[int, int]:
    """Return how many spans are in the store's blocks, and how many its index of traces counts."""
    from otel_agents.store.database import Database

    database = Database(url)
    rows = [
        database.here.row(f"SELECT CAST(COALESCE(SUM(spans), 0) AS BIGINT) AS n FROM {table}")  # noqa: S608
        for table in ("blocks", "traces")
    ]
    database.close()
    return tuple(row["n"] if row else 0 for row in rows)  # type: ignore[return-value]


def _measure_collector(
    spans: int, connections: int, seconds: float, *, live: bool
) -> dict[str, Any]:
    with Collector(_LOAD_CORE if live else None) as server:
        warm = _send(server.port, spans, 1, 0.5)["requests"]
        used, rss = server.cpu(), server.rss()
        sent = _send(server.port, spans, connections, seconds)
        wanted = warm + sent["requests"]
        behind = (
            wait_for(lambda: server.passed_on() >= wanted, _CATCH_UP_SECONDS, "the queue")
            if live
            else None
        )
        used = server.cpu() - used
        label = f"collector, fsynced file queue, backend {'up' if live else 'down'}"
        return _row(
            label, sent, used, behind=behind, stored="all" if live else "in its queue",
            rss_before=rss, rss_after=server.rss(), rss_peak=server.rss(peak=True),
        )  # fmt: skip


def _measure_phoenix(seconds: float) -> dict[str, Any]:
    with Phoenix() as server:
        used, rss = server.cpu(), server.rss()
        sent = _send(server.port, 50, 4, seconds)
        used = server.cpu() - used
        return _row(
            "Arize Phoenix, SQLite", sent, used, behind=None,
            stored=f"{server.stored()} of {sent['spans']}",
            rss_before=rss, rss_after=server.rss(), rss_peak=server.rss(peak=True),
        )  # fmt: skip


def _tried(
    label: str, spans: int, connections: int, measure: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    report.progress(f"{label}, {spans} spans a request, {connections} connections")
    try:
        row = measure()
    except (RuntimeError, TimeoutError, OSError, subprocess.CalledProcessError) as error:
        row = {"label": label, "error": str(error)}
    load = os.getloadavg()[0]
    return {**row, "spans": spans, "connections": connections, "load": load}


def ingest(stores: list[str], *, target: float, other: float) -> list[dict[str, Any]]:
    """Measure all servers in turn; so many seconds for the cases of the target and the others."""
    rows = []
    for asked in (*TARGETS, *(_OTHERS if other else ())):
        seconds = target if asked in TARGETS else other
        for store in stores:
            ours = partial(_measure_ours, store, *asked, seconds)
            rows.append(_tried(f"otel-agents, {store}", *asked, ours))
        for live in (True, False) if asked in TARGETS else ():
            theirs = partial(_measure_collector, *asked, seconds, live=live)
            rows.append(_tried("collector", *asked, theirs))
    return rows


def ratios(rows: list[dict[str, Any]]) -> list[str]:
    """Return a sentence for each case of the target."""
    found = []
    for spans, connections in TARGETS:
        same = [
            row for row in rows
            if (row["spans"], row["connections"]) == (spans, connections) and "error" not in row
        ]  # fmt: skip
        theirs = {row["label"]: row["rate"] for row in same if row["label"].startswith("coll")}
        for row in same:
            if row["label"] in theirs:
                continue
            beside = ", ".join(
                f"{row['rate'] / rate:.2f} x {name}" for name, rate in theirs.items()
            )
            up = next((rate for name, rate in theirs.items() if name.endswith("up")), 0.0)
            right = row["rate"] >= max(LEAST, up) and row["stored"] == "all" and row["behind"] <= 60
            found.append(
                f"{row['label']}, {spans} spans a request: {beside}; target at least 1.00 x "
                f"with the backend up and {LEAST:,}/s, {'reached' if right else 'missed'}"
            )
    return found


def read(store: str, spans: int, requests: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Fill a store, and ask our server everything; return rows and what the store holds."""
    with contextlib.ExitStack() as opened:
        home = opened.enter_context(tempfile.TemporaryDirectory(prefix="otel-agents-bench-"))
        cluster = opened.enter_context(Cluster(SERVER_CORE)) if store == "postgresql" else None
        url = f"sqlite:///{home}/store.db" if cluster is None else cluster.url
        filled = ingest_fill.fill(url, spans)
        server = opened.enter_context(Ours(url))
        if cluster is not None:
            server.extra.append(cluster.pid)
        idle = server.rss()
        cases = ingest_read.cases(filled, pages=store == "sqlite")
        assert not (left := ingest_read.unasked(server.console, cases)), left
        ingest_read.ask(server.console, cases, requests, server.cpu)
        about = {
            **filled.counts, "filled in s": round(filled.seconds),
            "RSS idle MB": round(idle), "RSS after MB": round(server.rss()),
        }  # fmt: skip
        return sorted((case.row() for case in cases), key=lambda r: -r.get("p95_ms", 1e9)), about


def _print_read(store: str, rows: list[dict[str, Any]], about: dict[str, Any]) -> None:
    said = ", ".join(f"{name} {count:,}" for name, count in about.items())
    print(f"\n## Reads, {store}\n\n{said}; load {os.getloadavg()[0]:.1f}\n")
    report.table("question", _READ, rows)
    slow = [row for row in rows if row.get("p95_ms", 1e9) >= ingest_read.TARGET_MS]
    print(
        f"\n{len(slow)} of {len(rows)} at or over {ingest_read.TARGET_MS:.0f} ms (p95)"
        f"{': ' if slow else ''}{', '.join(row['label'] for row in slow)}"
    )


def main() -> None:
    """Measure, print the tables, and write them as JSON where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a minute in all, for a look")
    parser.add_argument("--store", choices=STORES, help="only this one; by default both")
    parser.add_argument("--read", action="store_true", help="only the reads")
    parser.add_argument("--ingest", action="store_true", help="only the ingest")
    parser.add_argument("--spans", type=int, help="spans in the store that is read")
    parser.add_argument("--install", action="store_true", help="make Phoenix's environment anew")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    given = parser.parse_args()
    # What was started is ended on the way out, when this is told to end too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if (os.cpu_count() or 1) < 2:
        sys.exit("one core is for the server and one for what sends: this machine has one")
    if given.install and (wrong := ingest_peers.install_phoenix()):
        print(f"Phoenix cannot be installed: {wrong}")
    stores = [given.store] if given.store else list(STORES)
    about = machine.described()
    for name, value in about.items():
        print(f"{name}: {value}")
    print(f"arguments: {' '.join(sys.argv[1:]) or 'none'}")
    print(f"disk: {report.disk()}")
    found: dict[str, Any] = {"machine": about}
    if not given.read:
        rows = ingest(stores, target=4.0 if given.quick else 60.0, other=0 if given.quick else 10.0)
        if not given.quick:
            rows.append(_tried("Arize Phoenix", 50, 4, partial(_measure_phoenix, 15.0)))
        print("\n## Ingest\n")
        report.table("server", (*_INGEST, ("load", "load", ".1f")), rows)
        print("", *ratios(rows), sep="\n")
        found["ingest"] = rows
    if not given.ingest:
        for store in stores:
            spans = given.spans or (20_000 if given.quick else 1_000_000)
            rows, holds = read(store, spans, 5 if given.quick else 100)
            _print_read(store, rows, holds)
            found[f"read {store}"] = {"store": holds, "rows": rows}
    if given.json:
        given.json.write_text(json.dumps(found, indent=2, default=str))


if __name__ == "__main__":
    main()
