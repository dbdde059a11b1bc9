"""The orchestrator: who does what, how often, and when it is good enough."""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from logbook import agents
from logbook.agents import Desk, ask, stream
from logbook.book import Book, Digest, bind
from logbook.records import (
    Assignment,
    DigestOrder,
    Examination,
    Note,
    Outline,
    Problem,
    Submission,
    Verdict,
    WorkItem,
)
from logbook.source import Chapter, Passage

T = TypeVar("T")
log = logging.getLogger("logbook")


@dataclass(frozen=True)
class Order:
    """What somebody has asked for."""

    id: str
    goal: str
    out: Path
    editor: str = "the editor of the log"
    max_iterations: int = 3


@dataclass
class Task:
    """A work item on its way, with all that the critic has ever found in it."""

    id: str
    item: WorkItem
    state: str = "PENDING"
    attempts: int = 0
    draft: str = ""
    verdict: Verdict = field(default_factory=lambda: Verdict(problems=[]))
    problems: list[Problem] = field(default_factory=list)


class Round(NamedTuple):
    """How many of the tasks are done after an iteration."""

    number: int
    approved: int
    total: int


class Validation(NamedTuple):
    """Whether all that the book quotes and cites stands in the log, and what does not."""

    passed: bool
    faults: list[str]


class Delivery(NamedTuple):
    """Where the book lies."""

    success: bool
    url: str
    files: list[Path]


class Outcome(NamedTuple):
    """What a run has come to."""

    run_id: str
    iterations: int
    counts: dict[str, int]
    url: str


class Escalation(Exception):  # noqa: N818 - not a fault of the program but a question
    """A decision that only a person can take; nothing is delivered without it."""

    def __init__(
        self, who: str, decision: str, task_id: str, attempts: int, evidence: list[Passage]
    ) -> None:
        """Say who must decide what, on what evidence, and how often which task was tried."""
        super().__init__(f"{who} must decide {decision}")
        self.who = who
        self.decision = decision
        self.task_id = task_id
        self.attempts = attempts
        self.evidence = evidence


class Worker:
    """A reader's place at the table: takes tasks from the queue until none is left."""

    kind = "reader"

    def __init__(self, name: str, desk: Desk) -> None:
        """Give the place a name."""
        self.name = name
        self.desk = desk

    async def run(self, queue: deque[Task]) -> int:
        """Do tasks until the queue is empty; return how many."""
        done = 0
        while queue:
            await self.do(queue.popleft())
            done += 1
        return done

    async def do(self, task: Task) -> Task:
        """Have a draft of one task written."""
        task.state = "RUNNING"
        task.attempts += 1
        assignment = Assignment(item=task.item, problems=task.problems)
        desk = replace(self.desk, item=task.item)
        handover = await ask(agents.reader, assignment, desk)
        task.draft = handover.draft
        task.state = "IN_REVIEW"
        return task


