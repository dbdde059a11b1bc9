"""The orchestrator: who migrates which file, who takes over, and who has to be asked."""

import logging
from typing import NamedTuple

from ferry import agents, repository
from ferry.agents import Desk, ask
from otel_agents import BudgetExceeded, phase, run, task, validation
from otel_agents.checkpoints import taken

log = logging.getLogger("ferry")


class Outcome(NamedTuple):
    """What a run has come to: who migrated each file, what was decided, and the commit if any."""

    by: dict[str, str]
    decision: str
    commit: str | None


class Migration:
    """Survey the files, migrate one after another, and commit what the owner approves."""

    name = "migration"

    def __init__(self, desk: Desk) -> None:
        """Sit down at a desk; the dear agent begins."""
        self.desk = desk
        self.worker = agents.migrator
        self.by: dict[str, str] = {}

    async def run(self, run_id: str) -> Outcome:
        """Migrate everything; the scopes say what is a run, a phase and a task."""
        with run(self.name, id=run_id, goal="settings of all ticket machines in the new format"):
            with phase("survey"):
                plan = await ask(agents.surveyor, "What is in the old format?", self.desk)
                log.info("survey: %d files in the old format", len(plan.files))
            with phase("migrate"):
                for name in plan.files:
                    await self.migrate(name)
            with phase("publish"):
                return await self.publish()

    async def migrate(self, name: str) -> None:
        """Have a file migrated; where the budget of who does it is spent, somebody cheaper does."""
        with task("migrate", id=name.removesuffix(".ini"), feature="settings"):
            prompt = f"Migrate {name}."
            if saved := taken():  # the tree as it is now, before anybody begins with the file
                prompt += f" To take back all that you did, answer: /restore {saved[0].id}"
            try:
                await ask(self.worker, prompt, self.desk)
            except BudgetExceeded as spent:
                log.info("  %s", spent)
                log.info("  the apprentice takes over from here")
                self.worker = agents.apprentice
                await ask(self.worker, prompt, self.desk)
            self.check(name)

    def check(self, name: str) -> None:
        """Hold a new file against what the machine has now; no model is asked."""
        stage = name.removesuffix(".ini")
        old, new = self.desk.folder / name, self.desk.folder / f"{stage}.toml"
        there = new.is_file() and not old.exists()
        good = there and not self.desk.stages[stage].faults(new.read_text(encoding="utf-8"))
        validation("settings", passed=good).record()
        self.by[stage] = str(self.worker.name)
        log.info("  %s by the %s: %s", new.name, self.by[stage], "right" if good else "wrong")

    async def publish(self) -> Outcome:
        """Have the owner asked, and commit what was done if the owner approves."""
        question = f"Commit the new settings of {len(self.by)} stages?"
        await ask(agents.clerk, question, self.desk)
        decision = self.desk.owner.decision  # not what the agent says of it
        commit = None
        if decision == "approved":
            commit = repository.commit(self.desk.folder, "Settings in the new format")
        return Outcome(self.by, decision, commit)
