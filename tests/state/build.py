"""Signals of a made-up program, told step by step on a clock that moves when it is told to."""

from __future__ import annotations

from typing import Any, Final

from otel_agents.signals import Edge, Failure, Ids, Signal, encode_line
from otel_agents.usage import Usage
from otel_agents.vocabulary import (
    AGENT_ATTEMPT,
    PROGRESS_DONE,
    PROGRESS_TOTAL,
    REQUEST_MODEL,
)

SECOND: Final = 1_000_000_000
BEGIN: Final = 1_767_225_600 * SECOND  # the first of January 2026, UTC
HOST: Final = "build-host"
PID: Final = 4242


def living(_host: str, _pid: int, _since: int) -> bool | None:
    """Say that every process lives."""
    return True


def unknown(_host: str, _pid: int, _since: int) -> bool | None:
    """Say of no process whether it lives."""
    return None


def dead(_host: str, _pid: int, _since: int) -> bool | None:
    """Say that no process lives."""
    return False


def tokens(number: int, *, complete: bool = True) -> Usage:
    """Return a usage of so many input tokens and a tenth as many output tokens, in one request."""
    return Usage(input_tokens=number, output_tokens=number // 10, requests=1, complete=complete)


class Story:
    """One run as its program tells it: `start`, `progress` and `end` of scopes, in time order.

    Args:
        run_id: The run, or None for a program without one.
        workflow: Its workflow.
        begin: When the clock stands still first.

    """

    def __init__(
        self, run_id: str | None = "run-1", workflow: str | None = "shop", begin: int = BEGIN
    ) -> None:
        self.ids = {"run_id": run_id, "workflow": workflow}
        self.now = begin
        self.signals: list[Signal] = []
        self._open: dict[str, dict[str, Any]] = {}

    def wait(self, seconds: float) -> Story:
        """Move the clock."""
        self.now += round(seconds * SECOND)
        return self

    def start(
        self, kind: str, scope: str = "", name: str = "", *, parent: str = "", **more: Any
    ) -> Story:
        """Start a scope; `phase`, `iteration`, `agent_id` and other ids may be given."""
        scope = scope or kind
        attributes = more.pop("attributes", {})
        for given, key in (("attempt", AGENT_ATTEMPT.key), ("model", REQUEST_MODEL.key)):
            if given in more:
                attributes = {**attributes, key: more.pop(given)}
        told = {name: more.pop(name) for name in ("pid", "host") if name in more}
        ids = {**self.ids, **more}
        if kind == "agent":
            ids = {"agent": name, "agent_id": scope, **ids}
        if kind == "phase":
            ids = {"phase": name, **ids}
        self._open[scope] = {
            "kind": kind, "name": name, "parent_id": parent, "ids": Ids(**ids),
            "pid": PID, "host": HOST, **told,
        }  # fmt: skip
        self._open[scope]["since"] = self.now
        return self._tell(scope, "start", attributes=attributes)

    def progress(
        self,
        scope: str,
        done: float | None = None,
        total: float | None = None,
        **more: Any,
    ) -> Story:
        """Say how far a scope is, what it used so far, or with nothing that it lives."""
        attributes = {}
        if done is not None:
            attributes = {PROGRESS_DONE.key: done, PROGRESS_TOTAL.key: total}
        return self._tell(scope, "progress", attributes=attributes, **more)

    def end(
        self,
        scope: str,
        result: str = "success",
        *,
        error: tuple[str, str] | None = None,
        **more: Any,
    ) -> Story:
        """End a scope, after the time that has passed on the clock."""
        seconds = (self.now - self._open[scope]["since"]) / SECOND
        failure = None if error is None else Failure(*error)
        return self._tell(scope, "end", result=result, duration=seconds, error=failure, **more)

    def instant(self, kind: str, name: str, result: str = "success", **ids: Any) -> Story:
        """Tell of something that is over as soon as it is told, such as a gate."""
        scope = f"{kind}-{len(self.signals)}"
        self.start(kind, scope, name, **ids)
        self.signals.pop()
        return self.end(scope, result)

    def _tell(self, scope: str, edge: Edge, **more: Any) -> Story:
        known = {key: value for key, value in self._open[scope].items() if key != "since"}
        number = f"{self.ids['run_id']}-{len(self.signals):04d}"
        self.signals.append(
            Signal(id=number, edge=edge, time=self.now, scope_id=scope, **known, **more)
        )
        return self

    def lines(self) -> bytes:
        """Return the signals as a file holds them."""
        return b"".join(map(encode_line, self.signals))


def shop(run_id: str = "run-1", begin: int = BEGIN, result: str = "success") -> Story:
    """Return the story of a run of 100 s: plan 10 s, build 60 s, review 30 s."""
    story = Story(run_id, begin=begin)
    story.start("run", name="shop")
    for phase, seconds in (("plan", 10), ("build", 60), ("review", 30)):
        agent = f"{run_id}-{phase}-agent"
        story.start("phase", phase, phase, parent="run")
        story.start("agent", agent, f"{phase}er", parent=phase, phase=phase)
        story.wait(seconds)
        story.end(agent, usage=tokens(100), cost=0.25)
        story.end(phase)
    return story.end("run", result)
