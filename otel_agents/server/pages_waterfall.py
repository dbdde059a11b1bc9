"""Scopes and spans as the rows of a waterfall: their order, depth and place on the axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_agents.server.pages_text import look, moment
from otel_agents.vocabulary import KINDS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

DEEPEST: Final = 12  # a name is not indented further than this
SPAN: Final = "span:"  # before the keys of spans, where scopes stand beside them
_THINNEST: Final = 0.3  # percent of the axis: what is shorter can still be seen
_STEPS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
_TICKS: Final = 6
_TELLING_MS: Final = 1.0
# Kinds of spans, told from the operation's name in the conventions.
_OPERATIONS: Final = {
    "chat": "model", "text_completion": "model", "generate_content": "model",
    "embeddings": "model", "execute_tool": "tool", "invoke_agent": "agent",
    "invoke_workflow": "run",
}  # fmt: skip


class Spent(NamedTuple):
    """Tokens and USD; `more` says that some usage or price is not known."""

    tokens: int = 0
    usd: float | None = None
    more: bool = False

    def plus(self, other: Spent) -> Spent:
        """Return the sum."""
        known = [each for each in (self.usd, other.usd) if each is not None]
        return Spent(
            self.tokens + other.tokens, sum(known) if known else None, self.more or other.more
        )


class Row(NamedTuple):
    """One line: what it tells of, and its bar from `left` over `width` percent of the axis.

    `opens` says it has rows below it; `live` that its end is not known yet; `spent` are tokens
    and USD of it and all below it, where it or something below it is an agent.
    """

    item: dict[str, Any]
    key: str
    parent: str
    depth: int
    opens: bool
    left: float
    width: float
    live: bool
    instant: bool
    spent: Spent

    @property
    def label(self) -> str:
        """What the row is called: its name, or else its kind, an iteration with its number."""
        number = self.item.get("iteration") if self.item["kind"] == "iteration" else None
        unnamed = f"{self.item['kind']} {number}" if number else str(self.item["kind"])
        return str(self.item["name"] or unnamed)


class Chart(NamedTuple):
    """The rows that are shown, how many there are in all, the axis' length and its ticks."""

    rows: list[Row]
    total: int
    length: float
    ticks: list[tuple[float, float]]


def chart(items: Sequence[dict[str, Any]], length: float, most: int) -> Chart:
    """Lay items out.

    Args:
        items: Each with `id`, `parent_id`, `start_ms` and `duration_ms`, None while it goes on.
        length: The least length of the axis, in milliseconds; what goes on is drawn to its end.
        most: How many rows to show.

    """
    ends = (float(item["start_ms"]) + float(item["duration_ms"] or 0) for item in items)
    length = max(length, 1.0, *ends) if items else max(length, 1.0)
    tree = ordered(items)
    sums = _sums(tree)
    rows = [
        _row(item, depth, opens, length, spent)
        for (item, depth, opens), spent in zip(tree[:most], sums, strict=False)
    ]
    return Chart(rows, len(items), length, _ticks(length))


def _sums(tree: list[tuple[dict[str, Any], int, bool]]) -> list[Spent]:
    """Return what each row of a tree spent together with all that stands below it."""
    sums = [_own(item) for item, _, _ in tree]
    above: list[int] = []  # the rows that a row stands below
    parents = []
    for at, (_, depth, _) in enumerate(tree):
        del above[depth:]
        parents.append(above[-1] if above else None)
        above.append(at)
    for at in range(len(tree) - 1, -1, -1):
        parent = parents[at]
        if parent is not None:
            sums[parent] = sums[parent].plus(sums[at])
    return sums


def _own(item: dict[str, Any]) -> Spent:
    usage = item["usage"]
    tokens = usage["total_tokens"] if usage else 0
    usd = item["cost_usd"] if tokens or item["cost_usd"] else None
    unsure = bool(tokens) and (item["cost_usd"] is None or not usage["complete"])
    return Spent(tokens, usd, unsure)


