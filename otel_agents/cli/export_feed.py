"""The events of a run as the rows of a page: as many as a file that is to be shared may hold."""

from __future__ import annotations

import json
from collections import Counter, deque
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from otel_agents.cli.told import Told

_MOST_BYTES: Final = 3_900_000  # of all rows, so that the page stays below 5 MB
_LONGEST: Final = 300  # characters of a field
_MOST_FIELDS: Final = 16
_ROW_BYTES, _FIELD_BYTES = 240, 11  # of what stands around the text
# By type: the icon, and the field that the row begins with.
_LOOKS: Final = {
    "task_queued": ("k-task", "task_id"),
    "agent_started": ("k-agent", "agent"),
    "agent_completed": ("k-agent-done", "agent"),
    "validation_complete": ("k-validation", "task_id"),
    "hitl_escalated": ("k-human", "task_id"),
    "budget_warning": ("k-budget", "scope"),
    "budget_exceeded": ("k-budget-over", "scope"),
    "critic_decision": ("k-critic", "agent"),
    "runtime": ("k-runtime", "reason_code"),
}
_TONES: Final = {
    "agent_started": "live",
    "hitl_escalated": "wait",
    "budget_warning": "wait",
    "budget_exceeded": "bad",
}
_VERDICTS: Final = {
    "success": "good", "approved": "good", "passed": "good", "failed": "bad", "rejected": "bad",
}  # fmt: skip


class Row(NamedTuple):
    """One event; `offset` is milliseconds into the run, `verdict` a word of its payload."""

    type: str
    icon: str
    tone: str
    clock: str
    offset: float | None
    name: str
    verdict: str
    fields: list[tuple[str, str]]
    size: int


class Feed:
    """The rows of a run: the first and the last ones where there are too many, and how many.

    Args:
        begin: When the run started.

    """

    def __init__(self, begin: datetime | None) -> None:
        self._begin = begin
        self.types: Counter[str] = Counter()
        self.head: list[Row] = []
        self.tail: deque[Row] = deque()
        self._head_bytes = 0
        self._tail_bytes = 0

    def add(self, told: Told) -> None:
        """Add the next event."""
        row = self._row(told)
        self.types[row.type] += 1
        if not self.tail and self._head_bytes + row.size <= _MOST_BYTES // 2:
            self.head.append(row)
            self._head_bytes += row.size
            return
        self.tail.append(row)
        self._tail_bytes += row.size
        while self._tail_bytes > _MOST_BYTES // 2 and len(self.tail) > 1:
            self._tail_bytes -= self.tail.popleft().size

    @property
    def total(self) -> int:
        """How many events there are."""
        return self.types.total()

    @property
    def left_out(self) -> int:
        """How many of them have no row."""
        return self.total - len(self.head) - len(self.tail)

    def _row(self, told: Told) -> Row:
        event = told.event
        icon, first = _LOOKS.get(event.type, ("dot", ""))
        payload = {
            key: "unknown" if value is None else value
            for key, value in event.payload.items()
            if value is not None or key == "cost_usd"  # which is not the same as none
        }
        verdict = _verdict(payload)
        name = _worded(payload.pop(first)) if first in payload else ""
        for key in ("status", "result", "rejected"):
            if verdict:
                payload.pop(key, None)
        fields = [(str(key)[:_LONGEST], _worded(value)) for key, value in payload.items()]
        if len(fields) > _MOST_FIELDS:
            fields[_MOST_FIELDS:] = [("and", f"{len(fields) - _MOST_FIELDS} more fields")]
        when = datetime.fromtimestamp(event.time, UTC)
        offset = None if self._begin is None else (when - self._begin).total_seconds() * 1000
        size = _ROW_BYTES + sum(
            _FIELD_BYTES + len(escape(part).encode()) for field in fields for part in field
        )
        return Row(
            type=event.type,
            icon=icon,
            tone=_VERDICTS.get(verdict) or _TONES.get(event.type, "off"),
            clock=when.strftime("%H:%M:%S.") + f"{when.microsecond // 1000:03d}",
            offset=offset,
            name=name,
            verdict=verdict,
            fields=fields,
            size=size + len(name.encode()),
        )


def _verdict(payload: dict[str, Any]) -> str:
    """Return the word that says how it went, if any."""
    if isinstance(payload.get("rejected"), bool):
        return "rejected" if payload["rejected"] else "approved"
    for key in ("status", "result"):
        value = payload.get(key)
        if isinstance(value, bool):
            return "passed" if value else "failed"
        if isinstance(value, str) and value in _VERDICTS:
            return value
    return ""


def _worded(value: Any) -> str:
    if isinstance(value, str):
        text = value
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, float):
        text = f"{value:.9g}"
    elif isinstance(value, list) and all(isinstance(each, str) for each in value):
        text = ", ".join(value)
    else:
        text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
