"""Models that need no network: functions that read the conversation and say what comes next."""

import asyncio
import json
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ModelResponsePart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RequestUsage

from ferry.settings import Settings

CHARACTERS_PER_TOKEN = 4
LARGE, SMALL = "offline-large", "offline-small"
# What the check of a file says where nothing is wrong.
RIGHT = "All is there."


class Plan(BaseModel):
    """The files to migrate, in their order."""

    files: list[str]


class Call(NamedTuple):
    """A tool that the agent shall use next."""

    tool: str
    arguments: dict[str, Any]


Reply = Call | BaseModel | str


class Talk:
    """What an agent has been told so far: prompts, and each tool's last answer."""

    def __init__(self, messages: Iterable[ModelMessage]) -> None:
        """Sort the messages by tool; what came before a second prompt is undone, and forgotten."""
        self.prompts: list[str] = []
        self.answers: dict[str, str] = {}
        self.refused: set[str] = set()
        for part in (p for m in messages if isinstance(m, ModelRequest) for p in m.parts):
            if isinstance(part, UserPromptPart):
                self.prompts.append(str(part.content))
                self.answers.clear()
                self.refused.clear()
            elif isinstance(part, ToolReturnPart) and part.outcome == "success":
                self.answers[part.tool_name] = part.model_response_str()
            elif tool := getattr(part, "tool_name", None):
                self.refused.add(tool)

    @property
    def stage(self) -> str:
        """The stage whose file the agent works on, as the first prompt says."""
        found = re.search(r"Migrate ([\w-]+)\.ini", self.prompts[0])
        return found[1] if found else ""

    @property
    def checkpoint(self) -> str:
        """The checkpoint that the first prompt names, if any."""
        found = re.search(r"/restore ([0-9a-z]+)", self.prompts[0])
        return found[1] if found else ""

    @property
    def restored(self) -> bool:
        """The work was taken back: a note that names the checkpoint was added to the prompts."""
        return bool(self.checkpoint) and " ".join(self.prompts).count(self.checkpoint) > 1


def surveyor(talk: Talk) -> Reply:
    """Look at what there is, and name the files of the old format."""
    listed = talk.answers.get("list_files")
    if listed is None:
        return Call("list_files", {})
    return Plan(files=[name for name in json.loads(listed) if name.endswith(".ini")])


def migrator(talk: Talk) -> Reply:
    """Read a file, write the new one, check it, delete the old one."""
    stage = talk.stage
    if "read_file" not in talk.answers:
        return Call("read_file", {"name": f"{stage}.ini"})
    if "write_file" not in talk.answers:
        text = Settings.from_ini(talk.answers["read_file"]).toml()
        return Call("write_file", {"name": f"{stage}.toml", "text": text})
    if "check_file" not in talk.answers:
        return Call("check_file", {"name": f"{stage}.toml"})
    if "delete_file" not in talk.answers:
        return Call("delete_file", {"name": f"{stage}.ini"})
    return f"{stage}.toml holds all that {stage}.ini held."


def apprentice(talk: Talk) -> Reply:
    """Do the same with less care: skip lines that go on, and delete the old file before the check.

    Once it was told that its work was taken back it does as the migrator does.
    """
    if talk.restored:
        return migrator(talk)
    stage = talk.stage
    if "read_file" not in talk.answers:
        return Call("read_file", {"name": f"{stage}.ini"})
    if "write_file" not in talk.answers:
        lines = talk.answers["read_file"].splitlines()
        text = "\n".join(line for line in lines if not line.startswith(" "))
        new = Settings.from_ini(text).toml()
        return Call("write_file", {"name": f"{stage}.toml", "text": new})
    if "delete_file" not in talk.answers:
        return Call("delete_file", {"name": f"{stage}.ini"})
    if "check_file" not in talk.answers:
        return Call("check_file", {"name": f"{stage}.toml"})
    if talk.answers["check_file"] == RIGHT:
        return f"{stage}.toml holds all that {stage}.ini held."
    if "read_file" not in talk.refused:
        return Call("read_file", {"name": f"{stage}.ini"})
    if talk.checkpoint:
        return f"/restore {talk.checkpoint}"
    return f"{stage}.ini is gone, and what I did not read with it."


def clerk(talk: Talk) -> Reply:
    """Ask the owner, and report what the owner decided."""
    decided = talk.answers.get("ask_the_owner")
    if decided is None:
        return Call("ask_the_owner", {"question": talk.prompts[0]})
    return decided


class OfflineModel(FunctionModel):
    """Answers by computing `role` on the conversation; `pace` seconds for each call."""

    def __init__(self, role: Callable[[Talk], Reply], *, name: str, pace: float) -> None:
        """Make the model; `name` is what it reports, and what a price table knows it by."""
        super().__init__(self._answer, model_name=name)
        self._role = role
        self._pace = pace

    async def _answer(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        await asyncio.sleep(self._pace)
        instructions = info.instructions or ""
        reply = self._role(Talk(messages))
        part: ModelResponsePart
        if isinstance(reply, str):
            part = TextPart(reply)
        elif isinstance(reply, BaseModel):
            part = ToolCallPart(info.output_tools[0].name, reply.model_dump(mode="json"))
        else:
            part = ToolCallPart(reply.tool, reply.arguments)
        told = _length(instructions) + sum(_tokens(message.parts) for message in messages)
        return ModelResponse(
            parts=[part], usage=RequestUsage(input_tokens=told, output_tokens=_tokens([part]))
        )


def models(pace: float) -> dict[str, OfflineModel]:
    """Return a model for each agent, by the agent's name."""
    roles = {surveyor: LARGE, migrator: LARGE, apprentice: SMALL, clerk: SMALL}
    return {role.__name__: OfflineModel(role, name=size, pace=pace) for role, size in roles.items()}


def _tokens(parts: Iterable[object]) -> int:
    return sum(_length(_text(part)) for part in parts)


def _length(text: str) -> int:
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def _text(part: object) -> str:
    """Return what a part says to a model, or a model says by it."""
    if isinstance(part, ToolCallPart):
        return part.args_as_json_str()
    content = getattr(part, "content", "")
    return content if isinstance(content, str) else json.dumps(content, default=str)
