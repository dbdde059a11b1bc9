"""What the fold of the KPIs keeps one by one: tasks, agents at them, and spans of time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

Span = tuple[int, int]
"""A start and an end, in µs since the epoch."""

LATEST: Final = 1 << 62
_LONGEST_ID: Final = 200  # longer ids are kept as a beginning and a digest
_NONE: Final = (0, 0)
_MOST: Final = 1e12  # of any amount, as event_types has it


class Attempt(msgspec.Struct, array_like=True, gc=False):
    """One attempt that events name by its id: start, end and the µs that its end says it took.

    `asked` is when it asked humans, `waits` are the times it waited for them that are over. Few
    wait, and there are many attempts: an empty tuple takes no memory of its own.
    """

    start: int = LATEST
    end: int = -1
    duration: int = 0
    asked: tuple[int, ...] = ()
    waits: tuple[Span, ...] = ()

    @property
    def known(self) -> bool:
        """Whether its start or its end was told of, not only that it waited."""
        return self.end >= 0 or self.start < LATEST

    @property
    def waiting(self) -> int | None:
        """Since when it waits for a human; None where it does not."""
        over = len(self.waits)
        return sorted(self.asked)[over] if len(self.asked) > over else None

    @property
    def size(self) -> int:
        """How many things it keeps."""
        return 1 + len(self.asked) + len(self.waits)

    def active(self, until: int) -> list[Span]:
        """Return when it was at work, if it has not ended up to a time: its waits left out."""
        span = self.span
        if span is None:
            waiting = self.waiting
            span = self.start, until if waiting is None else min(until, waiting)
        return without(span, self.waits)

    @property
    def span(self) -> Span | None:
        """When it was active; None while it is."""
        if self.end < 0:
            return None
        if self.start <= self.end:
            return self.start, self.end
        return self.end - self.duration, self.end

    def begin(self, moment: int) -> None:
        """Take in a start; of several the earliest counts."""
        self.start = min(self.start, moment)

    def finish(self, moment: int, duration: int) -> None:
        """Take in an end; of several the latest counts."""
        self.end, self.duration = max((self.end, self.duration), (moment, duration))

    def join(self, other: Attempt) -> None:
        """Add what another part of the same says."""
        self.begin(other.start)
        self.finish(other.end, other.duration)
        self.asked += other.asked
        self.waits += other.waits

    def copy(self) -> Attempt:
        """Return one that changes apart."""
        return Attempt(self.start, self.end, self.duration, self.asked, self.waits)


class Agent(msgspec.Struct, array_like=True, gc=False):
    """An agent at a task: starts in µs since the epoch, ends with the µs that they say it took.

    `told` are the approvals and rejections of its ends, `recorded` those of `critic_decision`.
    """

    attempts: int = 0
    starts: list[int] = []
    ends: list[Span] = []
    told: Span = _NONE
    recorded: Span = _NONE

    @property
    def verdicts(self) -> tuple[int, int]:
        """Approvals and rejections: as many as those have that know of more."""
        return max(self.told[0], self.recorded[0]), max(self.told[1], self.recorded[1])

    def spans(self, into: list[Span]) -> list[int]:
        """Add the spans of the attempts that ended to a list; return the starts of the others."""
        starts, number = self.starts, 0
        starts.sort()
        self.ends.sort()
        for end, duration in self.ends:
            if number < len(starts) and starts[number] <= end:
                into.append((starts[number], end))
                number += 1
            else:
                into.append((end - duration, end))
        return starts[number:]

    def join(self, other: Agent) -> None:
        """Add what another part of the same says."""
        self.attempts += other.attempts
        self.starts += other.starts
        self.ends += other.ends
        self.told = (self.told[0] + other.told[0], self.told[1] + other.told[1])
        recorded = other.recorded
        self.recorded = (self.recorded[0] + recorded[0], self.recorded[1] + recorded[1])

    def copy(self) -> Agent:
        """Return one that changes apart."""
        return Agent(self.attempts, self.starts.copy(), self.ends.copy(), self.told, self.recorded)


class Task(msgspec.Struct, array_like=True, gc=False):
    """A task: its earliest queueing and its last success, in µs since the epoch."""

    queued: int | None = None
    succeeded: int | None = None
    passed: bool = False
    features: list[str] = []
    agents: dict[str, Agent] = {}

    @property
    def took(self) -> int | None:
        """How many µs it took to succeed; None where it did not, or was not queued."""
        if self.queued is None or self.succeeded is None:
            return None
        return max(0, self.succeeded - self.queued)

    @property
    def size(self) -> int:
        """How many things it keeps."""
        agents = self.agents.values()
        return 1 + len(self.features) + sum(1 + len(one.starts) + len(one.ends) for one in agents)

    def join(self, other: Task) -> None:
        """Add what another part of the same task says."""
        queued = [t for t in (self.queued, other.queued) if t is not None]
        self.queued = min(queued, default=None)
        succeeded = [t for t in (self.succeeded, other.succeeded) if t is not None]
        self.succeeded = max(succeeded, default=None)
        self.passed = self.passed or other.passed
        self.features += [name for name in other.features if name not in self.features]
        for name, agent in other.agents.items():
            known = self.agents.get(name)
            if known is None:
                self.agents[name] = agent.copy()
            else:
                known.join(agent)

    def copy(self) -> Task:
        """Return one that changes apart."""
        agents = {name: agent.copy() for name, agent in self.agents.items()}
        return Task(self.queued, self.succeeded, self.passed, self.features.copy(), agents)


def joined(spans: Iterable[Span]) -> list[Span]:
    """Return the fewest spans that cover the same time, in its order; those that touch are one."""
    found: list[Span] = []
    begun = reached = -LATEST
    for start, end in sorted(spans):
        if start > reached:
            if reached > -LATEST:
                found.append((begun, reached))
            begun, reached = start, end
        elif end > reached:
            reached = end
    if reached > -LATEST:
        found.append((begun, reached))
    return found


def at_work(attempts: Iterable[Attempt], spans: list[Span]) -> list[Attempt]:
    """Add when attempts that ended were at work to a list; return those that have not ended."""
    under_way: list[Attempt] = []
    for attempt in attempts:
        if (span := attempt.span) is None:
            if attempt.known:
                under_way.append(attempt)
        elif attempt.waits:
            spans += attempt.active(span[1])
        else:
            spans.append(span)
    return under_way


def counted(verdicts: Span, *, rejected: bool) -> Span:
    """Return approvals and rejections with one more."""
    return verdicts[0] + (not rejected), verdicts[1] + rejected


def ratio(part: float, whole: float) -> float | None:
    """Return a share; None of nothing."""
    return part / whole if whole else None


def without(span: Span, others: Iterable[Span]) -> list[Span]:
    """Return what is left of a span outside of others, in the order of time."""
    found: list[Span] = []
    start, end = span
    for first, last in sorted(others):
        if first > start and start < end:
            found.append((start, min(first, end)))
        start = max(start, last)
    if start < end or not found:
        found.append((min(start, end), end))
    return found


def covered(spans: Iterable[Span], since: int) -> int:
    """Return how much time spans cover together, from a moment on."""
    total, reached = 0, since
    for start, end in sorted(spans):
        if end > reached:
            total += end - max(start, reached)
            reached = end
    return total


def text(value: object) -> str:
    """Return an id, "" where it is none; a long one is cut to be kept, and still is itself."""
    if type(value) is not str:
        return ""
    if not value.isascii():
        value = value.encode("utf-8", "replace").decode()  # half of a pair cannot be written
    if len(value) <= _LONGEST_ID:
        return value
    from hashlib import blake2b  # OpenSSL takes longer to load than most programs have long ids

    digest = blake2b(value.encode(), digest_size=16).hexdigest()
    return f"{value[:_LONGEST_ID]}…{digest}"


def amount(value: object, unit: float, otherwise: int) -> int:
    """Return a number in whole units; `otherwise` where it is none, or cannot be an amount."""
    if (type(value) is float or type(value) is int) and 0 <= value <= _MOST:
        return round(value * unit)
    return otherwise
