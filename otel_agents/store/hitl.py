"""Who waits for a human, and what the human says: lists, one wait, and answering it.

A wait is named by its id, which the user may have given and may use again, or by the id of its
scope, which names one asking. By an id that is used again the one asked last is meant, unless
several of them are open.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from otel_agents.errors import AlreadyAnsweredError, InvalidInputError, NotFoundError
from otel_agents.signals import LOST_AFTER_SECONDS, Ids, Signal, signal_id
from otel_agents.state.times import rfc3339
from otel_agents.state.view import moment
from otel_agents.store import paging
from otel_agents.store.ingest import write_signals
from otel_agents.store.rows import short
from otel_agents.store.waits import ANSWERED, DECISIONS, MOST_TEXT
from otel_agents.values import redact
from otel_agents.vocabulary import ANSWER, ANSWERED_BY, DECISION, WAIT_ID

if TYPE_CHECKING:
    from otel_agents.store.database import Connection, Database
    from otel_agents.store.writer import Writer

STATUSES: Final = ("open", "answered", "closed", "lost")
FILTERS: Final = (*STATUSES, "all")
# A wait outside of any run has no heartbeat: after a day nobody waits any more.
_ORPHANED: Final = 86_400 * 10**9
_LATE: Final = int(LOST_AFTER_SECONDS * 1e9)
_ANSWER: Final = ("decision", "answer", "answered_by", "answered_ns")
_MOST: Final = 200  # waits of one id that are looked at

# A wait that went on without an answer is closed; so is one whose run is over, and one that was
# asked anew by the same run. One that nobody waits for any more is lost, and may be answered: a
# process that goes on with the run finds the answer. A call of a tool that was put off outlives
# its process: it is open although nothing is heard of the run.
_WAITS: Final = """
    SELECT waits.*, runs.ended_ns AS run_ended_ns, CASE
        WHEN waits.decision <> '' THEN 'answered'
        WHEN waits.ended_ns IS NOT NULL THEN 'closed'
        WHEN EXISTS (SELECT 1 FROM waits AS later WHERE later.wait_id = waits.wait_id
            AND later.run_id = waits.run_id AND later.asked_ns > waits.asked_ns) THEN 'closed'
        WHEN runs.held AND waits.tool_call_id <> '' THEN 'open'
        WHEN runs.ended_ns IS NOT NULL THEN 'closed'
        WHEN waits.run_id = '' AND waits.asked_ns < ? THEN 'lost'
        WHEN runs.updated_ns < ? THEN 'lost'
        ELSE 'open' END AS status
    FROM waits LEFT JOIN runs ON runs.run_id = waits.run_id AND waits.run_id <> ''
"""
_NAMED: Final = f"""
    SELECT * FROM ({_WAITS} WHERE waits.wait_id = ? OR waits.scope_id = ?) AS found
    ORDER BY asked_ns DESC, scope_id, run_id LIMIT {_MOST}
"""  # noqa: S608 - of this module
# An earlier asking of the same that its process never came back to: its answer holds still.
_BEFORE: Final = """
    SELECT * FROM waits WHERE wait_id = ? AND run_id = ? AND run_id <> '' AND ended_ns IS NULL
        AND decision <> '' AND asked_ns <= ? ORDER BY asked_ns DESC LIMIT 1
"""


class Hitl:
    """The waits of one store."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    def list(
        self,
        *,
        status: str = "open",
        run_id: str | None = None,
        cursor: str | None = None,
        limit: int = paging.LIMIT,
    ) -> dict[str, Any]:
        """Return a page of waits, the last to be asked first."""
        paging.one_of("status", status, FILTERS)
        paging.checked_limit(limit)
        now = time.time_ns()
        inner, outer = ["TRUE"], ["TRUE"]
        values: list[Any] = _times(now)
        if status in {"open", "lost"}:
            inner.append("waits.ended_ns IS NULL")
        if (known := paging.text("run_id", run_id)) is not None:
            inner.append("waits.run_id = ?")
            values.append(short(known))
        if status != "all":
            outer.append("status = ?")
            values.append(status)
        position = paging.decode("hitl", cursor, int, str, str)
        if position is not None:
            asked, scope_id, run = position
            outer.append(
                "(asked_ns < ? OR (asked_ns = ? AND (scope_id > ? OR (scope_id = ? "
                "AND run_id > ?))))"
            )
            values += [asked, asked, scope_id, scope_id, run]
        rows = self._database.here.rows(
            f"SELECT * FROM ({_WAITS} WHERE {' AND '.join(inner)}) AS found "  # noqa: S608
            f"WHERE {' AND '.join(outer)} ORDER BY asked_ns DESC, scope_id, run_id LIMIT ?",
            [*values, limit + 1],
        )
        return paging.page(
            "hitl",
            rows,
            limit,
            lambda row: (row["asked_ns"], row["scope_id"], row["run_id"]),
            lambda row: _item(row, now),
        )

    def waiting(self) -> int:
        """Return how many waits are open."""
        row = self._database.here.row(
            f"SELECT COUNT(*) AS number FROM ({_WAITS} WHERE waits.ended_ns IS NULL) AS found "  # noqa: S608
            "WHERE status = 'open'",
            _times(time.time_ns()),
        )
        return 0 if row is None else int(row["number"])

    def get(self, wait_id: str) -> dict[str, Any]:
        """Return a wait by its id or its scope's.

        One that is asked again by the same run, since its process was lost, has the answer that
        came meanwhile.

        Raises:
            NotFoundError: There is none.

        """
        connection = self._database.here
        row = _meant(_named(connection, wait_id))
        if row["status"] == "open":
            place = row["wait_id"], row["run_id"], row["asked_ns"]
            found = connection.row(_BEFORE, place)
            if found is not None:
                row = {**row, **{name: found[name] for name in _ANSWER}, "status": "answered"}
        return _item(row, time.time_ns())

    def answer_to(self, wait_id: str) -> dict[str, Any] | None:
        """Return the answer that whoever waits is to take, or None while there is none.

        A wait that ended holds none: its id may be used again, and what was said then is not said
        now.
        """
        try:
            found = self.get(wait_id)
        except NotFoundError:
            return None
        return found if found["status"] == "answered" and found["closed_at"] is None else None

    def answer(
        self, wait_id: str, decision: str, text: str | None, by: str
    ) -> tuple[dict[str, Any], Signal]:
        """Write what a human says; return the wait as it is now, and the signal that says so.

        Of two that answer at once the second is told that there is an answer.

        Raises:
            NotFoundError: There is no such wait.
            InvalidInputError: The answer is too long or empty, or several waits of this id are
                open.
            AlreadyAnsweredError: It has an answer, or nobody waits for one any more.

        """
        said = checked(decision, text)
        connection = self._database.here
        with connection.writing():
            row = _answerable(_named(connection, wait_id))
            signal = _signal(row, decision, said, by)
            write_signals(connection, [signal])
        self._writer.wrote()
        return self.get(row["scope_id"]), signal


