"""`/restore ID` in what an agent says: when it is carried out, and what the agent is asked then."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import json
from typing import TYPE_CHECKING, Any, Final

import pytest
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.usage import RunUsage, UsageLimits

import otel_agents as oa
from otel_agents.checkpoint import catalog, locks
from otel_agents.checkpoint import restore as restoring
from otel_agents.checkpoint.record import About
from otel_agents.checkpoint.repository import Repository
from otel_agents.checkpoint.snapshot import create
from otel_agents.checkpoints import taken
from otel_agents.errors import CheckpointError
from otel_agents.settings_guards import CheckpointSettings
from otel_agents.testing import Captured, capture

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from opentelemetry.sdk.trace import ReadableSpan

ALLOWED: Final = CheckpointSettings(auto=True, allow_restore=True)
ID: Final = "otelagents.checkpoint.id"
REFUSED: Final = "otelagents.restore.refused"
REASON: Final = "otelagents.restore.reason"

Answer = str | tuple[str, dict[str, Any]]


@pytest.fixture
def captured(tree: Path) -> Iterator[Captured]:
    """Record with checkpoints of the tree, where restores are allowed."""
    with capture(checkpoint=ALLOWED, root=tree) as found:
        yield found


@pytest.fixture
def thread_loop() -> Iterator[None]:
    """Close the event loop that `run_sync` makes for its thread and leaves open."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


class Worker:
    """An agent that gives answers in turn: a text, or a call of `read_file` or `write_file`.

    `@0` in a text stands for the id of the checkpoint whose tree was seen last, `@1` for the one
    before. `asked` holds the messages of each request to the model.
    """

    def __init__(self, tree: Path, *answers: Answer, **options: Any) -> None:
        self.asked: list[list[ModelMessage]] = []
        self._left = iter(answers)
        model = FunctionModel(self._reply, stream_function=self._stream, model_name="m")
        self.agent: Agent[None, Any] = Agent(model, name="worker", **options)

        @self.agent.tool_plain
        def read_file(path: str) -> str:
            return (tree / path).read_text()

        @self.agent.tool_plain
        def write_file(path: str, text: str) -> str:
            (tree / path).write_text(text)
            return "written"

    def _next(self, messages: list[ModelMessage]) -> Answer:
        self.asked.append(list(messages))
        answer = next(self._left)
        if isinstance(answer, str):
            for number, checkpoint in enumerate(taken()):
                answer = answer.replace(f"@{number}", checkpoint.id)
        return answer

    def _reply(self, messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
        answer = self._next(messages)
        part = TextPart(answer) if isinstance(answer, str) else ToolCallPart(*answer)
        return ModelResponse(parts=[part])

    async def _stream(
        self, messages: list[ModelMessage], _info: AgentInfo
    ) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
        answer = self._next(messages)
        if isinstance(answer, str):
            yield answer
        else:
            name, arguments = answer
            yield {0: DeltaToolCall(name=name, json_args=json.dumps(arguments))}

    def in_run(self, prompt: Any = "fix a.txt", **options: Any) -> Any:
        """Run the agent in a phase of a run and return the result."""

        async def main() -> Any:
            async with oa.run("shop", run_id="r-1"), oa.phase("build"):
                return await self.agent.run(prompt, **options)

        return asyncio.run(main())


SPOIL: Final = ("write_file", {"path": "a.txt", "text": "spoiled\n"})
RIGHT: Final = ("write_file", {"path": "a.txt", "text": "right\n"})
READ: Final = ("read_file", {"path": "a.txt"})


def words(messages: list[ModelMessage]) -> list[str]:
    """Return the parts of messages, shortly."""
    return [
        f"{part.part_kind} {getattr(part, 'args', None) or getattr(part, 'content', '')}"
        for message in messages
        for part in message.parts
    ]


def reasons(captured: Captured) -> list[Any]:
    """Return why restores were refused, as spans tell."""
    return [
        (event.attributes or {})[REASON]
        for span in captured.spans
        for event in span.events
        if event.name == REFUSED
    ]


def one(captured: Captured, name: str) -> ReadableSpan:
    """Return the only span of a name."""
    return captured.span(name)


async def until(condition: Callable[[], Any]) -> None:
    """Let the event loop go on until something is so, half a minute at the most."""
    async with asyncio.timeout(30):
        for _ in itertools.repeat(None):
            if condition():
                return
            await asyncio.sleep(0)


# ---------------------------------------------------------------------- carried out


def test_an_agent_restores_what_it_spoiled_and_does_it_right(
    captured: Captured, tree: Path
) -> None:
    """The second attempt starts before the call that was undone, and knows of it."""
    worker = Worker(tree, READ, SPOIL, "Oh no.\n/restore @0\nSorry.", RIGHT, "done")
    result = worker.in_run()

    assert result.output == "done"
    assert (tree / "a.txt").read_text() == "right\n"
    assert captured.tree() == (
        "invoke_workflow shop\n"
        "  phase build\n"
        "    invoke_agent worker\n"
        "      chat m\n"
        "      execute_tool read_file\n"
        "      chat m\n"
        "      execute_tool write_file\n"
        "      chat m\n"
        "      restore\n"
        "    invoke_agent worker\n"
        "      chat m\n"
        "      execute_tool write_file\n"
        "      chat m"
    )
    again = words(worker.asked[3])
    assert again[:3] == [
        "user-prompt fix a.txt", f"tool-call {READ[1]}", "tool-return one\n",
    ]  # fmt: skip
    note = again[3]
    assert "a.txt" in note
    assert 'write_file({"path":"a.txt","text":"spoiled\\n"})' in note
    assert "\n/restore" not in note
    assert len(again) == 4
    assert "spoiled" not in "".join(again[:3])


def test_a_restore_is_a_scope_of_its_own(captured: Captured, tree: Path) -> None:
    """With the checkpoint, what undoes it and what it changed, as span, signals and metric."""
    worker = Worker(tree, SPOIL, "/restore @0", "done")
    worker.in_run()

    span = one(captured, "restore")
    told = dict(span.attributes or {})
    back = captured.span("phase build").attributes or {}
    assert told[ID] == back[ID]
    assert told["otelagents.restore.changed"] == 1
    assert told["otelagents.run.id"] == "r-1"
    assert told["otelagents.result"] == "success"
    undo = catalog.get(Repository.find(tree), str(told["otelagents.restore.undo.id"]))
    assert undo.undo_of == back[ID]
    assert (undo.run_id, undo.phase, undo.agent) == ("r-1", "build", "worker")
    assert undo.agent_id == told["otelagents.agent.run.id"]
    assert span.context is not None
    assert (undo.trace_id, undo.span_id) == (
        f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}",
    )  # fmt: skip
    assert catalog.before(Repository.find(tree), "r-1", "build").id == back[ID]
    edges = [(one.edge, one.result) for one in captured.signals if one.kind == "restore"]
    assert [edge for edge, _ in edges] == ["start", "end"]
    assert edges[1][1] == "success"
    assert captured.metric("otelagents.restores", result="success") == 1


