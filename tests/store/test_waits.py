"""Waits for humans: rows of the signals that tell of them, and answers that come once."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_agents.errors import AlreadyAnsweredError, InvalidInputError, NotFoundError
from otel_agents.settings import Settings
from otel_agents.signals import Edge, Signal
from otel_agents.store import Batch, Store
from otel_agents.store.retention import Retention
from otel_agents.store.waits import MOST_TEXT
from otel_agents.vocabulary import (
    DECISION,
    OUTCOMES,
    WAIT_ATTEMPTS,
    WAIT_ERROR,
    WAIT_ID,
    WAIT_PRIORITY,
    WAIT_REASON,
    WAIT_TOOL,
    WAIT_TOOL_CALL,
)
from tests.state.build import SECOND

from .build import every, ids_of, made, wipe, write
from .waiting import run, told

if TYPE_CHECKING:
    from tests.databases import Opener

FEW: Final = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))


def ids(store: Store, status: str = "open") -> list[str]:
    found: list[str] = ids_of(store.hitl.list(status=status)["items"], "id")
    return found


def test_a_wait_has_all_that_its_start_says(store: Store) -> None:
    """With where it is in its run, and how long ago it was asked."""
    said = {
        WAIT_REASON.key: "deploy to production?", WAIT_ATTEMPTS.key: 3,
        WAIT_ERROR.key: "HTTP 500", WAIT_PRIORITY.key: "high", WAIT_TOOL.key: "deploy",
        WAIT_TOOL_CALL.key: "call-1",
    }  # fmt: skip
    write(store, run(), told("start", id="go", ago=5, attributes=said))

    (wait,) = store.hitl.list()["items"]
    assert wait == store.hitl.get("go") | {"age_seconds": wait["age_seconds"]}
    assert wait["age_seconds"] >= 5
    del wait["age_seconds"], wait["asked_at"]
    assert wait == {
        "id": "go", "scope_id": "s1", "run_id": "r1", "workflow": "shop", "phase": "build",
        "agent": "coder", "task_id": "t-1", "reason": "deploy to production?", "tool": "deploy",
        "tool_call_id": "call-1", "attempts": 3, "last_error": "HTTP 500", "priority": "high",
        "status": "open", "decision": None, "answer": None, "answered_by": None,
        "answered_at": None, "closed_at": None, "trace_id": "t" * 32, "span_id": "s" * 16,
    }  # fmt: skip
    assert store.hitl.waiting() == 1
    assert store.hitl.answer_to("go") is None


def test_an_answer_is_a_signal_like_any(store: Store) -> None:
    """It stands in the feed and in the row, without secrets, until the wait ends; once."""
    write(store, run(), told("start", id="go"))
    heard = threading.Event()
    store.on_commit(heard.set)
    item, signal = store.hitl.answer("go", "approved", "use sk-0123456789abcdef0123", "console")

    assert heard.is_set()
    assert (item["status"], item["decision"], item["answer"], item["answered_by"]) == (
        "answered", "approved", "use [redacted]", "console",
    )  # fmt: skip
    last = store.feed(0)[-1]
    assert last["type"] == "human"
    assert last["payload"]["scope_id"] == signal.scope_id == "s1"
    assert last["payload"]["attributes"][DECISION.key] == "approved"
    taken = store.hitl.answer_to("go")
    assert taken is not None
    assert (taken["decision"], taken["answer"]) == ("approved", "use [redacted]")
    with pytest.raises(AlreadyAnsweredError, match="approved already by console"):
        store.hitl.answer("go", "rejected", None, "cli")
    assert (ids(store), ids(store, "answered")) == ([], ["go"])

    write(store, told("end", id="go", result="success", decision="approved", by="console"))
    assert store.hitl.get("go")["closed_at"] is not None
    assert store.hitl.answer_to("go") is None
    with pytest.raises(AlreadyAnsweredError):
        store.hitl.answer("go", "rejected", None, "cli")


def test_of_two_that_answer_at_once_one_is_too_late(stores: Opener, database_url: str) -> None:
    """Over two processes' stores on one database: eight answers, one of which counts."""
    opened = [stores(database_url) for _ in range(2)]
    write(opened[0], run(), told("start", id="go"))
    came: list[str] = []
    late: list[str] = []
    ready = threading.Barrier(8)

    def say(number: int) -> None:
        ready.wait()
        try:
            opened[number % 2].hitl.answer("go", "answered", f"text {number}", "cli")
            came.append(f"text {number}")
        except AlreadyAnsweredError as error:
            late.append(str(error))

    threads = [threading.Thread(target=say, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (len(came), len(late)) == (1, 7)
    assert opened[0].hitl.get("go")["answer"] == came[0]
    assert sum(one["type"] == "human" for one in opened[0].feed(0)) == 1


def test_a_wait_that_went_on_without_an_answer_is_closed(store: Store) -> None:
    """A time-out, a cancellation, and an answer that came when nobody took it any more."""
    write(
        store, run(),
        told("start", "timed"), told("end", "timed", result="failure"),
        told("start", "stopped"), told("fact", "stopped", decision="approved"),
        told("end", "stopped", result="cancelled"),
    )  # fmt: skip

    assert sorted(ids(store, "closed")) == ["stopped", "timed"]
    assert store.hitl.answer_to("stopped") is None
    with pytest.raises(AlreadyAnsweredError, match="Nobody waits"):
        store.hitl.answer("timed", "approved", None, "cli")


def test_a_run_that_is_over_leaves_its_waits_closed_and_a_lost_one_lost(store: Store) -> None:
    """One that was lost may be answered: whoever goes on with the run finds the answer."""
    write(
        store,
        run(run_id="over", ago=100), told("start", "a", run="over", ago=90),
        run("end", "over", ago=80, result="failure"),
        run(run_id="gone", ago=100), told("start", "b", run="gone", ago=90),
        told("start", "old", run="", ago=90_000), told("start", "new", run="", ago=60),
    )  # fmt: skip

    assert (ids(store), ids(store, "closed"), ids(store, "lost")) == (["new"], ["a"], ["b", "old"])
    assert store.hitl.get("a")["closed_at"] is not None
    assert store.hitl.waiting() == 1
    store.hitl.answer("b", "approved", None, "cli")
    taken = store.hitl.answer_to("b")
    assert taken is not None
    assert taken["decision"] == "approved"


def test_a_call_that_was_put_off_stays_open_when_its_program_has_ended(store: Store) -> None:
    """However long ago that was; a run that is held is neither over nor lost."""
    said = {WAIT_TOOL_CALL.key: "call-1", WAIT_TOOL.key: "delete"}
    write(
        store, run(ago=9000), told("start", "s1", ago=8000, attributes=said),
        run("end", ago=7990, result="success"),
    )  # fmt: skip

    assert ids(store) == ["s1"]
    assert [one["status"] for one in store.runs()["items"]] == ["waiting"]
    assert store.runs(status="lost")["items"] == []
    assert ids_of(store.runs(status="waiting")["items"], "run_id") == ["r1"]
    (standing,) = store.standing(time.time_ns()).runs
    assert (standing["late"], standing["status"]) == (0, "waiting")
    store.hitl.answer("s1", "approved", None, "cli")
    write(store, told("end", "s1", result="success", decision="approved", attributes=said))
    assert [one["status"] for one in store.runs()["items"]] == ["succeeded"]


def test_an_answer_holds_for_the_same_question_asked_again_by_the_same_run(store: Store) -> None:
    """The first process was killed; the second one takes what was said meanwhile."""
    write(store, run(), told("start", "s1", id="go", ago=9))
    store.hitl.answer("go", "approved", "fine", "cli")
    write(store, told("start", "s2", id="go", ago=1))
    for name in ("go", "s2"):
        taken = store.hitl.answer_to(name)
        assert taken is not None
        assert (taken["scope_id"], taken["answer"]) == ("s2", "fine")


def test_an_answer_holds_for_nothing_else(store: Store) -> None:
    """Not for the same id in another run, nor for one that is asked again after it ended."""
    write(
        store, run(), run(run_id="r2"),
        told("start", "s1", id="go", ago=9),
        told("fact", "s1", id="go", ago=8, decision="approved"),
        told("start", "s2", id="go", run="r2", ago=7),
    )  # fmt: skip
    assert store.hitl.answer_to("s2") is None
    assert store.hitl.answer_to("go") is None
    assert store.hitl.answer_to("s1") is not None
    write(
        store, told("end", "s1", id="go", ago=6, result="success", decision="approved"),
        told("start", "s3", id="go", ago=1),
    )  # fmt: skip
    assert store.hitl.answer_to("s3") is None


def test_an_id_that_several_runs_wait_by_names_none_of_them(store: Store) -> None:
    """The scopes' ids are in the sentence, and name one each."""
    write(
        store, run(), run(run_id="r2"),
        told("start", "s1", id="go"), told("start", "s2", id="go", run="r2"),
    )  # fmt: skip
    with pytest.raises(InvalidInputError, match=r"2 waits of different runs.*s1"):
        store.hitl.answer("go", "approved", None, "cli")
    assert store.hitl.answer("s1", "approved", None, "cli")[0]["run_id"] == "r1"
    assert store.hitl.answer("go", "rejected", None, "cli")[0]["run_id"] == "r2"


def test_one_that_is_asked_anew_by_its_run_is_closed(store: Store) -> None:
    """Of one id one of a run is open: a restarted process asks again."""
    write(store, run(), told("start", "s1", id="go", ago=9), told("start", "s2", id="go"))
    assert ids_of(store.hitl.list()["items"], "scope_id") == ["s2"]
    assert ids_of(store.hitl.list(status="closed")["items"], "scope_id") == ["s1"]


@pytest.mark.parametrize(
    ("decision", "text"),
    [("maybe", None), ("answered", None), ("answered", "  "), ("approved", "x" * (MOST_TEXT + 1))],
)
def test_what_is_no_answer_is_refused(store: Store, decision: str, text: str | None) -> None:
    """In one sentence, and nothing is stored."""
    write(store, run(), told("start"))
    with pytest.raises(InvalidInputError):
        store.hitl.answer("s1", decision, text, "cli")
    assert store.hitl.get("s1")["status"] == "open"


@pytest.mark.parametrize("name", ["none", "", "\ud800", "a" * 3000, "a\0b", "'; --"])
def test_a_wait_that_is_none_is_not_found(store: Store, name: str) -> None:
    """Neither to be shown nor to be answered; an id that cannot be one is said to be none."""
    for ask in (store.hitl.get, lambda one: store.hitl.answer(one, "approved", None, "cli")):
        with pytest.raises((NotFoundError, InvalidInputError)):
            ask(name)


def test_hostile_texts_are_kept_as_text(store: Store) -> None:
    """NUL, half a surrogate pair, too much of everything, and what is no text or number."""
    said = {
        WAIT_REASON.key: "a\0b\ud800" + "x" * 99_999, WAIT_ATTEMPTS.key: 1 << 70,
        WAIT_ERROR.key: ["no"], WAIT_PRIORITY.key: "<script>" * 999, WAIT_ID.key: "i\0" * 999,
    }  # fmt: skip
    write(store, told("start", attributes=said))
    wait = store.hitl.get("s1")
    assert wait["reason"].startswith("a␀b")
    assert len(wait["reason"]) <= 4000
    assert len(wait["priority"]) <= 200
    assert wait["last_error"] is None
    assert len(wait["id"]) <= 256
    assert store.hitl.get(wait["id"])["scope_id"] == "s1"


def test_the_list_has_pages(store: Store) -> None:
    """The last to be asked first; two of one moment both come, once each."""
    now = time.time_ns()
    write(
        store, run(),
        *(told("start", f"s{number}", at=now - number // 2 * SECOND) for number in range(9)),
    )  # fmt: skip
    found = every(store.hitl.list, limit=2)
    assert ids_of(found, "id") == [f"s{number}" for number in range(9)]
    with pytest.raises(InvalidInputError):
        store.hitl.list(status="gone")
    with pytest.raises(InvalidInputError):
        store.hitl.list(cursor="nonsense")


def test_waits_go_with_their_run(store: Store) -> None:
    """By hand, by age, and those of no run by their own age."""
    old = 90_000.0 * 30
    write(
        store, run(), told("start"), run(run_id="r2", ago=old),
        told("start", "s2", run="r2", ago=old), told("start", "s3", run="", ago=old),
    )  # fmt: skip
    store.delete_run("r1")
    assert sorted(ids(store, "all")) == ["s2", "s3"]
    store.retain = Retention(retain_days=1)
    store.maintain()
    assert ids(store, "all") == []


@st.composite
def stories(draw: st.DrawFn) -> list[Signal]:
    """Signals of some waits, told in any way a broken program might."""
    found = []
    for count in range(draw(st.integers(1, 10))):
        edges: tuple[Edge, ...] = ("start", "fact", "end", "progress")
        edge = draw(st.sampled_from(edges))
        scope = draw(st.sampled_from(["s1", "s2", "s3"]))
        found.append(
            told(
                edge, scope, at=1000 * SECOND + draw(st.integers(0, 4)), signal=f"n{count}",
                run=draw(st.sampled_from(["", "r1"])), id=draw(st.sampled_from([scope, "go", ""])),
                decision=draw(st.sampled_from([None, "approved", "rejected", "nonsense"])),
                text=draw(st.sampled_from([None, "yes", "no"])),
                by=draw(st.sampled_from(["cli", "api"])),
                result=draw(st.sampled_from([*OUTCOMES, ""])),
                duration=draw(st.sampled_from([None, 1.0, 1e12, -1.0])),
                attributes=draw(st.sampled_from([{}, {WAIT_ATTEMPTS.key: 2}])),
            )
        )  # fmt: skip
    return found


@FEW
@given(story=stories(), data=st.data())
def test_rows_are_the_same_in_any_order(
    database_url: str, story: list[Signal], data: st.DataObject
) -> None:
    """In any order, split and repetition, over two stores on one database."""
    stores = [Store(database_url, durable=False) for _ in range(2)]
    try:
        wipe(stores[0])
        write(stores[0], *story)
        once = made(stores[0])["waits"]
        wipe(stores[0])
        again = data.draw(st.permutations([*story, *data.draw(st.lists(st.sampled_from(story)))]))
        while again:
            count = data.draw(st.integers(1, len(again)))
            data.draw(st.sampled_from(stores)).write(Batch(signals=again[:count]))
            again = again[count:]
        assert made(stores[0])["waits"] == once
    finally:
        for store in stores:
            store.close()


def test_whoever_waits_asks_the_store(store: Store, database_url: str) -> None:
    """By the wait's id or its scope's; there is None where there is no answer."""
    from otel_agents.answers import Answer, answers_of

    write(store, run(), told("start", id="go"))
    answers = answers_of(Settings(store=database_url))
    assert answers is not None
    try:
        assert answers.poll("go") is None
        assert answers.poll("other") is None
        before = time.time_ns()
        store.hitl.answer("go", "answered", "blue", "cli")
        answer = answers.poll("s1")
        assert answer == Answer("s1", "answered", "blue", "cli", answer.at if answer else 0)
        assert abs(answer.at - before) < 60 * SECOND
    finally:
        answers.close()
