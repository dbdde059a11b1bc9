"""A reading of a run as lines of styled text, for a terminal of any size."""

from __future__ import annotations

import shlex
from collections import Counter
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len
from rich.text import Text

from otel_agents.cli.layout import STATES, failure, in_ascii, state, table
from otel_agents.cli.rows import Body
from otel_agents.cli.text import budget, cost, count, duration, percent, plural, roughly
from otel_agents.state.times import rfc3339
from otel_agents.text import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from otel_agents.state.report import RunReport

# What is left away, step by step, where a terminal is too low: how many agents that have not
# completed are listed one by one in a phase, and whether what went well is listed.
_LEVELS: Final = ((20, True), (20, False), (6, False), (2, False), (0, False))
_BAR: Final = range(5, 31)  # columns of the bar
_MOST_BUDGETS: Final = 5  # budgets that are told one by one
_BUDGET_STYLES: Final = {"warning": "yellow", "exceeded": "red"}
_LABEL: Final = 8  # columns of the labels of the totals
_WAITS: Final = 2  # waits for humans that are listed
_TOLD: Final = 0.1  # seconds of waiting that are told of


def lines(
    read: RunReport,
    kpis: Sequence[str] = (),
    *,
    now: int,
    width: int,
    height: int | None = None,
    ascii_only: bool = False,
) -> list[Text]:
    """Return a reading of a run as lines.

    Args:
        read: The reading.
        kpis: Those of the KPIs that there are, each in a few words.
        now: The time, in nanoseconds since the epoch.
        width: How many columns there are.
        height: How many lines there are; less important ones are left out to fit. None: no limit.
        ascii_only: Use no character outside ASCII for signs and bars.

    """
    found = _fitted(read, kpis, now, width, height)
    for line in found:
        line.truncate(width, overflow="ellipsis")
    return [in_ascii(line) for line in found] if ascii_only else found


def _fitted(
    read: RunReport, kpis: Sequence[str], now: int, width: int, height: int | None
) -> list[Text]:
    top, foot = list(_header(read, now, width)), list(_totals(read, kpis, width))
    body: list[Text] = []
    for most, well in _LEVELS:
        body = table(list(Body(read, width, most, well=well).rows()), width)
        found = [*top, *([Text(), *body] if body else []), Text(), *foot]
        if height is None or len(found) <= height:
            return found
    # The sums stay, the body gives way.
    room = max(1, (height or 0) - len(top) - len(foot))
    if len(body) > room:
        hidden = len(body) - room + 1
        body = [*body[: room - 1], Text(f"… {plural(hidden, 'more line')}", style="dim")]
    return [*top, *body, *foot][:height]


def _header(read: RunReport, now: int, width: int) -> Iterator[Text]:
    title = Text(visible(read.workflow) or "run", style="bold")
    title = Text.assemble(title, "  ", state(read.status))
    named = Text(f"run {visible(read.id)}", style="dim")
    space = width - title.cell_len - named.cell_len
    if space > 1:
        yield Text.assemble(title, " " * space, named)
    else:
        yield title
        yield named
    yield _progress(read, now, width)
    yield from _waits(read, now)
    if read.iteration is not None:
        most = f" of at most {read.iterations}" if read.iterations else ""
        yield Text(f"iteration {read.iteration}{most}")
    if read.goal:
        yield Text.assemble(("goal  ", "dim"), visible(read.goal))
    if read.error is not None:
        yield from failure(read.error, width)


def _waits(read: RunReport, now: int) -> Iterator[Text]:
    """Yield who is waited for since when, and what to type."""
    for wait in read.waits[:_WAITS]:
        since = f"{rfc3339(wait.since)[11:19]} UTC ({duration((now - wait.since) / 1e9)})"
        asked = f": {visible(wait.reason)}" if wait.reason else ""
        line = Text(f"waiting for a human since {since}", style=STATES["waiting"][1])
        yield line.append(asked, style="default")
        if wait.decision:
            yield Text(f"  answered ({visible(wait.decision)}), not taken yet", style="dim")
            continue
        hint = f"  otel-agents hitl resolve {shlex.quote(visible(wait.id))} --approve"
        yield Text(hint, style="dim")
    more = len(read.waits) - _WAITS
    if more > 0:
        yield Text(f"  {count(more)} more: otel-agents hitl list", style="dim")