def test_the_caller_gets_all_that_is_new(captured: Captured, tree: Path) -> None:
    """`new_messages` begins with the caller's prompt, and usage and limits are of all attempts."""
    worker = Worker(tree, READ, SPOIL, "/restore @0", "done")
    past: list[ModelMessage] = [
        ModelRequest.user_text_prompt("hello"), ModelResponse(parts=[TextPart("hi")]),
    ]  # fmt: skip
    usage = RunUsage()
    result = worker.in_run(message_history=past, usage=usage)

    assert words(result.new_messages())[0] == "user-prompt fix a.txt"
    assert len(result.all_messages()) == len(past) + len(result.new_messages())
    assert words(result.all_messages())[:2] == ["user-prompt hello", "text hi"]
    assert usage.requests == 4


def test_usage_limits_hold_for_all_attempts_together(captured: Captured, tree: Path) -> None:
    """A restore is no way to more requests."""
    worker = Worker(tree, SPOIL, "/restore @0", RIGHT, "done")
    with pytest.raises(Exception, match="request_limit") as raised:
        worker.in_run(usage_limits=UsageLimits(request_limit=3))
    assert type(raised.value).__name__ == "UsageLimitExceeded"
    assert captured.metric("otelagents.runs.completed", result="failed") == 1


def test_an_earlier_checkpoint_asks_with_the_prompt_again(captured: Captured, tree: Path) -> None:
    """Before the agent began there is nothing but what the caller gave."""
    note = "\n\nCheckpoint "
    worker = Worker(tree, RIGHT, SPOIL, "/restore @1", "done")
    assert worker.in_run().output == "done"
    again = words(worker.asked[3])
    assert len(again) == 1
    assert again[0].startswith(f"user-prompt fix a.txt{note}")
    assert again[0].count("write_file(") == 2
    assert (tree / "a.txt").read_text() == "one\n"

    (tree / "a.txt").write_text("one\n")
    listed = Worker(tree, SPOIL, "/restore @0", "done")
    listed.in_run(["first", "second"])
    assert len(words(listed.asked[2])) == 1
    assert words(listed.asked[2])[0].startswith("user-prompt ['first', 'second', ")


