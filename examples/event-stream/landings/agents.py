"""The team: a coder that drafts rules, a critic that tries them, a validator that adds up.

Each is a plain function of text, as a model would be: it is given text, answers with text, and
is paid by the character.
"""

from itertools import combinations
from typing import NamedTuple

from landings.book import Task
from landings.notations import NOTATIONS, Notation, Value

USD_READ, USD_WRITTEN = 0.000_02, 0.000_1
"""What a character costs that an agent is given, and one that it answers: rates made up here."""
SAMPLE = 4  # cells that a coder looks at before its first draft
_MOST_RULES = 3

BRIEFS = {
    "coder": "Choose as few notations as read every cell that you are shown. In this order.",
    "critic": "Try the rules on all cells. Reject what is left unread, or read in two ways.",
    "validator": "Add the column up. Compare it with what the harbour office wrote below.",
}


class Draft(NamedTuple):
    """The rules for one column of one page; the first that fits a cell reads it."""

    rules: tuple[Notation, ...]

    def read(self, cell: str) -> Value | None:
        """Return what a cell says, or None where no rule fits."""
        return next((v for rule in self.rules if (v := rule.read(cell)) is not None), None)

    def __str__(self) -> str:
        """Return the rules' names."""
        return ", ".join(rule.name for rule in self.rules)


class Answer(NamedTuple):
    """What an agent said, whether that is a yes, and what it costs in USD."""

    text: str
    good: bool
    cost: float
    draft: Draft | None = None
    cited: tuple[str, ...] = ()


class Memory:
    """What is known of one task: cells that were seen, and drafts that were turned down."""

    def __init__(self, task: Task) -> None:
        self.seen = task.cells[:SAMPLE]
        self.refused: list[Draft] = []
        self.cited: tuple[str, ...] = ()
        self.complaint = ""

    def learn(self, draft: Draft, answer: Answer) -> None:
        """Keep why a draft was turned down."""
        self.refused.append(draft)
        self.seen += [cell for cell in answer.cited if cell not in self.seen]
        self.cited += answer.cited
        self.complaint = answer.text


def price(read: str, written: str) -> float:
    """Return what an agent takes for reading and writing so much."""
    return round(len(read) * USD_READ + len(written) * USD_WRITTEN, 6)


def estimate(task: Task) -> float:
    """Return what a task costs if the first draft is good and short: what is told beforehand."""
    handed = "\n".join((*BRIEFS.values(), *task.cells[:SAMPLE], *task.cells, *task.cells))
    return price(handed, NOTATIONS[task.column][0].name)


def coder(task: Task, memory: Memory) -> Answer:
    """Draft the smallest set of rules that reads what was seen and was not turned down."""
    names = [notation.name for notation in NOTATIONS[task.column]]
    handed = "\n".join((BRIEFS["coder"], *names, *memory.seen, memory.complaint))
    for size in range(1, _MOST_RULES + 1):
        for rules in combinations(NOTATIONS[task.column], size):
            draft = Draft(rules)
            unread = any(draft.read(cell) is None for cell in memory.seen)
            if not unread and draft not in memory.refused:
                return Answer(str(draft), True, price(handed, str(draft)), draft)
    text = "no set of rules is left to try"
    return Answer(text, False, price(handed, text))


def critic(task: Task, draft: Draft) -> Answer:
    """Try a draft on every cell, and cite those that it does not read in exactly one way."""
    handed = "\n".join((BRIEFS["critic"], str(draft), *task.cells))
    wrong = []
    for cell in dict.fromkeys(task.cells):
        values = {v for rule in draft.rules if (v := rule.read(cell)) is not None}
        if len(values) != 1:
            wrong.append(cell)
    text = f"unread or read in two ways: {'; '.join(wrong)}" if wrong else "approved"
    return Answer(text, not wrong, price(handed, text), cited=tuple(wrong))


def validator(task: Task, draft: Draft) -> Answer:
    """Hold what a draft reads against what the office wrote below the column."""
    values = [draft.read(cell) for cell in task.cells]
    below = task.page.totals[task.column]
    if task.column == "day":
        days = [str(value) for value in values]
        good = days == sorted(days) and days[-1] == below
        text = "the days agree" if good else f"the days do not go on to {below} in order"
    else:
        total = sum(int(value or 0) for value in values)
        unit = "lb" if task.column == "weight" else "d"
        good = total == int(below)
        text = "the sum agrees" if good else f"the sum is {total} {unit}, the page says {below}"
    handed = "\n".join((BRIEFS["validator"], below, *map(str, values)))
    return Answer(text, good, price(handed, text))