def _row(item: dict[str, Any], depth: int, opens: bool, length: float, spent: Spent) -> Row:
    begin = min(max(0.0, float(item["start_ms"])), length)
    lasted = item["duration_ms"]
    if item["kind"] == "human" and item["status"] == "running":
        item = {**item, "status": "waiting"}
    # A lost scope's end is as unknown as a running one's, but nothing of it goes on.
    live = lasted is None and look(str(item["status"])).tone in {"live", "wait"}
    long = length - begin if live else max(0.0, float(lasted or 0))
    left = round(begin / length * 100, 3)
    width = round(max(_THINNEST, min(long / length * 100, 100 - left)), 3)
    left = min(left, 100 - width)
    return Row(
        item, str(item["id"]), str(item["parent_id"] or ""), min(depth, DEEPEST), opens,
        left, width, live, instant=not live and not long, spent=spent,
    )  # fmt: skip


def ordered(items: Sequence[dict[str, Any]]) -> list[tuple[dict[str, Any], int, bool]]:
    """Return items as a tree read from the top: each with its depth, and whether it has children.

    Brothers stand by their start. A parent that is not there makes a root; so does, in a circle
    of parents, the one that started first. Neither depth nor circles can exhaust the stack.
    """
    known = {str(item["id"]) for item in items}
    below: dict[str, list[dict[str, Any]]] = {}
    roots = []
    for item in sorted(items, key=lambda each: float(each["start_ms"])):
        parent = str(item["parent_id"] or "")
        if parent in known and parent != str(item["id"]):
            below.setdefault(parent, []).append(item)
        else:
            roots.append(item)
    found: list[tuple[dict[str, Any], int, bool]] = []
    seen: set[int] = set()
    by_start = sorted(items, key=lambda each: float(each["start_ms"]))
    for start in (*roots, *by_start):
        stack = [(start, 0)]
        while stack:
            item, depth = stack.pop()
            if id(item) in seen:
                continue
            seen.add(id(item))
            children = below.get(str(item["id"]), [])
            found.append((item, depth, bool(children)))
            stack.extend((child, depth + 1) for child in reversed(children))
    return found


def without_tellings(items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out tasks that were only told of: put into a queue or taken off it, in no time."""
    parents = {item["parent_id"] for item in items}
    return [
        item
        for item in items
        if item["kind"] != "task"
        or item["id"] in parents
        or item["duration_ms"] is None
        or item["duration_ms"] >= _TELLING_MS
    ]


def _ticks(length: float) -> list[tuple[float, float]]:
    """Return the axis' ticks as (percent, milliseconds): round times, a handful of them."""
    seconds = length / 1000
    if seconds < 1:
        step = next(
            (each for each in (1, 2, 5, 10, 20, 50, 100, 200) if length / each <= _TICKS), 200
        )
        marks = [float(each) for each in range(0, int(length) + 1, step)]
    else:
        each = next((step for step in _STEPS if seconds / step <= _TICKS), _STEPS[-1])
        each = max(each, int(seconds / (_TICKS * 2)))
        marks = [float(mark * 1000) for mark in range(0, int(seconds) + 1, each)]
    return [(round(mark / length * 100, 2), mark) for mark in marks if mark / length < 0.97]  # noqa: PLR2004


def span_item(span: dict[str, Any]) -> dict[str, Any]:
    """Return a span as an item of its trace."""
    return {
        "id": span["span_id"],
        "parent_id": span["parent_id"],
        "kind": kind_of(span),
        "name": span["name"],
        "status": "error" if span["status"] == "error" else "ok",
        "start_ms": span["start_ms"],
        "duration_ms": span["duration_ms"] or 0,
        "usage": None,
        "cost_usd": None,
        "attempt": None,
    }


def placed(span: dict[str, Any], begin: datetime | None, scopes: dict[str, str]) -> dict[str, Any]:
    """Return a span as an item beside a run's scopes.

    Args:
        span: The span.
        begin: When the run started; without it the span stands where it does in its trace.
        scopes: Ids of the run's scopes by those of their spans.

    """
    item = span_item(span)
    parent = str(span["parent_id"] or "")
    item["id"] = f"{SPAN}{span['span_id']}"
    item["parent_id"] = scopes.get(parent, f"{SPAN}{parent}" if parent else "")
    when = moment(span["started_at"])
    if begin is not None and when is not None:
        item["start_ms"] = (when - begin).total_seconds() * 1000
    return item


def kind_of(span: dict[str, Any]) -> str:
    """Return what kind of work a span is, by the conventions; `span` where they say nothing."""
    operation = span["attributes"].get("gen_ai.operation.name")
    if isinstance(operation, str) and operation in _OPERATIONS:
        return _OPERATIONS[operation]
    first = str(span["name"]).partition(" ")[0]
    return _OPERATIONS.get(first, first if first in KINDS else "span")