def test_a_restore_between_two_calls_keeps_the_first(captured: Captured, tree: Path) -> None:
    """What was done before the checkpoint stands, in the tree and in the messages."""
    worker = Worker(tree, RIGHT, SPOIL, "/restore @0", "done")
    worker.in_run()
    assert (tree / "a.txt").read_text() == "right\n"
    again = words(worker.asked[3])
    assert again[1] == f"tool-call {RIGHT[1]}"
    assert again[3].count("write_file(") == 1


def test_an_agent_outside_any_run_is_one_with_all_its_attempts(
    captured: Captured, tree: Path
) -> None:
    """It stays open while it is asked again, and what is inside has its run id."""
    worker = Worker(tree, SPOIL, "/restore @0", RIGHT, "done")
    result = asyncio.run(worker.agent.run("fix a.txt"))
    assert result.output == "done"
    assert captured.tree().splitlines()[0] == "invoke_agent worker"
    assert [line for line in captured.tree().splitlines() if line[:3].strip()] == [
        "invoke_agent worker", "  chat m", "  execute_tool write_file", "  chat m", "  restore",
        "  invoke_agent worker",
    ]  # fmt: skip
    assert len({(span.attributes or {})["otelagents.run.id"] for span in captured.spans}) == 1
    assert {(span.attributes or {})["otelagents.result"] for span in captured.spans} == {"success"}
    assert captured.metric("otelagents.agent.active") == 0


@pytest.mark.usefixtures("thread_loop")
def test_run_sync_goes_through_it(captured: Captured, tree: Path) -> None:
    """Synchronous programs are served as well."""
    worker = Worker(tree, SPOIL, "/restore @0", RIGHT, "done")
    with oa.run("shop"):
        assert worker.agent.run_sync("fix a.txt").output == "done"
    assert (tree / "a.txt").read_text() == "right\n"


