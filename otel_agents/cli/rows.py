"""The body of a drawn run: its phases, and in each the agents and what was checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from otel_agents.cli.agents import Node, gather, tree
from otel_agents.cli.layout import TIMES, WIDE, Row, failure, state, styled
from otel_agents.cli.text import count, duration, money, percent, plural, short
from otel_agents.text import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_agents.signals import Failure
    from otel_agents.state.report import Check, PhaseReport, RunReport
    from otel_agents.usage import Usage

_NARROW = 80  # below this many columns notes are cut short
_FEW = 4  # outcomes of one check that are told one by one


class Body:
    """Makes the rows of one reading.

    Args:
        read: The reading.
        width: How many columns there are.
        most: How many agents that have not completed are listed one by one in a phase.
        well: Whether what went well is listed too.

    """

    def __init__(self, read: RunReport, width: int, most: int, *, well: bool) -> None:
        self._read = read
        self._width = width
        self._most = most
        self._well = well
        self._roots = tree(read.agents)
        # An error goes up from agent to phase; it is told where it arose.
        self._told: set[Failure] = set()

    def rows(self) -> Iterator[Row]:
        """Yield the rows, phases in the order they started; what stands in no phase comes last."""
        for phase in self._read.phases:
            inside = list(self._inside(phase.name, 1))
            yield self._phase(phase)
            if phase.error not in self._told:
                yield from self._error(phase.error, 1)
            yield from inside
        yield from self._inside("", 0)

    def _phase(self, phase: PhaseReport) -> Row:
        notes = [f"{TIMES}{phase.iterations}"] if phase.iterations > 1 else []
        if phase.share is not None and phase.status != "completed":
            notes.append(percent(phase.share))
        name = state(phase.status, phase.name)
        name.stylize("bold", 2)
        return Row(
            name,
            (
                styled(phase.status),
                Text(" ".join(notes)),
                Text("" if phase.seconds is None else duration(phase.seconds)),
                self._tokens(phase.usage),
                _cost(phase.usage, phase.usd),
            ),
        )

    def _inside(self, phase: str, depth: int) -> Iterator[Row]:
        nodes, hidden = gather(self._roots.get(phase, []), self._most, well=self._well)
        yield from self._agents(nodes, depth)
        for status, number in hidden.items():
            more = state(status, f"{number} more {status}" if nodes else f"{number} {status}")
            yield Row(Text("  " * depth).append_text(more))
        for check in self._read.checks:
            if check.phase == phase:
                yield from self._check(check, depth)

    def _agents(self, nodes: list[Node], depth: int) -> Iterator[Row]:
        for node in nodes:
            name = Text("  " * depth).append_text(state(node.status, node.name or "agent"))
            seconds = duration(node.seconds / node.number)
            if node.number > 1:
                name.append(f" {TIMES}{node.number}")
                seconds = f"~{seconds}"
            if node.model and self._width >= WIDE:
                name.append(f"  {visible(node.model)}", style="dim")
            yield Row(
                name,
                (
                    styled(node.status),
                    Text(self._note(node)),
                    Text(seconds),
                    self._tokens(node.usage),
                    _cost(node.usage, node.usd),
                ),
            )
            if all(each.error != node.error for each in node.children):
                yield from self._error(node.error, depth)
            yield from self._agents(node.children, depth + 1)

    def _note(self, node: Node) -> str:
        if node.status == "completed" and (node.attempt == 1 or node.number > 1):
            return ""
        if self._width < _NARROW:
            return f"try {node.attempt}"
        note = f"attempt {node.attempt}"
        if node.iteration is None or node.iteration == self._read.iteration:
            return note
        return f"{note}, iteration {node.iteration}"

    def _check(self, check: Check, depth: int) -> Iterator[Row]:
        word, words = _told(check)
        if not self._well and word not in {"waiting", "open", "failed"}:
            return
        label = "human asked" if check.kind == "human" else check.kind
        line = Text("  " * depth).append_text(state(word, f"{label} {check.name}".strip()))
        line.append("  ").append_text(Text(words, style=styled(word).style))
        if check.kind == "human":
            line.append(f"  {duration(check.seconds)}")
        if check.detail:
            line.append(f"  {visible(check.detail)}", style="dim")
        yield Row(line)
        yield from self._error(check.error, depth)

    def _error(self, error: Failure | None, depth: int) -> Iterator[Row]:
        if error is None:
            return
        indent = "  " * (depth + 1)
        if error in self._told:
            yield Row(Text(f"{indent}{visible(error.type)}, as above", style="red"))
            return
        self._told.add(error)
        for line in failure(error, self._width, indent):
            yield Row(line)

    def _tokens(self, usage: Usage) -> Text:
        number = usage.total_tokens
        if not number:
            return Text()
        return Text(plural(number, "token") if self._width >= WIDE else short(number))


def _cost(usage: Usage, usd: float | None) -> Text:
    if usd is not None:
        return Text(money(usd))
    return Text("unpriced", style="yellow") if usage.total_tokens else Text()


def _told(check: Check) -> tuple[str, str]:
    """Return the state of a check, and how it went each time it came up."""
    good = {"human": "answered", "delivery": "delivered"}.get(check.kind, "passed")
    open_ = "waiting" if check.kind == "human" else "open"
    special = {None: open_, "success": good, "cancellation": "cancelled", "skip": "skipped"}
    words = [special.get(outcome, "failed") for outcome in check.outcomes]
    # A block of the program's own that ended, and nobody said anything.
    for number, answered in enumerate(check.answered):
        if words[number] == good and not answered:
            words[number] = "closed"
    if len(words) > _FEW:
        return words[-1], f"{words[-1]}, {good} {count(words.count(good))} of {len(words)} times"
    return words[-1], ", then ".join(words)