def _progress(read: RunReport, now: int, width: int) -> Text:
    said = [] if read.share is None else [percent(read.share)]
    if not read.over:
        waited = f", {duration(read.waited)} of it waiting" if read.waited >= _TOLD else ""
        said.append(f"{duration(read.seconds)} so far{waited}")
        if read.eta is not None:
            said.append(f"about {roughly(read.eta)} left" if read.eta >= 1 else "due now")
        said.append(f"updated {_ago(now, read.updated)}")
    elif read.ended is not None:
        waited = f", {duration(read.waited)} of it waiting" if read.waited >= _TOLD else ""
        said += [f"took {duration(read.seconds)}{waited}", f"ended {_ago(now, read.ended)}"]
    else:
        said += [f"{duration(read.seconds)} seen", f"last heard of {_ago(now, read.updated)}"]
    text = Text("  ".join(said))
    size = min(_BAR[-1], width - text.cell_len - 2)
    if read.share is None or size < _BAR[0]:
        return text
    full = int(size * read.share)
    style = STATES[read.status][1]
    return Text.assemble(("█" * full, style), ("░" * (size - full), "dim"), "  ", text)


def _ago(now: int, then: int) -> str:
    seconds = (now - then) / 1e9
    return f"{roughly(seconds)} ago" if seconds >= 1 else "just now"


def _totals(read: RunReport, kpis: Sequence[str], width: int) -> Iterator[Text]:
    usage = read.usage
    agents = Counter(agent.status for agent in read.agents)
    if agents:
        yield from _total("agents", [f"{n} {word}" for word, n in agents.items()], width)
    if read.tasks:
        said = [f"{number} {visible(word).lower()}" for word, number in read.tasks.items()]
        yield from _total("tasks", said, width)
    least = "" if usage.complete else "at least "
    parts = [
        (usage.input_tokens, "input"),
        (usage.cache_read_tokens, "of it read from cache"),
        (usage.cache_write_tokens, "of it written to cache"),
        (usage.output_tokens, "output"),
        (usage.reasoning_tokens, "of it reasoning"),
    ]
    said = [f"{least}{count(usage.total_tokens)}"]
    said += [f"{count(number)} {what}" for number, what in parts if number]
    yield from _total("tokens", said, width)
    said = [plural(usage.requests, "request"), plural(usage.tool_calls, "tool call")]
    yield from _total("calls", said, width)
    style = "yellow" if read.unpriced else ""
    yield from _total("cost", [cost(read.usd, read.unpriced)], width, style)
    yield from _budgets(read)
    if kpis:
        yield from _total("KPIs", kpis, width)


def _budgets(read: RunReport) -> Iterator[Text]:
    """Yield a line for each of the budgets that are spent most, of what is left how many."""
    worst = sorted(read.budgets, key=lambda one: -one.share)
    for number, one in enumerate(worst[:_MOST_BUDGETS]):
        label = "" if number else "budgets"
        name = visible(" ".join(part for part in (one.scope, one.name) if part))
        spent, limit = (budget(amount, one.unit) for amount in (one.spent, one.limit))
        said = f"{name} {spent} of {limit}, {percent(one.share)}"
        if one.state != "within":
            said += f" {one.state}" + (", enforced" if one.enforced else "")
        style = _BUDGET_STYLES.get(one.state, "")
        yield Text.assemble((f"{label:<{_LABEL}}", "dim"), (said, style))
    if len(worst) > _MOST_BUDGETS:
        more = len(worst) - _MOST_BUDGETS
        yield Text(f"{'':<{_LABEL}}… {more:,} more, spent less", style="dim")


def _total(label: str, said: Sequence[str], width: int, style: str = "") -> Iterator[Text]:
    """Yield a labelled list, on more lines where one is too narrow."""
    line = Text.assemble((f"{label:<{_LABEL}}", "dim"), (said[0], style))
    for part in said[1:]:
        more = f" · {part}"
        if line.cell_len + cell_len(more) <= width:
            line.append(more)
        else:
            yield line
            line = Text(f"{'':<{_LABEL}}{part}")
    yield line