@pytest.mark.usefixtures("thread_loop")
def test_words_beside_a_structured_output_count(captured: Captured, tree: Path) -> None:
    """The text of the last answer is read where the output is something else."""
    seen: list[list[str]] = []

    def reply(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        seen.append(words(messages))
        (output,) = info.output_tools
        (tree / "a.txt").write_text(f"{len(seen)}\n")
        said = f"/restore {taken()[0].id}" if len(seen) == 1 else "fine"
        return ModelResponse(
            parts=[TextPart(said), ToolCallPart(output.name, {"response": len(seen)})]
        )

    agent: Agent[None, Any] = Agent(
        FunctionModel(reply, model_name="m"), name="worker", output_type=[int]
    )
    with oa.run("shop"):
        assert agent.run_sync("count").output == 2
    assert len(seen) == 2
    assert "final_result(" not in seen[1][0]
    assert captured.metric("otelagents.restores", result="success") == 1


@pytest.mark.parametrize(
    "text",
    [
        "/restore @0", "Well.\n/restore @0", "/restore @0 since it is spoiled", "/restore\t@0\r\n",
        "```\n/restore @0\n```", "/restore @0\n/restore 0000000000000000",
    ],
)  # fmt: skip
def test_it_counts_at_the_start_of_a_line(text: str, captured: Captured, tree: Path) -> None:
    """In a code block too, and of several the first."""
    worker = Worker(tree, SPOIL, text, "done")
    assert worker.in_run().output == "done"
    assert (tree / "a.txt").read_text() == "one\n"


def test_a_hundred_lines_are_one_restore(captured: Captured, tree: Path) -> None:
    """And each attempt may ask for one, `max_restores` of them in a run."""
    worker = Worker(tree, *(SPOIL, "/restore @0\n" * 100) * 4, "done")
    result = worker.in_run()
    assert result.output.startswith("/restore")
    assert (tree / "a.txt").read_text() == "spoiled\n"
    assert captured.metric("otelagents.restores", result="success") == 3
    assert captured.metric("otelagents.restores", result="skip") == 1
    assert reasons(captured) == ["This run has restored 3 times, which is as often as it may."]


def test_an_attempt_that_fails_is_the_callers(captured: Captured, tree: Path) -> None:
    """The second attempt's exception is raised, and every scope ends."""

    def reply(messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
        if "was restored" in "".join(words(messages)):
            raise LookupError("lost")
        (tree / "a.txt").write_text("spoiled\n")
        return ModelResponse(parts=[TextPart(f"/restore {taken()[0].id}")])

    agent = Agent(FunctionModel(reply, model_name="m"), name="worker")
    with pytest.raises(LookupError, match="lost"):
        asyncio.run(agent.run("hi"))
    outcomes = [
        (span.name, (span.attributes or {})["otelagents.result"]) for span in captured.spans
    ]
    assert outcomes == [
        ("invoke_agent worker", "error"), ("chat m", "success"), ("restore", "success"),
        ("invoke_agent worker", "error"), ("chat m", "error"),
    ]  # fmt: skip


def test_who_is_cancelled_in_a_restore_is_cancelled(
    captured: Captured, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The restore itself goes on to its end: a tree is never left between."""
    import threading

    from otel_agents import checkpoints

    gate, entered = threading.Event(), threading.Event()

    def waiting(*args: Any, **kwargs: Any) -> Any:
        entered.set()
        assert gate.wait(90)
        return restoring.restore(*args, **kwargs)

    monkeypatch.setattr(checkpoints, "restore", waiting)
    worker = Worker(tree, SPOIL, "/restore @0", "never")

    async def main() -> None:
        async with oa.run("shop"):
            task = asyncio.create_task(worker.agent.run("hi"))
            await until(entered.is_set)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            gate.set()
            await until(lambda: "restore" in captured.tree())

    asyncio.run(main())
    assert (tree / "a.txt").read_text() == "one\n"
    assert (one(captured, "invoke_agent worker").attributes or {})[
        "otelagents.result"
    ] == "cancellation"
    assert len(worker.asked) == 2


# ---------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("/restore", "no id"),
        ("/restore ../../etc", "no id"),
        ("/restore --force", "no id"),
        ("/restore 0000000000000000", "no checkpoint of this run"),
        ("/restore {other}", "no checkpoint of this run"),
        ("/restore {nobody}", "no checkpoint of this run"),
    ],
)
def test_ids_that_are_not_of_this_run_are_refused(
    text: str, reason: str, captured: Captured, tree: Path
) -> None:
    """Forged ones, those of another run and those of none; the result is as the agent gave it."""
    with oa.run("other"):
        (other,) = taken()
    nobody = create(Repository.find(tree), About(message="By hand"))
    text = text.format(other=other.id, nobody=nobody.id)
    worker = Worker(tree, SPOIL, text)
    assert worker.in_run().output == text
    assert (tree / "a.txt").read_text() == "spoiled\n"
    (found,) = reasons(captured)
    assert reason in found
    assert captured.metric("otelagents.restores", result="skip") == 1
    assert captured.metric("otelagents.restores") == 1


@pytest.mark.parametrize(
    "text", ["You could say /restore @0 now.", " /restore @0", "> /restore @0", "/restored @0"]
)
def test_in_the_middle_of_a_line_it_is_text(text: str, captured: Captured, tree: Path) -> None:
    """Nothing is restored, and nothing told."""
    worker = Worker(tree, SPOIL, text)
    assert "restore" in worker.in_run().output
    assert (tree / "a.txt").read_text() == "spoiled\n"
    assert reasons(captured) == []
    assert captured.metric("otelagents.restores") == 0


def test_where_it_is_not_allowed_it_is_told(tree: Path) -> None:
    """`allow_restore` is off by default."""
    with capture(checkpoint=CheckpointSettings(auto=True), root=tree) as captured:
        worker = Worker(tree, SPOIL, "/restore @0")
        assert worker.in_run().output.startswith("/restore ")
        assert (tree / "a.txt").read_text() == "spoiled\n"
        assert reasons(captured) == ["[checkpoint] allow_restore is not set."]


def test_without_the_table_it_is_text(tree: Path) -> None:
    """A program that has no checkpoints is not read."""
    with capture() as captured:
        worker = Worker(tree, SPOIL, "/restore 0000000000000000")
        assert worker.in_run().output == "/restore 0000000000000000"
        assert reasons(captured) == []


async def by_iter(agent: Agent[None, Any]) -> Any:
    """Drive an agent by `iter`."""
    async with agent.iter("hi") as steps:
        async for _ in steps:
            pass
    assert steps.result is not None
    return steps.result.output


async def by_stream(agent: Agent[None, Any]) -> Any:
    """Read an agent's stream."""
    async with agent.run_stream("hi") as result:
        return await result.get_output()


@pytest.mark.parametrize("way", [by_iter, by_stream])
def test_who_reads_along_is_not_asked_again(
    way: Callable[[Agent[None, Any]], Any], captured: Captured, tree: Path
) -> None:
    """The text has been seen already: it is told of, and not carried out."""
    worker = Worker(tree, "/restore @0")

    async def main() -> Any:
        async with oa.run("shop"):
            (tree / "a.txt").write_text("two\n")
            return await way(worker.agent)

    assert asyncio.run(main()).startswith("/restore ")
    assert (tree / "a.txt").read_text() == "two\n"
    assert reasons(captured) == ["Only what is run by Agent.run or run_sync can restore."]


def test_events_go_on_into_the_next_attempt(captured: Captured, tree: Path) -> None:
    """`run_stream_events` goes through `Agent.run`: its last event has the last result."""
    worker = Worker(tree, SPOIL, "/restore @0", RIGHT, "done")

    async def main() -> list[Any]:
        async with oa.run("shop"), worker.agent.run_stream_events("hi") as events:
            return [event async for event in events]

    found = asyncio.run(main())
    assert [event.event_kind for event in found].count("agent_run_result") == 1
    assert found[-1].result.output == "done"
    assert (tree / "a.txt").read_text() == "right\n"
    assert captured.metric("otelagents.restores", result="success") == 1


def test_other_agents_at_work_are_not_undone(captured: Captured, tree: Path) -> None:
    """An agent of another run in the same tree, or beside this one, holds a restore off."""
    worker = Worker(tree, SPOIL, "/restore @0")

    async def main() -> Any:
        async with oa.run("other"):
            async with oa.agent("busy"):
                return await asyncio.create_task(alone())

    async def alone() -> Any:
        with oa.extract({}):
            pass
        async with oa.run("shop"), oa.agent("orchestrator"):
            return await worker.agent.run("fix a.txt")

    ready, done = asyncio.Event(), asyncio.Event()

    async def beside() -> None:
        async with oa.run("other"), oa.agent("busy"):
            ready.set()
            await done.wait()

    async def both() -> Any:
        other = asyncio.create_task(beside())
        await ready.wait()
        try:
            return await alone()
        finally:
            done.set()
            await other

    assert asyncio.run(both()).output.startswith("/restore ")
    assert (tree / "a.txt").read_text() == "spoiled\n"
    assert reasons(captured) == ["Another agent is at work in this tree: busy."]
    # Those that called it wait for it and are no reason.
    nested = Worker(tree, SPOIL, "/restore @0", "done")
    worker.agent = nested.agent
    (tree / "a.txt").write_text("one\n")
    assert asyncio.run(main()).output == "done"


def test_agents_of_other_processes_are_not_undone(captured: Captured, tree: Path) -> None:
    """Who holds the lock of those at work is named by its process id."""
    worker = Worker(tree, SPOIL, "/restore @0")
    with locks.at_work(Repository.find(tree)):
        assert worker.in_run().output.startswith("/restore ")
    assert (tree / "a.txt").read_text() == "spoiled\n"
    (reason,) = reasons(captured)
    assert "Agents are at work (pid " in reason
    assert captured.metric("otelagents.restores", result="failure") == 1
    # Afterwards this process's own agents hold theirs again.
    with oa.agent("other"), pytest.raises(CheckpointError):
        with locks.restoring(Repository.find(tree)):
            pass


def test_a_restore_that_fails_is_told_and_changes_nothing(
    captured: Captured, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller gets the agent's words as they are."""
    from otel_agents import checkpoints

    def failing(*_args: Any, **_kwargs: Any) -> Any:
        raise CheckpointError("The disk is full.")

    monkeypatch.setattr(checkpoints, "restore", failing)
    worker = Worker(tree, SPOIL, "/restore @0")
    assert worker.in_run().output.startswith("/restore ")
    assert one(captured, "restore").status.status_code.name == "ERROR"
    assert reasons(captured) == ["The disk is full."]
    assert captured.metric("otelagents.restores", result="failure") == 1
    assert captured.metric("otelagents.runs.completed", result="succeeded") == 1


# ---------------------------------------------------------------------- the seam


def test_names_are_inferred_as_without_us(captured: Captured, tree: Path) -> None:
    """pydantic-ai looks for an agent's name in its caller's variables."""
    model = FunctionModel(lambda *_: ModelResponse(parts=[TextPart("hi")]))

    async def main() -> list[str | None]:
        janitor = Agent(model)
        nameless = [Agent(model)]
        await janitor.run("hi")
        await nameless[0].run("hi")
        return [janitor.name, nameless[0].name]

    assert asyncio.run(main()) == ["janitor", None]
    assert inspect.iscoroutinefunction(Agent.run)


def test_the_seam_is_put_back() -> None:
    """After `uninstrument` the method is pydantic-ai's own."""
    before = inspect.getattr_static(Agent, "run")
    with capture():
        assert inspect.getattr_static(Agent, "run") is not before
    assert inspect.getattr_static(Agent, "run") is before