def checked(decision: str, text: str | None) -> str:
    """Return the text of an answer without secrets; raises InvalidInputError for none."""
    paging.one_of("decision", decision, DECISIONS)
    said = text or ""
    if len(said) > MOST_TEXT:
        message = f"answer: it has {len(said)} characters, and may have {MOST_TEXT}."
        raise InvalidInputError(message, parameter="answer")
    if decision == "answered" and not said.strip():
        message = "answer: say something, or approve or reject."
        raise InvalidInputError(message, parameter="answer")
    return str(redact("", said))


def _times(now: int) -> list[Any]:
    return [now - _ORPHANED, now - _LATE]


def _named(connection: Connection, wait_id: str) -> list[dict[str, Any]]:
    """Return the waits of an id, the last to be asked first; raises NotFoundError for none."""
    known = short(paging.text("id", wait_id) or "")
    rows = connection.rows(_NAMED, [*_times(time.time_ns()), known, known])
    if not rows:
        message = f"No wait has the id {wait_id[:100]}: `otel-agents hitl list --all` has them."
        raise NotFoundError(message)
    # A scope's id is one asking; somebody else's wait may have been given the same text as its id.
    return [row for row in rows if row["wait_id"] == known] or rows


def _meant(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return next((row for row in rows if row["status"] == "open"), rows[0])


def _answerable(rows: list[dict[str, Any]]) -> dict[str, Any]:
    opened = [row for row in rows if row["status"] == "open"]
    if len({row["run_id"] for row in opened}) > 1:
        ids = ", ".join(row["scope_id"] for row in opened[:5])
        message = f"{len(opened)} waits of different runs have this id: name one of {ids}."
        raise InvalidInputError(message, parameter="id")
    row = _meant(rows)
    if row["status"] == "answered":
        how = f" by {row['answered_by']}" if row["answered_by"] else ""
        message = f"The wait was {row['decision']} already{how}."
        raise AlreadyAnsweredError(message)
    if row["status"] == "closed":
        message = "Nobody waits for this any more: the wait is closed."
        raise AlreadyAnsweredError(message)
    return row


def _signal(row: dict[str, Any], decision: str, text: str, by: str) -> Signal:
    def given(name: str) -> str | None:
        return row[name] or None

    return Signal(
        id=signal_id(),
        kind="human",
        edge="fact",
        name=ANSWERED,
        time=time.time_ns(),
        scope_id=row["scope_id"],
        ids=Ids(
            run_id=given("run_id"),
            workflow=given("workflow"),
            phase=given("phase"),
            agent=given("agent"),
            task_id=given("task_id"),
        ),
        trace_id=row["trace_id"],
        span_id=row["span_id"],
        attributes={
            WAIT_ID.key: row["wait_id"],
            DECISION.key: decision,
            **({ANSWER.key: text} if text else {}),
            ANSWERED_BY.key: by,
        },
    )


def _item(row: dict[str, Any], now: int) -> dict[str, Any]:
    """Return a wait as data; its age is how long it has been, or was, waited for."""
    status = row["status"]
    closed = row["ended_ns"]
    if status == "closed":
        closed = closed or row["run_ended_ns"] or row["updated_ns"]
    until = closed or row["answered_ns"] or now
    names = ("workflow", "phase", "agent", "task_id", "reason", "tool", "tool_call_id")
    return {
        "id": row["wait_id"],
        "scope_id": row["scope_id"],
        "run_id": row["run_id"] or None,
        **{name: row[name] or None for name in names},
        "attempts": row["attempts"],
        "last_error": row["last_error"] or None,
        "priority": row["priority"] or None,
        "status": status,
        "asked_at": rfc3339(row["asked_ns"]),
        "age_seconds": round(max(0, until - row["asked_ns"]) / 1e9, 3),
        "decision": row["decision"] or None,
        "answer": row["answer"] or None,
        "answered_by": row["answered_by"] or None,
        "answered_at": moment(row["answered_ns"]),
        "closed_at": moment(closed),
        "trace_id": row["trace_id"] or None,
        "span_id": row["span_id"] or None,
    }
