"""The store: one object for who writes and who reads, on SQLite or PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from otel_agents.store import (
    admin,
    agents,
    alerts,
    paging,
    retention,
    runs,
    schema,
    standing,
    traces,
)
from otel_agents.store.database import Database
from otel_agents.store.folds import Folds
from otel_agents.store.hitl import Hitl
from otel_agents.store.retention import Retention
from otel_agents.store.rows import short
from otel_agents.store.writer import MIN_FREE_BYTES, Writer
from otel_agents.usage import Prices
from otel_agents.vocabulary import LAYERS, OPERATIONS, TASK_STATES

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from otel_agents.state.report import RunReport
    from otel_agents.store.alerts import Alert
    from otel_agents.store.batch import Batch
    from otel_agents.store.standing import Standing
    from otel_agents.store.writer import Done

    Page = dict[str, Any]
    When = str | float | None


_UNSETTLED: Final = """
    SELECT 1 AS one FROM runs WHERE dirty UNION ALL SELECT 1 AS one FROM unindexed LIMIT 1
"""


class Store:
    """A store by URL. Every method may be called from any thread; answers are plain data.

    Args:
        url: `sqlite:///PATH` or `postgresql://…`.
        durable: Whether a commit has to survive a power failure, and not only a crash.
        retain: How long and how much is kept, when `maintain` is called.
        prices: What models cost, for what a cache saved.
        min_free_bytes: The disk that must be left for anything to be written.

    """

    def __init__(
        self,
        url: str,
        *,
        durable: bool = True,
        retain: Retention | None = None,
        prices: Prices | None = None,
        min_free_bytes: int = MIN_FREE_BYTES,
    ) -> None:
        self.url = url
        self.retain = retain or Retention()
        self._prices = prices
        self._database = Database(url, durable=durable)
        try:
            schema.ensure(self._database)
        except BaseException:
            self._database.close()
            raise
        self._writer = Writer(self._database, min_free_bytes=min_free_bytes)
        self._folds = Folds(self._database)
        self.hitl = Hitl(self._database, self._writer)  # who waits for a human

    @property
    def _here(self) -> Any:
        return self._database.here

    # ------------------------------------------------------------------ writing

    def submit(self, batch: Batch, done: Done) -> None:
        """Queue a batch to be committed; see `Writer.submit`."""
        self._writer.submit(batch, done)

    def write(self, batch: Batch) -> None:
        """Write a batch and wait for its commit; raises what went wrong."""
        self._writer.write(batch)

    def settle(self, seconds: float = 10.0) -> bool:
        """Wait until runs and traces speak of all that is stored; False if that took too long."""
        import time

        deadline = time.monotonic() + seconds
        self._writer.start()
        while time.monotonic() < deadline:
            if self._here.row(_UNSETTLED) is None:
                return True
            time.sleep(0.005)
        return False

    def start(self) -> None:
        """Finish what an earlier process left undone."""
        self._writer.start()

    def on_commit(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call a listener after each commit, from any thread; return what ends that."""
        self._writer.listeners.append(listener)

        def unsubscribe() -> None:
            if listener in self._writer.listeners:
                self._writer.listeners.remove(listener)

        return unsubscribe

    @property
    def dropped(self) -> Counter[str]:
        """What could not be stored, by reason."""
        return self._writer.dropped

    def health(self) -> dict[str, Any]:
        """Return whether the store can be written, how much waits, for how long, and the disk."""
        self._writer.checked()
        return self._writer.health()

    def maintain(self) -> dict[str, int]:
        """Delete what is older or more than is to be kept; return how much of what went."""
        gone = retention.maintain(self._database, self.retain)
        if any(gone.values()):
            self._writer.ingest.forget_series()
        return gone

    def close(self, seconds: float = 5.0) -> None:
        """Write what waits, for so many seconds at the most, and close all connections."""
        self._writer.close(seconds)
        self._database.close()

    # ------------------------------------------------------------------ runs

    def runs(
        self,
        *,
        status: str | None = None,
        workflow: str | None = None,
        q: str | None = None,
        since: When = None,
        until: When = None,
        cursor: str | None = None,
        limit: int = paging.LIMIT,
    ) -> Page:
        """Return a page of runs, the last to start first."""
        return runs.list_runs(
            self._here,
            status=paging.one_of("status", status, runs.STATUSES),
            workflow=paging.text("workflow", workflow),
            q=paging.text("q", q),
            since=paging.moment("from", since),
            until=paging.moment("to", until),
            cursor=cursor,
            limit=paging.checked_limit(limit),
        )

    def run(self, run_id: str) -> dict[str, Any]:
        """Return a run in full; raises NotFoundError where there is none."""
        with self._folds.report(run_id) as (state, reading):
            return runs.detail(self._here, state, reading)

    def report(self, run_id: str | None = None) -> RunReport:
        """Return the reading of a run, or of the one that started last, as `status` shows it."""
        known = runs.latest_id(self._here) if run_id is None else run_id
        with self._folds.report(known) as (_, reading):
            return reading

    def run_signals(self, run_id: str, *, after: int = 0, limit: int = paging.LIMIT) -> Page:
        """Return a page of a run's events, in the order they were stored."""
        with self._folds.run(run_id):
            pass  # there is one
        wanted = paging.checked_limit(limit)
        found = runs.feed(
            self._here, after=paging.number("after", after), limit=wanted + 1, run_id=run_id
        )
        more = len(found) > wanted
        kept = found[:wanted]
        return {"items": kept, "next_cursor": str(kept[-1]["seq"]) if more else None}

    def run_spans(
        self, run_id: str, *, cursor: str | None = None, limit: int = paging.LIMIT
    ) -> Page:
        """Return a page of the spans of a run, by time of start."""
        limit = paging.checked_limit(limit)
        return traces.run_spans(self._here, self._traces_of(run_id), short(run_id), cursor, limit)

    def _traces_of(self, run_id: str) -> list[str]:
        with self._folds.run(run_id) as state:
            ids = {scope.identity.trace_id for scope in state.scopes.values()}
        return sorted(ids | runs.traces_of(self._here, short(run_id)))

    def usage(
        self, *, by: str = "workflow", since: When = None, until: When = None,
        run_id: str | None = None,
    ) -> Page:  # fmt: skip
        """Return what was spent, by workflow, phase, agent, model or day."""
        paging.one_of("by", by, runs.GROUPS)
        return runs.usage(
            self._here,
            by=by,
            since=paging.moment("from", since),
            until=paging.moment("to", until),
            run_id=paging.text("run_id", run_id),
        )

    def feed(
        self, after: int, limit: int = paging.MOST, run_id: str | None = None
    ) -> list[dict[str, Any]]:
        """Return the events stored after a number, in the order they were."""
        return runs.feed(
            self._here,
            after=paging.number("after", after),
            limit=paging.checked_limit(limit),
            run_id=paging.text("run_id", run_id),
        )

    def signal_rows(
        self,
        after: int,
        limit: int = paging.MOST,
        *,
        run_id: str | None = None,
        types: Sequence[str] = (),
    ) -> list[dict[str, Any]]:
        """Return rows of signals as they are stored; see `runs.stored`."""
        return runs.stored(self._here, after=after, limit=limit, run_id=run_id, types=types)

    def signal_rows_by_time(
        self, after: tuple[int, int], last: int, types: Sequence[str], limit: int = paging.MOST
    ) -> list[dict[str, Any]]:
        """Return rows of signals by time and number; see `runs.stored_by_time`."""
        return runs.stored_by_time(self._here, after=after, last=last, types=types, limit=limit)

    def feed_bounds(self) -> tuple[int, int]:
        """Return the numbers of the first and the last event; 0, 0 where there is none."""
        return runs.bounds(self._here)

    def delete_run(self, run_id: str) -> dict[str, int]:
        """Delete a run with its signals, spans and logs; raises NotFoundError for none."""
        known = short(run_id)
        connection = self._here
        self.settle()  # spans are found by the index
        ids = self._traces_of(known)
        with connection.writing():
            spans = traces.delete_spans(connection, ids, known)
            logs = connection.run("DELETE FROM logs WHERE run_id = ?", (known,))
            connection.run("DELETE FROM ai_runtime_events WHERE run_id = ?", (known,))
            signals = retention.delete_run_rows(connection, known)
        return {"signals": signals, "spans": spans, "logs": logs}

    def export_run(self, run_id: str) -> Iterator[bytes]:
        """Yield a run as JSON lines: `{"run": …}`, then its signals, spans and log records."""
        known = short(run_id)
        yield _line("run", self.run(known))
        after = 0
        while found := self.feed(after, run_id=known):
            yield from (_line("event", one) for one in found)
            after = found[-1]["seq"]
        yield from self._pages("span", lambda c: self.run_spans(known, cursor=c, limit=paging.MOST))
        yield from self._pages(
            "log", lambda c: self.logs(run_id=known, cursor=c, limit=paging.MOST)
        )

    def _pages(self, kind: str, ask: Callable[[str | None], Page]) -> Iterator[bytes]:
        cursor = None
        while True:
            found = ask(cursor)
            yield from (_line(kind, one) for one in found["items"])
            cursor = found["next_cursor"]
            if cursor is None:
                return

    # ------------------------------------------------------------------ agents

    def agents(
        self,
        *,
        status: str | None = None,
        name: str | None = None,
        run_id: str | None = None,
        q: str | None = None,
        cursor: str | None = None,
        limit: int = paging.LIMIT,
    ) -> Page:
        """Return a page of attempts of agents, the last to start first."""
        return agents.list_agents(
            self._here,
            status=paging.one_of("status", status, agents.STATUSES),
            name=paging.text("name", name),
            run_id=paging.text("run_id", run_id),
            q=paging.text("q", q),
            cursor=cursor,
            limit=paging.checked_limit(limit),
        )

    def agent(self, agent_id: str) -> dict[str, Any]:
        """Return one attempt; raises NotFoundError where there is none of this id."""
        return agents.agent(self._here, agent_id)

    def telemetry(self, agent_id: str) -> dict[str, Any]:
        """Return what an attempt used, by model, and its cache's statistics."""
        if self._prices is None:
            self._prices = Prices()
        return agents.telemetry(self._here, self._prices, agent_id)

    # ------------------------------------------------------------------ traces, logs, metrics

    def traces(
        self,
        *,
        q: str | None = None,
        service: str | None = None,
        status: str | None = None,
        since: When = None,
        until: When = None,
        cursor: str | None = None,
        limit: int = paging.LIMIT,
    ) -> Page:
        """Return a page of traces, the last to start first."""
        return traces.list_traces(
            self._here,
            q=paging.text("q", q),
            service=paging.text("service", service),
            status=paging.one_of("status", status, traces.STATUSES),
            since=paging.moment("from", since),
            until=paging.moment("to", until),
            cursor=cursor,
            limit=paging.checked_limit(limit),
        )

    def trace(self, trace_id: str) -> dict[str, Any]:
        """Return a trace with its spans, each parent before its children."""
        return traces.trace(self._here, trace_id)

    def logs(
        self,
        *,
        run_id: str | None = None,
        agent_id: str | None = None,
        trace_id: str | None = None,
        q: str | None = None,
        severity: int | None = None,
        cursor: str | None = None,
        limit: int = paging.LIMIT,
    ) -> Page:
        """Return a page of log records, the latest first."""
        return traces.list_logs(
            self._here,
            run_id=paging.text("run_id", run_id),
            agent_id=paging.text("agent_id", agent_id),
            trace_id=paging.text("trace_id", trace_id),
            q=paging.text("q", q),
            severity=None if severity is None else paging.number("severity", severity),
            cursor=cursor,
            limit=paging.checked_limit(limit),
        )

    def metrics(
        self, *, name: str | None = None, cursor: str | None = None, limit: int = paging.LIMIT
    ) -> Page:
        """Return a page of the latest points of metrics, by name."""
        return traces.list_metrics(
            self._here,
            name=paging.text("name", name),
            cursor=cursor,
            limit=paging.checked_limit(limit),
        )

    # ------------------------------------------------------------------ the runtime

    def runtime_status(self) -> dict[str, Any]:
        """Return how workers, breakers and queues stand."""
        return admin.status(self._here)

    def runtime_events(  # noqa: PLR0913 - the filters of the API
        self,
        *,
        layer: str | None = None,
        operation: str | None = None,
        reason_code: str | None = None,
        entity_id: str | None = None,
        task_id: str | None = None,
        since: When = None,
        until: When = None,
        cursor: str | None = None,
        limit: int = paging.LIMIT,
    ) -> Page:
        """Return a page of runtime events, the latest first."""
        return admin.events(
            self._here,
            layer=paging.one_of("layer", layer, LAYERS),
            operation=paging.one_of("operation", operation, OPERATIONS),
            reason_code=paging.text("reasonCode", reason_code),
            entity_id=paging.text("entityId", entity_id),
            task_id=paging.text("taskId", task_id),
            since=paging.moment("from", since),
            until=paging.moment("to", until),
            cursor=cursor,
            limit=paging.checked_limit(limit),
        )

    def tasks(
        self,
        *,
        status: str | None = None,
        stuck: bool | None = None,
        queue: str | None = None,
        q: str | None = None,
        cursor: str | None = None,
        limit: int = paging.LIMIT,
    ) -> Page:
        """Return a page of tasks, the last to change first."""
        return admin.tasks(
            self._here,
            status=paging.one_of("status", status, TASK_STATES),
            stuck=stuck,
            queue=paging.text("queue", queue),
            q=paging.text("q", q),
            cursor=cursor,
            limit=paging.checked_limit(limit),
        )

    def verify(self) -> dict[str, Any]:
        """Return whether the runtime is healthy, and what is not."""
        return admin.verify(self._here)

    def standing(self, now: int) -> Standing:
        """Return how things stand at a time in nanoseconds: what gauges are made from."""
        return standing.standing(self._here, now)

    def names(self, now: int) -> tuple[dict[str, int], dict[str, int]]:
        """Return the workflows and the queues of the last day, and when each was heard of."""
        return standing.names(self._here, now)

    @property
    def in_a_file(self) -> bool:
        """Whether the store is a file of SQLite, and not on a server."""
        return self._database.path is not None

    def size(self) -> int:
        """Return the bytes in use. On PostgreSQL all rows are looked at."""
        return retention.size(self._here)

    # ------------------------------------------------------------------ alerts

    def keep_alerts(self, told: Iterable[Alert]) -> int:
        """Take in what a notification says of alerts; return how many it said something new of."""
        return alerts.keep(self._here, told)

    def alerts(
        self, *, status: str | None = None, cursor: str | None = None, limit: int = paging.LIMIT
    ) -> Page:
        """Return a page of alerts, the last to begin first."""
        return alerts.list_alerts(
            self._here,
            status=paging.one_of("status", status, alerts.STATUSES),
            cursor=cursor,
            limit=paging.checked_limit(limit),
        )

    def firing(self) -> dict[str, int]:
        """Return how many alerts fire, by severity."""
        return alerts.count_firing(self._here)


def _line(kind: str, value: Any) -> bytes:
    return msgspec.json.encode({kind: value}) + b"\n"
