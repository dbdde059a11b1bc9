"""Waits for a human: one that the program holds, and one that outlives whoever asked.

    answer = await human("deploy to production?", timeout=3600)
    answer = human("deploy?", id="deploy-17").wait()
    with human("call the customer") as asked:
        asked.resolve("answered", input("> "))

A wait is told of at once as `hitl_escalated`, with the id by which `otel-agents hitl resolve` and
the console answer it. How long it takes is kept apart in every scope around it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from concurrent.futures import Future, InvalidStateError
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from otel_agents.boundary import boundary, caught
from otel_agents.scope import Scope
from otel_agents.values import coerce, cut, plain, redact
from otel_agents.vocabulary import (
    ANSWER,
    ANSWERED_BY,
    DECISION,
    TASK_STATE,
    WAIT_ATTEMPTS,
    WAIT_ERROR,
    WAIT_ID,
    WAIT_PRIORITY,
    WAIT_TOOL_CALL,
)
from otel_agents.waits import Waits

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from opentelemetry.context import Context

    from otel_agents.answers import Answer
    from otel_agents.runtime import Runtime
    from otel_agents.vocabulary import Kind, Outcome

ESCALATED: Final = "hitl_escalated"
DECISIONS: Final = ("approved", "rejected", "answered")
# How often it is asked for answers from elsewhere: a human does not notice.
POLL_SECONDS: Final = 0.3
_REASON: Final = 200  # characters of what is asked, which names the span
_ID: Final = 200  # characters of a wait's id
_REVIEW: Final = "IN_REVIEW"
_NOBODY: Final = (
    "otel-agents: nothing can answer %r but the program itself: there is no workspace, store or "
    "server (make a workspace with `otel-agents init`)"
)
_TAKEN: Final = (
    "otel-agents: another wait with the id %r is open in this run; this one is answered by %s"
)
# Called with a wait that has begun: what knows of tasks by their events listens.
asked_listeners: Final[list[Callable[[Runtime, HumanScope], None]]] = []
# The open waits that the program gave an id, by run and id.
_named: Final[dict[tuple[str, str], HumanScope]] = {}
# Scopes are given their `waits` when the first begins in them, by any thread.
_lock: Final = threading.Lock()


class HumanScope(Scope):
    """A wait for a human. Make it with `human`, not by itself.

    `await` it, or `wait` for it: both return the `Answer`. As `with`, `async with` or decorator it
    lasts as long as the block, in which the program asks by itself and may say with `resolve` what
    came of it; an answer from elsewhere is in `answer` as soon as it is there. `wait_id` names it
    for whoever answers: the id that was given, unless another open wait of the run has it, else the
    scope's.
    """

    __slots__ = (
        "_counted", "_future", "_reviewed", "_timeout", "answer", "fixed_id", "wait_id",
    )  # fmt: skip

    def __init__(
        self,
        kind: Kind,
        name: str | None = None,
        *,
        id: str | None = None,  # noqa: A002 - the public name of the parameter
        attributes: Mapping[str, Any] | None = None,
        fields: dict[str, Any] | None = None,
        known: dict[str, Any] | None = None,
    ) -> None:
        given = dict(fields or {})
        self._timeout: float | None = given.pop("timeout", None)
        # Set by an instrumentation whose waits are ended by another process.
        self.fixed_id = ""
        reason = None if name is None else cut(str(redact("", plain(name))), _REASON)
        super().__init__(kind, reason, id=id, attributes=attributes, fields=given, known=known)

    def _reset(self) -> None:
        super()._reset()
        self.answer: Answer | None = None
        self.wait_id = ""
        self._future: Future[Answer] = Future()
        self._counted: list[Waits] = []
        self._reviewed: Any = None

    def fresh(self) -> HumanScope:
        """Return a wait like this one, not started: a decorator opens one a call."""
        made = cast("HumanScope", super().fresh())
        made._timeout = self._timeout  # noqa: SLF001 - one class
        made.fixed_id = self.fixed_id
        return made

    # ------------------------------------------------------------------ by its users

    def __await__(self) -> Generator[Any, Any, Answer]:
        """Wait for the answer without blocking the loop.

        Raises:
            TimeoutError: None came within `timeout` seconds.

        """
        return self._ask().__await__()

    async def _ask(self) -> Answer:
        mine = self._open()
        try:
            async with asyncio.timeout(self._timeout):
                answer = await asyncio.wrap_future(self._future)
        except BaseException as error:
            self._close(mine, error)
            self._future = Future()  # it was cancelled with the task; a block goes on
            raise
        self._close(mine, None)
        return answer

    def wait(self, timeout: float | None = None) -> Answer:
        """Wait for the answer; the thread stands still until then.

        Args:
            timeout: How many seconds at the most; by default those that `human` was given, if any.

        Raises:
            TimeoutError: None came within that time.

        """
        mine = self._open()
        try:
            answer = self._future.result(self._timeout if timeout is None else timeout)
        except BaseException as error:
            self._close(mine, error)
            raise
        self._close(mine, None)
        return answer

    def resolve(self, decision: str, text: str | None = None, *, by: str = "program") -> None:
        """Answer the wait from within the program, from any thread; the first answer counts.

        Args:
            decision: `approved`, `rejected` or `answered`; another word counts as `answered`.
            text: What the human said, if anything.
            by: Where the answer comes from.

        """
        try:
            self._resolve(decision, text, by)
        except Exception as error:  # noqa: BLE001 - whoever waits goes on all the same
            with contextlib.suppress(Exception):
                self._resolve("answered", None, "program")
            caught("human resolve", error)

    def _resolve(self, decision: str, text: str | None, by: str) -> None:
        from otel_agents.answers import Answer  # only where one is given

        said = coerce(decision, str)
        word = said if said in DECISIONS else "answered"
        told = coerce(text, str), coerce(by, str) or "program"
        self.take(Answer(self.wait_id, word, *told, time.time_ns()))
        if word != said:
            caught("human resolve", ValueError(f"{said!r} is none of {DECISIONS}"))

    def take(self, answer: Answer) -> None:
        """Take an answer unless there is one already, and wake whoever waits for it."""
        with _lock:
            if self.answer is not None:
                return
            self.answer = answer
        with contextlib.suppress(InvalidStateError):  # whoever waited has gone
            self._future.set_result(answer)

    def look(self) -> None:
        """Ask once whether there is an answer from elsewhere; it may take some seconds."""
        answers = None if self._rt is None else self._rt.answers
        found = None if answers is None else answers.poll(self.scope_id)
        if found is not None:
            # It was asked for by the scope's id, which nobody else has.
            self.take(msgspec.structs.replace(found, wait_id=self.wait_id))

    def _open(self) -> bool:
        """Begin the wait unless a block around has; ask for answers until it is over."""
        mine = not self._started or self._ended
        if mine:
            self.start()
        if self.answer is not None:
            return mine
        if self._rt is None or self._rt.answers is None:
            boundary.warn(_NOBODY, self.name or "a human")
        else:
            self._look_out()
        return mine

    def attach(self) -> None:
        """Make the wait the current scope, and ask for answers: the program has asked by itself."""
        try:
            super().attach()
            if self._rt is not None and self._rt.answers is not None and self.answer is None:
                _desk.add(self)
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("human attach", error)

    def _look_out(self) -> None:
        try:
            _desk.add(self)
        except Exception as error:  # noqa: BLE001 - the program itself can still answer
            caught("human answers", error)

    def _close(self, mine: bool, error: BaseException | None) -> None:
        if mine:  # else a block goes on, which takes an answer too
            _desk.remove(self)
            self.end(error)

    # ------------------------------------------------------------------ lifecycle

    def _take_place(self, context: Context | None = None) -> dict[str, Any]:
        attributes = super()._take_place(context)
        if self.fixed_id:
            self.scope_id = self.fixed_id
        given = coerce(self._given_id, str)
        self.wait_id = str(redact("", cut(given, _ID))) if given else self.scope_id
        if given and not self._takes_id():
            boundary.warn(_TAKEN, self.wait_id, self.scope_id)
            self.wait_id = self.scope_id
        attributes[WAIT_ID.key] = self.wait_id
        attributes.setdefault(WAIT_ATTEMPTS.key, self._attempts())
        attributes.setdefault(WAIT_PRIORITY.key, "normal")
        payload = {
            "task_id": self.frame.ids.task_id or self.wait_id,
            "attempts": attributes[WAIT_ATTEMPTS.key],
            "last_error": attributes.get(WAIT_ERROR.key, ""),
            "priority": attributes[WAIT_PRIORITY.key],
            "reason": self.name or "",
            "wait_id": self.wait_id,
        }
        self.event = ("start", ESCALATED, payload)
        return attributes

    def _takes_id(self) -> bool:
        """Say whether no other wait of the run goes by this one's id in this process."""
        if WAIT_TOOL_CALL.key in (self._known or {}):
            return True  # the call's id; its wait is closed by a later one
        key = self.frame.ids.run_id or "", self.wait_id
        with _lock:
            known = _named.get(key)
            if known is not None and known is not self and not known.ended:
                return False
            _named[key] = self
        return True

    def _attempts(self) -> int:
        """Return which attempt of the agent around this is; the first where there is none."""
        agent = self.around("agent")
        said = None if agent is None else coerce(agent._fields.get("attempt"), int)
        if said is not None:
            return int(said)
        ids = self.frame.ids
        return self.frame.counts.attempts(ids.task_id, ids.agent)

    def _start_in(self, rt: Runtime, context: Context) -> None:
        super()._start_in(rt, context)
        around = self.parent
        while around is not None:
            if not around.ended and around.kind.name != "human":
                with _lock:
                    if around.waits is None:
                        around.waits = Waits()
                around.waits.begin(self._start)
                self._counted.append(around.waits)
            around = around.parent
        task: Any = self.around("task")
        if task is not None and not task.ended:
            self._reviewed = task
            task.state(_REVIEW)
        for listener in asked_listeners:
            listener(rt, self)

    def _finish(
        self, rt: Runtime, outcome: Outcome, seconds: float, attributes: dict[str, Any]
    ) -> None:
        _desk.remove(self)
        key = self.frame.ids.run_id or "", self.wait_id
        with _lock:
            if _named.get(key) is self:
                del _named[key]
        counted, self._counted = self._counted, []
        for waits in counted:
            waits.end(self._start + int(seconds * 1e9))
        super()._finish(rt, outcome, seconds, attributes)
        if (answer := self.answer) is not None:
            attributes[DECISION.key] = answer.decision
            attributes[ANSWERED_BY.key] = cut(str(redact("", plain(answer.by))), _ID)
            if answer.text:
                attributes[ANSWER.key] = cut(str(redact("", plain(answer.text))))
        task, self._reviewed = self._reviewed, None
        if task is None or task.ended or task.waits.open:
            return
        if task._late.get(TASK_STATE.key) == _REVIEW:  # noqa: SLF001 - a scope's
            task.state("RUNNING")  # unless somebody has put it elsewhere meanwhile

    def leave_open(self) -> None:
        """End the span alone: the program goes, and the wait goes on without it."""
        try:
            if not self.ended and self._pid == os.getpid():
                self._ended = True
                self.span.end()
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("human leave", error)


class _Desk:
    """Where answers from elsewhere come in: one thread asks for all waits of the process."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._waits: dict[str, HumanScope] = {}
        self._thread: threading.Thread | None = None

    def add(self, scope: HumanScope) -> None:
        with self._changed:
            self._waits[scope.scope_id] = scope
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="otel-agents-answers", daemon=True
                )
                self._thread.start()
            else:
                self._changed.notify()

    def remove(self, scope: HumanScope) -> None:
        with self._changed:
            self._waits.pop(scope.scope_id, None)

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._waits:
                    self._thread = None
                    return
                waits = list(self._waits.values())
            for scope in waits:
                _look(scope)
            with self._changed:
                if self._waits:
                    self._changed.wait(POLL_SECONDS)


def _look(scope: HumanScope) -> None:
    try:
        scope.look()
        if scope.answer is not None:
            _desk.remove(scope)
    except Exception as error:  # noqa: BLE001 - the thread must live on, in strict mode too
        with contextlib.suppress(Exception):
            caught("human answers", error)


_desk: Final = _Desk()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_desk.reset)
    os.register_at_fork(after_in_child=_named.clear)
