"""The orchestrator: a queue of tasks, attempts at each, a budget, and a person where it ends.

It works task by task, so that it always does the same. What happens it tells with `emit_event`
and `record_critic_decision`; nothing here knows who listens.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from landings.agents import Answer, Draft, Memory, coder, critic, estimate, validator
from landings.book import COLUMNS, Columns, Page, Task, deliver
from otel_agents import emit_event, progress, record_critic_decision, run

MOST_ATTEMPTS = 3
WARN_AT = 0.8
WORKFLOW = "landing-book"


class Question(NamedTuple):
    """What a person must decide: the agents are at their wits' end, or their money is spent."""

    task_id: str
    attempts: int
    complaint: str
    rows: list[dict[str, str]]

    def __str__(self) -> str:
        """Return it in words."""
        return (
            f"A person must decide on {self.task_id}, "
            f"after {self.attempts} attempts: {self.complaint}."
        )


class Budget:
    """What a run may cost in USD; it says so once at four fifths, and once when it is spent."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.spent = 0.0
        self._told: set[str] = set()

    @property
    def is_spent(self) -> bool:
        """Whether no more may be begun."""
        return self.spent > self.limit

    def pay(self, cost: float) -> None:
        """Take a cost in."""
        self.spent = round(self.spent + cost, 6)
        if self.spent >= WARN_AT * self.limit:
            self._tell("budget_warning")
        if self.is_spent:
            self._tell("budget_exceeded")

    def _tell(self, event: str) -> None:
        if event not in self._told:
            self._told.add(event)
            emit_event(event, {"scope": WORKFLOW, "limit": self.limit, "spent": self.spent})


class Orchestrator:
    """Has a book copied; `pace` is how many seconds each step takes, beside its work."""

    def __init__(self, pages: list[Page], budget: Budget, pace: float) -> None:
        self.pages = pages
        self.budget = budget
        self._pace = pace
        self._read: Columns = {}

    async def copy(self, out: Path, run_id: str | None) -> Path | Question:
        """Have every column of every page read; return the file of clean figures, or a question."""
        goal = f"copy {len(self.pages)} pages in clean figures"
        with run(WORKFLOW, id=run_id, goal=goal) as scope:
            question = await self._work_off()
            if question is not None:
                scope.fail(str(question))
                return question
            deliver(out / "landings.csv", self.pages, self._read)
            return out / "landings.csv"

    async def _work_off(self) -> Question | None:
        """Queue every column of every page, and take one after the other."""
        queue = deque(Task(page, column) for page in self.pages for column in COLUMNS)
        total = len(queue)
        for task in queue:
            queued = {"task_id": task.id, "feature": task.column, "est_cost": estimate(task)}
            emit_event("task_queued", queued)
        while queue:
            question = await self._work(queue.popleft())
            if question is not None:
                return question
            progress(total - len(queue), total)
        return None

    async def _work(self, task: Task) -> Question | None:
        """Try until a draft is valid, the attempts are used up, or the money is."""
        memory = Memory(task)
        attempts = 0
        while attempts < MOST_ATTEMPTS and not self.budget.is_spent:
            attempts += 1
            if await self._attempt(task, memory):
                return None
        complaint = memory.complaint or "the budget is spent"
        emit_event("hitl_escalated", {
            "task_id": task.id, "attempts": attempts, "last_error": complaint,
            "priority": "high" if self.budget.is_spent else "normal",
        })  # fmt: skip
        rows = [row for row in task.page.rows if row[task.column] in memory.cited]
        return Question(task.id, attempts, complaint, rows)

    async def _attempt(self, task: Task, memory: Memory) -> bool:
        name = f"{task.column}-coder"
        drafted = await self._ask(name, task, lambda: coder(task, memory), ("success", "failed"))
        draft = drafted.draft
        if draft is None:
            memory.complaint = drafted.text
            return False
        verdicts = ("approved", "rejected")
        judged = await self._ask("critic", task, lambda: critic(task, draft), verdicts)
        # The critic's status says the same; of both together one decision is counted.
        record_critic_decision(rejected=not judged.good, task_id=task.id, agent="critic")
        if not judged.good:
            memory.learn(draft, judged)
            return False
        return await self._validate(task, draft, memory)

    async def _ask(
        self, agent: str, task: Task, work: Callable[[], Answer], statuses: tuple[str, str]
    ) -> Answer:
        """Have an agent work, and tell when it began and how it ended."""
        emit_event("agent_started", {"agent": agent, "task_id": task.id})
        began = time.perf_counter()
        await asyncio.sleep(self._pace)
        answer = work()
        emit_event("agent_completed", {
            "agent": agent, "task_id": task.id, "status": statuses[not answer.good],
            "duration_ms": _ms_since(began), "cost_usd": answer.cost,
            "says": answer.text,  # further keys are kept
        })  # fmt: skip
        self.budget.pay(answer.cost)
        return answer

    async def _validate(self, task: Task, draft: Draft, memory: Memory) -> bool:
        began = time.perf_counter()
        await asyncio.sleep(self._pace)
        found = validator(task, draft)
        emit_event("validation_complete", {
            "task_id": task.id, "result": "passed" if found.good else "failed",
            "cost": found.cost, "duration_ms": _ms_since(began), "says": found.text,
        })  # fmt: skip
        self.budget.pay(found.cost)
        if not found.good:
            memory.learn(draft, found)
            return False
        values = (draft.read(cell) for cell in task.cells)
        self._read[task.id] = [value for value in values if value is not None]
        return True


def _ms_since(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 3)
