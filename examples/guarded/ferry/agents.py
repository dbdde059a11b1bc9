"""The agents: what each is told, and what it may use. They know no model and no budget."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic_ai import Agent, ModelRetry, RunContext
from pydantic_ai.models import Model

from ferry.offline import RIGHT, Plan
from ferry.owner import Owner
from ferry.settings import Settings

log = logging.getLogger("ferry")
T = TypeVar("T")


@dataclass(frozen=True)
class Desk:
    """What the agents can reach: the repository, what the machines have now, owner, models."""

    folder: Path
    stages: Mapping[str, Settings]
    owner: Owner
    models: Mapping[str, Model]

    def path(self, name: str) -> Path:
        """Return the path of a file in the repository; the agents get no further."""
        if name != Path(name).name or not name.endswith((".ini", ".toml")):
            message = f"{name!r} is no file of settings."
            raise ModelRetry(message)
        return self.folder / name


surveyor = Agent(
    name="surveyor",
    deps_type=Desk,
    output_type=Plan,
    instructions="You list the settings files of ticket machines that are in the old format.",
)
_WORK = (
    "You migrate one settings file of a ticket machine from NAME.ini to NAME.toml: fares in pence, "
    "crossings as lists of times, nothing left out. Check the new file and delete the old one."
)
migrator = Agent(name="migrator", deps_type=Desk, instructions=_WORK)
apprentice = Agent(name="apprentice", deps_type=Desk, instructions=_WORK)
clerk = Agent(
    name="clerk",
    deps_type=Desk,
    instructions="You ask the owner what only the owner may decide, and report the decision.",
)


@surveyor.tool
def list_files(ctx: RunContext[Desk]) -> list[str]:
    """List the files in the repository."""
    return sorted(path.name for path in ctx.deps.folder.iterdir() if path.is_file())


@migrator.tool
@apprentice.tool
def read_file(ctx: RunContext[Desk], name: str) -> str:
    """Read a file."""
    path = ctx.deps.path(name)
    if not path.is_file():
        message = f"There is no file {name}."
        raise ModelRetry(message)
    return path.read_text(encoding="utf-8")


@migrator.tool
@apprentice.tool
def write_file(ctx: RunContext[Desk], name: str, text: str) -> str:
    """Write a file, in place of what is there."""
    ctx.deps.path(name).write_text(text, encoding="utf-8")
    return f"{name} has {len(text.splitlines())} lines."


@migrator.tool
@apprentice.tool
def delete_file(ctx: RunContext[Desk], name: str) -> str:
    """Delete a file."""
    ctx.deps.path(name).unlink(missing_ok=True)
    return f"{name} is gone."


@migrator.tool
@apprentice.tool
def check_file(ctx: RunContext[Desk], name: str) -> str:
    """Ask the machine's own program whether a new file has all that the machine needs."""
    path = ctx.deps.path(name)
    faults = ctx.deps.stages[path.stem].faults(path.read_text(encoding="utf-8"))
    for fault in faults:
        log.info("  check: %s: %s", name, fault)
    return "; ".join(faults) or RIGHT


@clerk.tool
async def ask_the_owner(ctx: RunContext[Desk], question: str) -> str:
    """Ask the owner of the ferry line, who may take hours to answer."""
    return await ctx.deps.owner.decide(question)


async def ask(agent: Agent[Desk, T], prompt: str, desk: Desk) -> T:
    """Run an agent, with the model of its role, and return its answer."""
    result = await agent.run(prompt, deps=desk, model=desk.models[str(agent.name)])
    return result.output
