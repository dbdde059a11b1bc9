"""Agents at 1,000 spans a second for hours, with faults: is anything lost, does anything grow?

    python benchmarks/soak.py [--minutes 120] [--rate 1000] [--seed N] [--json FILE]

Two programs of agents, one with asyncio and one with threads, under `opentelemetry-instrument` and
with one spool, send to `otel-agents serve` on SQLite. At random moments the server is killed or
stopped, its port refused, or a program killed (the other one lives as long as the soak). All that
ended is looked for in the store; memory, descriptors and threads are sampled. It ends with 1 where
a promise is broken. Growth of memory is judged from an hour on: less shows too little.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import machine
import report
from ingest_process import wait_for
from soak_faults import Faults, planned
from soak_judge import judge, shown_runs
from soak_ledger import Ledger
from soak_parts import Agents, Relay, Server, environment, spool
from soak_samples import FLAT, Samples, bytes_in

if TYPE_CHECKING:
    from collections.abc import Iterator

_DELIVERED_SECONDS: Final = 120.0
_SAMPLE_SECONDS: Final = 5.0
_READ_SECONDS: Final = 0.5
_FRESH_SECONDS: Final = 2.0
_DAY: Final = 86_400.0
_ENOUGH: Final = 0.25  # of the spans that were asked for: a busy machine makes fewer
_JUDGED_SECONDS: Final = 3600.0
_MOST_GROWTH: Final = 1.0  # % an hour
_WARM_UP: Final = (0.1, 5.0, 300.0)  # of the time, seconds at the least and at the most
# What is stored goes after so long, or the store would grow by 1 GB an hour.
_RETAINED: Final = (0.4, 120.0, 900.0)  # of the time, seconds at the least and at the most
_COLUMNS: Final = (
    ("processes", "lives", "d"),
    ("RSS MiB at first", "rss_mib_first", ".1f"),
    ("at last", "rss_mib_last", ".1f"),
    ("most", "rss_peak_mib", ".1f"),
    ("growth %/h", "growth", "+.1f"),
    ("from", "low", "+.1f"),
    ("to", "high", "+.1f"),
    ("descriptors at first", "descriptors_first", ".0f"),
    ("at last", "descriptors_last", ".0f"),
    ("threads at first", "threads_first", ".0f"),
    ("at last", "threads_last", ".0f"),
)


class Soak:
    """The parts, what they told, and what they used."""

    def __init__(self, home: Path, seconds: float, rate: float, seed: int) -> None:
        self.seconds, self.rate = seconds, rate
        self.retained, self.warm_up = (
            min(most, max(least, seconds * share)) for share, least, most in (_RETAINED, _WARM_UP)
        )
        self.home = home
        (home / "told").mkdir()
        (home / ".otel-agents").mkdir()
        self.server = Server(home, environment(home, None), self.retained / _DAY)
        self.relay = Relay(self.server.otlp)
        self.env = environment(home, f"http://127.0.0.1:{self.relay.port}")
        self.ledger = Ledger(home / "told", self.server.store)
        self.agents = [Agents(way, way, home, self.env, rate / 2) for way in ("asyncio", "threads")]
        self.samples = Samples()
        self.sizes: list[tuple[float, int, int, int]] = []  # seconds, spool, store, outstanding
        self.wrong: list[str] = []
        # The asyncio program lives on: what faults of the server leave in it would add up.
        self.faults = Faults(
            planned(seconds, seed), self.server, self.agents[1], self.relay, self.ledger.add
        )

    def run(self) -> None:
        """Work for the time asked for, with faults."""
        self.server.start()
        self.relay.listen()
        for one in self.agents:
            self.ledger.add(one.start())
        wait_for(self._all_told, 60, "the agents' first spans")
        self.samples.begun = begun = time.monotonic()
        self.faults.start()
        sampled = -_SAMPLE_SECONDS
        while (now := time.monotonic() - begun) < self.seconds:
            self.ledger.read()
            if now - sampled >= min(_SAMPLE_SECONDS, self.seconds / 40):
                sampled = now
                self._sample(now)
            for part in (*self.agents, self.server):
                if part.fell:
                    message = f"{part.name} ended by themselves: {part.said}"
                    raise RuntimeError(message)
            time.sleep(_READ_SECONDS)
        self.faults.end()

    def _all_told(self) -> bool:
        self.ledger.read()
        return all(one.count for one in self.ledger.told.values())

    def _sample(self, now: float) -> None:
        # A process's life begins when it is at work: on a busy machine that takes a while.
        told = self.ledger.told
        up = [one for one in self.agents if one.known in told and told[one.known].count]
        for part in (*up, *([self.server] if self.server.started else [])):
            if part.pid is not None:
                self.samples.take(part.name, part.pid)
        spooled = bytes_in(self.home / "spool", "*.seg")
        stored = bytes_in(self.server.store.parent, "store.db*")
        self.sizes.append((now, spooled, stored, self.ledger.outstanding))
        report.progress(
            f"{now:.0f} of {self.seconds:.0f} s: {self.ledger.ended:,d} spans ended, "
            f"{self.ledger.outstanding:,d} on their way, spool {spooled / 2**20:.1f} MiB, "
            f"store {stored / 2**20:.0f} MiB"
        )

    def finish(self) -> dict[str, Any]:
        """End the programs, drain the spool, and judge; return the figures."""
        for one in self.agents:
            if (code := one.end()) != 0:
                self.wrong.append(f"{one.name} ended with {code}: {one.said}")
        ended = self.ledger.ended
        fresh = self._fresh()
        drained, drain = spool(self.env, "drain", "--timeout", "60")
        if drained != 0 or any(drain["left"].values()):
            self.wrong.append(f"a final drain leaves {drain['left']}")
        _, status = spool(self.env, "status")
        self._deliver()
        verdict = judge(
            self.ledger, self.server, fresh=fresh, kept=self.retained * 0.8,
            spans=int(self.rate * self.seconds * _ENOUGH),
        )  # fmt: skip
        runs = len(shown_runs(self.server))
        if not verdict.clean:
            self.wrong.append(str(verdict))
        self.wrong += list(self._unexplained(status["dropped"]))
        rows = [self.samples.row(one.name, self.warm_up) for one in (*self.agents, self.server)]
        for row in rows:
            self.wrong += list(self._grown(row))
        if (code := self.server.end(signal.SIGTERM)) != 0:
            self.wrong.append(f"the server ended with {code}: {self.server.said}")
        return {
            "rows": rows,
            "ended": self.ledger.ended,
            "rate": ended / self.seconds,
            "lost": self.ledger.outstanding,
            "again": self.ledger.again,
            "untold": self.ledger.untold(),
            "dropped": status["dropped"],
            "waiting": status["waiting"],
            "traces_asked": len(self.ledger.samples),
            "runs_asked": runs,
            "faults": self.faults.done,
            "wrong": self.wrong,
        }

    def close(self) -> None:
        """End what is left, by its id."""
        try:
            if self.faults.is_alive():  # else it would start what was ended
                self.faults.end()
        finally:
            for part in (*self.agents, self.server):
                part.signal(signal.SIGCONT)
                part.end(signal.SIGKILL)
            self.relay.close()

    def _fresh(self) -> str:
        """Run a program after the faults; return the name that it tells under."""
        program = Agents("fresh", "asyncio", self.home, self.env, self.rate / 2)
        self.ledger.add(name := program.start())
        try:
            wait_for(self._all_told, 60, "a span after the faults")
            time.sleep(_FRESH_SECONDS)
        finally:
            program.end()
        return name

    def _deliver(self) -> None:
        """Wait until the store has all that was told, and is indexed."""

        def delivered() -> bool:
            self.ledger.read()
            return not self.ledger.outstanding and self.server.ready()

        try:
            wait_for(delivered, _DELIVERED_SECONDS, "all spans in the store")
        except TimeoutError as error:
            self.wrong.append(str(error))

    def _unexplained(self, dropped: list[dict[str, Any]]) -> Iterator[str]:
        """Yield what the spool dropped, but for a record that a kill tore, once a kill."""
        kills = sum(fault["kind"] == "kill an agent program" for fault in self.faults.done)
        for one in dropped:
            if one["reason"] != "corrupt" or one["count"] > kills:
                yield f"the spool dropped {one['count']} of {one['signal']}: {one['reason']}"

    def _grown(self, row: dict[str, Any]) -> Iterator[str]:
        """Yield what of a program grew."""
        if self.seconds >= _JUDGED_SECONDS and row["low"] is not None and row["low"] > _MOST_GROWTH:
            yield f"{row['label']}: memory grows by {row['growth']:.1f} % an hour"
        for key, rise in self.samples.risen(row["label"], self.warm_up).items():
            if rise > FLAT[key]:
                yield f"{row['label']}: {key} rose by {rise:.0f}"


def show(found: dict[str, Any], sizes: list[tuple[float, int, int, int]]) -> None:
    """Print the figures."""
    report.progress("")
    print()
    report.table("program", _COLUMNS, found["rows"])
    last = sizes[-1]
    lines = {
        "spans ended": f"{found['ended']:,d}, {found['rate']:.0f} a second",
        "lost": f"{found['lost']:,d}",
        "in the store twice": f"{found['again']:,d} (shown once)",
        "in the store, and killed before they were told": f"{found['untold']:,d}",
        "dropped by the spool": str(found["dropped"] or "nothing"),
        "left in the spool": str(found["waiting"]),
        "asked of the API": f"{found['traces_asked']} traces, {found['runs_asked']} runs",
        "spool": f"{max(one[1] for one in sizes) / 2**20:.1f} MiB at the most, "
        f"{last[1] / 2**20:.1f} at last",
        "store": f"{max(one[2] for one in sizes) / 2**20:.0f} MiB at the most, "
        f"{last[2] / 2**20:.0f} at last",
        "spans on their way": f"{max(one[3] for one in sizes):,d} at the most",
    }
    print()
    for name, value in lines.items():
        print(f"{name}: {value}")
    print("\n" + ("\n".join(f"BROKEN: {one}" for one in found["wrong"]) or "No promise is broken."))


def main() -> int:
    """Soak, print the figures, and return 1 where a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--rate", type=float, default=1000, help="spans a second")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    given = parser.parse_args()
    about = machine.described()
    for name, value in about.items():
        print(f"{name}: {value}")
    print(f"{given.rate:.0f} spans/s for {given.minutes:g} minutes, seed {given.seed}")
    if given.minutes * 60 < _JUDGED_SECONDS:
        print("The growth of memory is not judged: that takes an hour.")
    print()
    with tempfile.TemporaryDirectory(prefix="otel-agents-soak-") as directory:
        soak = Soak(Path(directory), given.minutes * 60, given.rate, given.seed)
        try:
            soak.run()
            found = soak.finish()
        finally:
            soak.close()
    show(found, soak.sizes)
    if given.json:
        figures = {"machine": about, "seed": given.seed, "minutes": given.minutes, **found}
        samples = {"samples": soak.samples.as_data(), "sizes": soak.sizes}
        given.json.write_text(json.dumps(figures | samples))
    return 1 if found["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
