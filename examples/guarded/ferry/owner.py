"""The owner of the ferry line: a person at another terminal, or an answer given beforehand."""

import asyncio
import logging

from otel_agents import human

log = logging.getLogger("ferry")
# How long an answer given beforehand leaves the question open.
ANSWER_SECONDS = 1.0


class Owner:
    """Who decides what no agent may decide."""

    def __init__(self, wait_id: str, answer: str | None = None) -> None:
        """Say how the question is called; an `answer` is approved or rejected."""
        self.wait_id = wait_id
        self.answer = answer
        self.decision = ""

    async def decide(self, question: str) -> str:
        """Ask, wait for as long as it takes, and return the decision."""
        wait = human(question, id=self.wait_id, priority="high")
        log.info("publish: %s", question)
        if self.answer is None:
            log.info("  answer from another terminal, in this folder:")
            log.info("  otel-agents hitl resolve %s --approve", self.wait_id)
        else:
            soon = asyncio.get_running_loop().call_later
            soon(ANSWER_SECONDS, wait.resolve, self.answer, "as the command line says")
        given = await wait
        self.decision = given.decision
        log.info("  %s by %s", given.decision, given.by)
        return self.decision