class Pipeline:
    """Plan, then draft and review until the critic is content, then compile, check, deliver."""

    name = "logbook"

    def __init__(self, desk: Desk, workers: int = 4) -> None:
        """Set the table for some workers."""
        self.desk = desk
        self.workers = [Worker(f"reader-{n}", desk) for n in range(1, workers + 1)]
        self.tasks: list[Task] = []

    async def run(self, order: Order, run_id: str) -> Outcome:
        """Carry out an order, or raise Escalation with the question that stands in its way."""
        self.order = order
        log.info("Run %s of order %s: %s", run_id, order.id, order.goal)
        self.tasks = await self.plan()
        for number in range(1, order.max_iterations + 1):
            await self.iterate(number)
            if self.check_gate():
                break
        else:
            raise self.escalation()
        book = await self.compile()
        validation = self.validate(book)
        if not validation.passed:
            decision = f"what becomes of the book, since {validation.faults[0]}"
            raise Escalation(order.editor, decision, task_id="book", attempts=1, evidence=[])
        delivery = self.deliver(book)
        return Outcome(run_id, number, book.counts(), delivery.url)

    async def plan(self) -> list[Task]:
        """Have the work divided into tasks."""
        outline = Outline(goal=self.order.goal, chapters=self.desk.log.chapters())
        plan = await ask(agents.planner, outline, self.desk)
        chapters = Counter(item.chapter for item in plan.items)
        log.info("plan: %d work items in %d chapters", len(plan.items), len(chapters))
        return [self.enqueue(item) for item in plan.items]

    def enqueue(self, item: WorkItem) -> Task:
        """Put a work item into the queue of the readers."""
        return Task(id=item.id, item=item)

    async def iterate(self, number: int) -> Round:
        """Draft and review once more whatever is not done."""
        await self.draft()
        await self.review()
        approved = sum(task.state == "DONE" for task in self.tasks)
        log.info("iteration %d: %d of %d items approved", number, approved, len(self.tasks))
        return Round(number, approved, len(self.tasks))

    async def draft(self) -> None:
        """Have the open tasks drafted, by all workers side by side."""
        queue = deque(task for task in self.tasks if task.state != "DONE")
        await together(*(worker.run(queue) for worker in self.workers))

    async def review(self) -> None:
        """Have the critic judge all new drafts side by side."""
        drafted = [task for task in self.tasks if task.state == "IN_REVIEW"]
        verdicts = await together(*(self.judge(task) for task in drafted))
        for task, verdict in zip(drafted, verdicts, strict=True):
            if not verdict.approved:
                faults = ", ".join(f"{p.passage} ({p.reason})" for p in verdict.problems)
                log.info("  %s rejected for passages %s", task.id, faults)

    async def judge(self, task: Task) -> Verdict:
        """Have the critic judge one draft, and keep what it says for the next reader."""
        submission = Submission(item=task.item, draft=task.draft)
        verdict = await ask(agents.critic, submission, self.desk)
        self.settle(task, verdict)
        return verdict

    def settle(self, task: Task, verdict: Verdict) -> Task:
        """Take a task off the table, or put it back into the queue with what is wrong with it."""
        task.state = "DONE" if verdict.approved else "PENDING"
        task.verdict = verdict
        task.problems += verdict.problems
        return task

    def check_gate(self) -> bool:
        """Tell whether every task is done."""
        return all(task.state == "DONE" for task in self.tasks)

    def escalation(self) -> Escalation:
        """Turn the first problem that no draft could mend into a question to a person."""
        task = next(task for task in self.tasks if task.state != "DONE")
        problem = task.verdict.problems[0]
        decision = f"what holds for passage {problem.passage}, since {problem.detail}"
        evidence = self.desk.log.between(problem.passage, problem.passage)
        return Escalation(self.order.editor, decision, task.id, task.attempts, evidence)

    async def compile(self) -> Book:
        """Have the contradictions found and the digests written, and bind the book."""
        notes = [note for task in self.tasks for note in self.desk.draft(task.draft).notes]
        found = await ask(agents.examiner, Examination(log=self.desk.log.title), self.desk)
        chapters = self.desk.log.chapters()
        digests = await together(*(self.digest(chapter, notes) for chapter in chapters))
        log.info("compile: %d findings, %d digests", len(found.findings), len(digests))
        return bind(self.desk.log, notes, found.findings, digests)

    async def digest(self, chapter: Chapter, notes: list[Note]) -> Digest:
        """Have the digest of a chapter written."""
        numbers = range(chapter.first, chapter.last + 1)
        events = [note for note in notes if note.kind == "event" and note.passage in numbers]
        order = DigestOrder(chapter=chapter.title, events=events)
        words = [words async for words in stream(agents.digester, order, self.desk)]
        return Digest(chapter=chapter.title, text="".join(words).strip())

    def validate(self, book: Book) -> Validation:
        """Hold every quote and citation against the log; no model is asked."""
        faults = book.faults(self.desk.log)
        for fault in faults:
            log.info("  %s", fault)
        quotes = len(book.evidence())
        log.info("validate: %d quotes held against the log, %d faults", quotes, len(faults))
        return Validation(not faults, faults)

    def deliver(self, book: Book) -> Delivery:
        """Write the book for people and for programs."""
        report, data = self.order.out / "report.md", self.order.out / "report.json"
        report.write_text(book.markdown(), encoding="utf-8")
        data.write_text(book.model_dump_json(indent=1) + "\n", encoding="utf-8")
        url = report.resolve().as_uri()
        log.info("deliver: %s", url)
        return Delivery(success=True, url=url, files=[report, data])


async def together(*jobs: Coroutine[None, None, T]) -> list[T]:
    """Do jobs side by side; the first to fail ends the others and is raised as itself."""
    try:
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(job) for job in jobs]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in running]
