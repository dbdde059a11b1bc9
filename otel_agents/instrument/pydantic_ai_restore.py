"""`/restore ID` in what an agent says: carried out where it is allowed, and the agent asked again.

It counts at the start of a line of the text that a run ends with, in a code block too: models put
commands there. Of several the first counts. The id has to be one of the run's own checkpoints.

The agent is run once more with its messages up to the checkpoint and a note of what was undone, and
whoever called `Agent.run` or `run_sync` gets the result of that. Who drives an agent by `iter` or
reads a stream has seen the text already: there it is told of and not carried out.
"""

from __future__ import annotations

import functools
import inspect
import re
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from otel_agents import runtime
from otel_agents.boundary import caught
from otel_agents.drive import in_thread
from otel_agents.errors import OtelAgentsError
from otel_agents.scope import Scope
from otel_agents.values import cut
from otel_agents.vocabulary import CHECKPOINT_ID, KINDS, RESTORE_REASON, RESTORES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from otel_agents.checkpoint.record import Checkpoint
    from otel_agents.checkpoint.restore import Restored
    from otel_agents.checkpoints import AutoCheckpoints
    from otel_agents.instrument.pydantic_ai_agents import AgentScope

    End = Callable[[AgentScope, BaseException | None], None]

_RESTORE: Final = KINDS["restore"]
_REFUSED: Final = "otelagents.restore.refused"
_LINE: Final = re.compile(r"^/restore(?=[ \t\r]|$)[ \t]*(\S*)", re.MULTILINE)
# What the note to the agent tells of at the most.
_MAX_PATHS: Final = 20
_MAX_CALLS: Final = 50
_MAX_ARGUMENTS: Final = 2000  # characters of one call
_LEAST_SECONDS: Final = 0.001  # that are left of a time limit: pydantic-ai refuses 0


