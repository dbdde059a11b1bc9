"""What the agents hand to one another."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from logbook.source import Chapter

Quote = Annotated[str, Field(min_length=1, max_length=160)]


class Outline(BaseModel):
    """What the planner is given."""

    goal: str
    chapters: list[Chapter]


class WorkItem(BaseModel):
    """The passages of one chapter that one reader works through."""

    id: Annotated[str, Field(pattern=r"^item-\d{2}$")]
    chapter: str
    first: int
    last: int


class Plan(BaseModel):
    """The planner's answer: every passage in exactly one work item."""

    items: list[WorkItem]


class Note(BaseModel):
    """One thing that a passage says, with the words that say it.

    - event: what happened; `subject` is the passage's day as written.
    - name: a person, ship, place or instrument is mentioned; `subject` is the name.
    - measure: a lasting property; `subject` is the thing ("tower"), `value` "118 feet".
    - count: a number of that day; `subject` is the unit ("gallons"), `value` "412 gallons".
    - reference: the passage points to another day; `subject` is that date ("14 March"),
      `cites` the passage found there, `value` a remark where none was found.
    """

    passage: int
    kind: Literal["event", "name", "measure", "count", "reference"]
    subject: str
    quote: Quote
    value: str = ""
    cites: int | None = None


class Draft(BaseModel):
    """A reader's notes on a work item."""

    item: WorkItem
    notes: list[Note]


class Problem(BaseModel):
    """Why the critic does not accept a draft."""

    passage: int
    reason: Literal["uncovered", "quote", "citation", "ambiguous"]
    detail: str


class Assignment(BaseModel):
    """What a reader is given: the work item, and what the critic has said of it so far."""

    item: WorkItem
    problems: list[Problem]


class Handover(BaseModel):
    """The reader's answer: where the draft lies and how much is in it."""

    draft: str
    notes: int


class Submission(BaseModel):
    """What the critic is given."""

    item: WorkItem
    draft: str


class Verdict(BaseModel):
    """The critic's answer; a draft without a problem is approved."""

    problems: list[Problem]

    @property
    def approved(self) -> bool:
        """Whether the critic is content."""
        return not self.problems


class Query(BaseModel):
    """What the resolver is given: a sentence that points to another day."""

    passage: int
    sentence: str
    date: str


class Reference(BaseModel):
    """The resolver's answer: the passage that is meant, or a remark why there is none."""

    cites: int | None
    remark: str = ""


class Examination(BaseModel):
    """What the examiner is given; it looks for the rest itself."""

    log: str


class Evidence(BaseModel):
    """The words of one passage."""

    passage: int
    quote: Quote


class Finding(BaseModel):
    """A contradiction or misprint, shown in the log's own words."""

    kind: Literal["measure", "recollection", "date", "reference", "name"]
    title: str
    explanation: str
    evidence: list[Evidence]


class Findings(BaseModel):
    """The examiner's answer."""

    findings: list[Finding]


class DigestOrder(BaseModel):
    """What the digest writer is given: the events of a chapter."""

    chapter: str
    events: list[Note]