class Again(NamedTuple):
    """How an agent is asked again: its messages, where they are other than before, and a note."""

    note: str
    history: list[Any] | None
    run: Any
    began: float

    def arguments(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of the next `Agent.run`, from those of the one before."""
        given = dict(kwargs)
        prompt = given.pop("user_prompt", None) if not args else args[0]
        state = self.run.ctx.state
        if self.history is not None:
            prompt = None
            for name in ("conversation", "deferred_tool_results", "run_id"):
                given.pop(name, None)
            given["message_history"] = self.history
            if "conversation_id" not in given and hasattr(state, "conversation_id"):
                given["conversation_id"] = state.conversation_id
        if given.get("conversation") is None:
            given["usage"] = state.usage  # limits hold for all attempts together
        if given.get("timeout") is not None:
            left = given["timeout"] - (time.monotonic() - self.began)
            given["timeout"] = max(_LEAST_SECONDS, left)
        if isinstance(prompt, str):
            told: Any = f"{prompt}\n\n{self.note}"
        else:
            told = self.note if prompt is None else [*prompt, self.note]
        return (told,), given


class Asked:
    """What came of one call of `Agent.run`: whether it is to be made again.

    `scope` is the agent's, kept open by `look` where the agent is a run of its own.
    """

    __slots__ = ("again", "began", "claimed", "end", "scope")

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.claimed = False
        self.again: Again | None = None
        self.scope: AgentScope | None = None
        self.end: End | None = None

    def finish(self, error: BaseException | None) -> None:
        """End the scope that was kept open."""
        scope, self.scope = self.scope, None
        if scope is not None and self.end is not None:
            self.end(scope, error)


_asked: Final[ContextVar[Asked | None]] = ContextVar("otelagents-restore", default=None)


def run(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Wrap `AbstractAgent.run`."""

    @functools.wraps(original)
    async def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("infer_name", True):
            # pydantic-ai looks for the agent's name one frame up, which would be this one.
            if self.name is None:
                self._infer_name(inspect.currentframe())
            kwargs["infer_name"] = False
        if not _allowed():
            return await original(self, *args, **kwargs)
        return await _run(functools.partial(original, self), args, kwargs)

    return run


def _checkpoints() -> AutoCheckpoints | None:
    try:
        rt = runtime.peek()
        return None if rt is None else cast("AutoCheckpoints | None", rt.checkpoints)
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("restore", error)
        return None


def _allowed() -> bool:
    found = _checkpoints()
    return found is not None and found.settings.allow_restore


async def _run(
    call: Callable[..., Awaitable[Any]], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Run an agent, and again for as long as it asks for a restore that is carried out."""
    kept = Asked()
    first: int | None = None
    try:
        while True:
            asked = Asked()
            token = _asked.set(asked)
            try:
                result = await call(*args, **kwargs)
            finally:
                _asked.reset(token)
            if asked.scope is not None and kept.scope is None:
                kept = asked
                asked.scope.attach()
            if asked.again is None:
                break
            try:
                first = _new_from(asked.again.run) if first is None else first
                args, kwargs = asked.again.arguments(args, kwargs)
            except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
                caught("restore", error)
                break
    except BaseException as error:
        kept.finish(error)
        raise
    kept.finish(None)
    if first is not None and getattr(result, "_new_message_index", 0) > first:
        result._new_message_index = first  # noqa: SLF001 - what is new is so since the first call
    return result


def claim() -> Asked | None:
    """Return what the `Agent.run` around wants to know of the agent that is entered here."""
    asked = _asked.get()  # a ContextVar's, of ours: nothing here can fail
    if asked is None or asked.claimed:
        return None
    asked.claimed = True
    return asked


async def look(scope: AgentScope, asked: Asked | None, end: End) -> bool:
    """Carry out the restore that an agent's last words ask for, if they do.

    Returns whether the scope is to stay open, for the attempts that follow inside of it.
    """
    checkpoints = _checkpoints()
    if checkpoints is None or scope.run is None or scope.ended:
        return False
    try:
        lines = _lines(scope.run)
        if not lines:
            return False
        # Only programs that have checkpoints load what they are made with.
        from otel_agents.checkpoint.record import ID

        if not ID.fullmatch(lines[0]):
            _refuse(scope, "", "What it names is no id of a checkpoint.")
        elif not checkpoints.settings.allow_restore:
            _refuse(scope, lines[0], "[checkpoint] allow_restore is not set.")
        elif asked is None:
            _refuse(scope, lines[0], "Only what is run by Agent.run or run_sync can restore.")
        else:
            done = await in_thread(
                functools.partial(_restore, scope, checkpoints, lines[0]), _ignore
            )
            if done is not None:
                asked.again = _again(scope, checkpoints, asked, *done)
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("restore", error)
    if asked is None or asked.again is None or scope.id != scope.frame.ids.run_id:
        return False
    scope.detach()
    asked.scope, asked.end = scope, end
    return True


def _ignore(_error: BaseException) -> None:
    """Let a restore that nobody waits for go on to its end."""


def _lines(run: Any) -> list[str]:
    """Return what follows each `/restore` at the start of a line of a run's last words."""
    texts = []
    for message in reversed(run.ctx.state.message_history):
        if message.kind == "response":
            texts = [part.content for part in message.parts if part.part_kind == "text"]
            break
    output = run.result.output
    if isinstance(output, str) and output not in texts:
        texts.append(output)
    return [line for text in texts for line in _LINE.findall(text)]


def _refuse(scope: AgentScope, checkpoint_id: str, reason: str) -> None:
    """Tell of a restore that is not carried out, on the agent's span and in the metrics."""
    _tell(scope, checkpoint_id, reason)
    rt = runtime.peek()
    if rt is not None:
        rt.metrics.add(RESTORES, ("skip",))


def _tell(scope: AgentScope, checkpoint_id: str, reason: str) -> None:
    attributes = {RESTORE_REASON.key: reason}
    if checkpoint_id:
        attributes[CHECKPOINT_ID.key] = checkpoint_id
    scope.span.add_event(_REFUSED, attributes)


def _restore(
    scope: AgentScope, checkpoints: AutoCheckpoints, checkpoint_id: str
) -> tuple[Checkpoint, Restored] | None:
    """Restore in a scope of its own; return None where it was refused or failed, which is told."""
    try:
        checkpoint = checkpoints.restorable(scope, checkpoint_id)
    except OtelAgentsError as error:
        _refuse(scope, checkpoint_id, str(error))
        return None
    inner = Scope(_RESTORE, fields={"checkpoint_id": checkpoint_id})
    inner.start(scope.context)
    try:
        done = checkpoints.restore(scope, checkpoint, inner.span)
    except OtelAgentsError as error:
        inner.fail(str(error))
        inner.end()
        _tell(scope, checkpoint_id, str(error))
        return None
    except BaseException as error:
        inner.end(error)
        raise
    inner.set(undo_id=done.undo_id, changed=len(done.changed))
    inner.end()
    return checkpoint, done


# ---------------------------------------------------------------------- what the agent is told


def _new_from(run: Any) -> int:
    index: int = run.ctx.deps.new_message_index
    return index


def _again(
    scope: AgentScope,
    checkpoints: AutoCheckpoints,
    asked: Asked,
    checkpoint: Checkpoint,
    done: Restored,
) -> Again:
    seen = checkpoints.last_seen(scope.frame.ids.run_id, checkpoint.id) or checkpoint.created_at
    messages = scope.run.ctx.state.message_history
    first = _new_from(scope.run)
    end = _end_of(messages, first, seen)
    calls = _calls(scope.run, messages[end:])
    # Up to the first answer there is nothing but what the caller gave.
    history = None if end <= first + 1 else list(messages[:end])
    return Again(_note(checkpoint, done, calls), history, scope.run, asked.began)


def _end_of(messages: list[Any], first: int, seen: int) -> int:
    """Return how many messages there were at the checkpoint: up to the answer that goes on from it.

    `seen` is when the tree was as in the checkpoint, in epoch ns. The first tool that returned
    after that was called by the answer before, which goes with all of its calls. Where none did it
    is the last answer.
    """
    last = len(messages)
    for position in range(first, len(messages)):
        message = messages[position]
        if message.kind == "response":
            last = position
        elif any(_returned(part) > seen for part in message.parts) and last < position:
            return last
    return last


def _returned(part: Any) -> float:
    """Return when a tool returned, in epoch ns; 0 for other parts."""
    if part.part_kind == "tool-return" or (
        part.part_kind == "retry-prompt" and part.tool_name is not None
    ):
        return float(part.timestamp.timestamp()) * 1e9
    return 0.0


def _calls(run: Any, messages: list[Any]) -> list[tuple[str, str]]:
    """Return name and arguments of the tool calls in messages, but for those that give output."""
    outputs = {getattr(run.result, "_output_tool_name", None)}
    return [
        (part.tool_name, cut(part.args_as_json_str(), _MAX_ARGUMENTS))
        for message in messages
        if message.kind == "response"
        for part in message.parts
        if part.part_kind == "tool-call" and part.tool_name not in outputs
    ]


def _note(checkpoint: Checkpoint, done: Restored, calls: list[tuple[str, str]]) -> str:
    """Return what the agent is told before it goes on."""
    # No line of it may look like a restore, should the agent repeat it.
    lines = [
        f"Checkpoint {checkpoint.id} was restored: the tree is as it was “{_when(checkpoint)}”."
    ]
    if done.changed:
        paths = ", ".join(change.path for change in done.changed[:_MAX_PATHS])
        more = len(done.changed) - _MAX_PATHS
        lines.append(f"Brought back: {paths}{f' and {more} more' if more > 0 else ''}.")
    if calls:
        lines.append(
            "These tool calls were made since; what they did to files is undone. Make those again "
            "that are still right:"
        )
        lines += [f"- {name}({arguments})" for name, arguments in calls[:_MAX_CALLS]]
        if len(calls) > _MAX_CALLS:
            lines.append(f"- and {len(calls) - _MAX_CALLS} more")
    return "\n".join(lines)


def _when(checkpoint: Checkpoint) -> str:
    return checkpoint.message or "at a checkpoint"
