"""How a run is drawn: at any width and height, with a word for every sign."""

# ruff: noqa: RUF001 - the signs are what is drawn

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inline_snapshot import snapshot

from otel_agents.cli.render import lines
from otel_agents.cli.text import budget, cost, duration, money, short
from otel_agents.state.estimate import history
from otel_agents.state.report import RunReport, report
from otel_agents.state.run import fold
from otel_agents.text import visible

from state.build import BEGIN, SECOND, Story, dead, living, shop, tokens  # isort: skip

WHY = "Exceeded maximum retries for output validation: the summary names passage 311, which is not"


def busy() -> Story:
    """Return the story of a run in the build phase of its second iteration."""
    story = Story("run-2").start(
        "run",
        name="shop",
        attributes={
            "otelagents.run.goal": "Sell all that is in stock", "otelagents.iteration.max": 3
        },
    )  # fmt: skip
    for number in (1, 2):
        where, planner = {"iteration": number, "phase": "build"}, f"planner{number}"
        story.start("iteration", f"i{number}", iteration=number)
        story.start("phase", f"p{number}", "plan", iteration=number)
        story.start("agent", planner, "planner", model="m-large", **where | {"phase": "plan"})
        story.wait(5).end(planner, usage=tokens(1200), cost=0.012).end(f"p{number}")
        story.start("phase", f"b{number}", "build", iteration=number)
        writers = [f"writer{number}{letter}" for letter in "abc"]
        for writer in writers:
            story.start("agent", writer, "writer", model="m-small", **where)
        story.wait(8)
        if number == 1:
            story.end(writers[0], usage=tokens(3000), cost=0.003)
            story.end(
                writers[1], "error", usage=tokens(900), cost=0.0009, error=("ModelRetry", WHY)
            )
            story.start("agent", "again", "writer", model="m-small", attempt=2, **where).wait(4)
            story.end("again", usage=tokens(800), cost=0.0008)
            story.end(writers[2], usage=tokens(3100), cost=0.0031)
            story.instant("gate", "tests", "failure", **where)
            story.end("b1", "failure").end("i1", "failure")
    story.progress("writer2a", usage=tokens(700), cost=0.0007)
    story.progress("b2", 1, 3)
    return story.start("human", "h", "may I buy more?", **where).wait(3)


def read(story: Story, *earlier: Story, alive: Any = living) -> RunReport:
    runs = fold(signal for each in (*earlier, story) for signal in each.signals)
    run = runs.by_id[str(story.ids["run_id"])]
    return report(run, now=story.now, alive=alive, history=history(runs, run))


def drawn(found: RunReport, width: int, now: int, height: int | None = None) -> str:
    return "\n" + "\n".join(
        line.plain.rstrip() for line in lines(found, now=now, width=width, height=height)
    )


def test_a_wide_terminal() -> None:
    """Numbers in full, models, notes."""
    story = busy()
    found = read(story, shop("earlier", BEGIN - 999 * SECOND))

    assert drawn(found, 100, story.now) == snapshot("""\

shop  ◆ waiting                                                                            run run-2
█████████████████████░░░░░░░░░  70%  33s so far, 3.0s of it waiting  updated 3s ago
waiting for a human since 00:00:30 UTC (3.0s): may I buy more?
  otel-agents hitl resolve h --approve
iteration 2 of at most 3
goal  Sell all that is in stock

✓ plan                   completed  ×2                        10s  2,640 tokens  $0.0240
  ✓ planner ×2  m-large  completed                          ~5.0s  2,640 tokens  $0.0240
● build                  running    ×2 33%                    23s  9,350 tokens  $0.0085
  ✗ writer  m-small      failed     attempt 1, iteration 1   8.0s    990 tokens  $0.0009
    ModelRetry: Exceeded maximum retries for output validation: the summary names passage 311, which
    is not
  ✓ writer ×3  m-small   completed                          ~8.0s  7,590 tokens  $0.0069
  ● writer  m-small      running    attempt 1                 11s    770 tokens  $0.0007
  ● writer  m-small      running    attempt 1                 11s
  ● writer  m-small      running    attempt 1                 11s
  ✗ gate tests  failed
  ◆ human asked may I buy more?  waiting  3.0s
○ review                 pending

agents  5 completed · 1 failed · 3 running
tokens  11,990 · 10,900 input · 1,090 output
calls   7 requests · 0 tool calls
cost    $0.0325\
""")


def test_a_narrow_terminal() -> None:
    """Sixty columns hold the same facts, in short."""
    story = busy()

    assert drawn(read(story), 60, story.now) == snapshot("""\

shop  ◆ waiting                                    run run-2
33s so far, 3.0s of it waiting  updated 3s ago
waiting for a human since 00:00:30 UTC (3.0s): may I buy mo…
  otel-agents hitl resolve h --approve
iteration 2 of at most 3
goal  Sell all that is in stock

✓ plan          completed  ×2        10s  2.6k  $0.0240
  ✓ planner ×2  completed          ~5.0s  2.6k  $0.0240
● build         running    ×2 33%    23s  9.3k  $0.0085
  ✗ writer      failed     try 1    8.0s   990  $0.0009
    ModelRetry: Exceeded maximum retries for output
    validation: the summary names passage 311, which is not
  ✓ writer ×3   completed          ~8.0s  7.6k  $0.0069
  ● writer      running    try 1     11s   770  $0.0007
  ● writer      running    try 1     11s
  ● writer      running    try 1     11s
  ✗ gate tests  failed
  ◆ human asked may I buy more?  waiting  3.0s

agents  5 completed · 1 failed · 3 running
tokens  11,990 · 10,900 input · 1,090 output
calls   7 requests · 0 tool calls
cost    $0.0325\
""")


def test_a_low_terminal_keeps_what_matters() -> None:
    """The phases and the sums stay; what went well goes first."""
    story = busy()

    assert drawn(read(story), 80, story.now, 18) == snapshot("""\

shop  ◆ waiting                                                        run run-2
33s so far, 3.0s of it waiting  updated 3s ago
waiting for a human since 00:00:30 UTC (3.0s): may I buy more?
  otel-agents hitl resolve h --approve
iteration 2 of at most 3
goal  Sell all that is in stock

✓ plan   completed  ×2      10s  2.6k  $0.0240
● build  running    ×2 33%  23s  9.3k  $0.0085
  ● 3 running
  ✗ 1 failed
  ✗ gate tests  failed
  ◆ human asked may I buy more?  waiting  3.0s

agents  5 completed · 1 failed · 3 running
tokens  11,990 · 10,900 input · 1,090 output
calls   7 requests · 0 tool calls
cost    $0.0325\
""")


def test_a_lost_run_says_why_and_what_is_missing() -> None:
    """Every agent at work is lost, and the sum is said to be a lower bound."""
    story = busy()
    found = drawn(read(story, alive=dead), 80, story.now)

    assert "lost: process 4242 on build-host is gone" in found
    assert "  ? writer " in found
    assert "3 lost" in found
    assert "at least" in found


@given(st.integers(20, 200), st.none() | st.integers(1, 60))
def test_nothing_is_wider_or_higher_than_the_terminal(width: int, height: int | None) -> None:
    """Whatever its size."""
    story = busy()
    found = lines(read(story), now=story.now, width=width, height=height)

    assert max(line.cell_len for line in found) <= width
    assert height is None or len(found) <= height


def test_hundreds_of_agents_are_counted_rather_than_listed() -> None:
    """Twenty one by one, the rest by number; those that completed in one line."""
    story = Story().start("run")
    for number in range(300):
        story.start("agent", f"a{number}", "worker", phase="p").wait(0.01)
        if number % 3 == 0:
            story.end(f"a{number}", usage=tokens(10))
    found = drawn(read(story), 80, story.now)

    assert "✓ worker ×100" in found
    assert found.count("● worker") == 20
    assert "● 180 more running" in found


def test_every_sign_stands_beside_its_word() -> None:
    """Nobody needs to see colours or know the signs."""
    words = {"✓": "completed", "✗": "failed", "●": "running", "■": "cancelled", "?": "lost"}
    story = Story().start("run").start("agent", "r", "runs", phase="p")
    story.start("agent", "l", "vanishes", phase="p", pid=7)
    for name, result in (("c", "success"), ("f", "failure"), ("x", "cancellation")):
        story.start("agent", name, name, phase="p").end(name, result)
    found = drawn(read(story, alive=lambda _host, pid, _since: pid != 7), 80, story.now)
    rows = {row.split()[0]: row.split()[2] for row in found.splitlines() if row.startswith("  ")}

    assert rows == words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0s"),
        (9.96, "10.0s"),
        (59.9, "59s"),
        (65, "1m 05s"),
        (7800, "2h 10m"),
        (9e5, "10d 10h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    """With as much detail as matters at their size."""
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"), [(999, "999"), (1000, "1.0k"), (123_456, "123k"), (4_560_000, "4.6M")]
)
def test_short_numbers(number: int, text: str) -> None:
    """Five characters at the most, up to a trillion."""
    assert short(number) == text


@pytest.mark.parametrize(
    ("usd", "text"),
    [(0.0, "$0.0000"), (0.00001, "<$0.0001"), (0.0456, "$0.0456"), (1234.5, "$1,234.50")],
)
def test_amounts(usd: float, text: str) -> None:
    """A small amount is not rounded to nothing."""
    assert money(usd) == text


@pytest.mark.parametrize(
    ("amount", "unit", "text"),
    [
        (1, "token", "1 token"), (1200, "token", "1,200 tokens"), (2.5, "token", "2.50 tokens"),
        (90, "tokens", "90 tokens"), (1, "calls", "1 call"), (3, "USD", "$3.00"),
        (75, "second", "1m 15s"), (0.146, "second", "0.15s"), (0, "second", "0.0s"),
    ],
)  # fmt: skip
def test_amounts_of_budgets(amount: float, unit: str, text: str) -> None:
    """A program's own unit is in the plural once, whichever it was told in."""
    assert budget(amount, unit) == text


def test_an_answer_that_nobody_has_taken_yet_is_told() -> None:
    """In the place of what to type for an answer."""
    story = Story("run-2").start("run", "r", "shop")
    story.start("human", "h", "approve deploy", parent="r").wait(3)
    asked = drawn(read(story), 80, story.now)
    assert "otel-agents hitl resolve h --approve" in asked
    story._tell("h", "fact", attributes={"otelagents.human.decision": "approved"})
    found = drawn(read(story), 80, story.now)
    assert "  answered (approved), not taken yet" in found
    assert "hitl resolve" not in found


def test_a_wait_that_ended_without_an_answer_is_closed() -> None:
    """As `hitl list` says it; one that was answered says so."""
    story = Story("run-2").start("run", "r", "shop").start("phase", "p", "ship", parent="r")
    for number, attributes in enumerate(({}, {"otelagents.human.decision": "rejected"})):
        story.start("human", f"h{number}", "call them", parent="p", phase="ship").wait(1)
        story.end(f"h{number}", attributes=attributes)
    assert "human asked call them  closed, then answered" in drawn(read(story), 80, story.now)


def test_an_unknown_cost_is_never_zero_dollars() -> None:
    """It says for how many tokens no price is known."""
    assert cost(None, 1234) == "unknown: 1,234 tokens without a price"
    assert cost(None, 0) == "nothing priced"


@given(st.text())
def test_visible_text_is_one_harmless_line(text: str) -> None:
    """Printable text stays as it is; nothing that is left moves a cursor or turns text around."""
    shown = visible(text)

    assert visible(shown) == shown
    assert not set(shown) & set("\n\r\t\x1b\x07\x7f\x9b\u202e\u2066\u2028\ud800")
    assert not text.isprintable() or shown == text


def test_scripts_and_emoji_are_not_spelled_out() -> None:
    """Joiners belong to them, and wide spaces and accents are text."""
    for text in ("日本 語", "é", "👩\u200d💻", "نمی\u200cخواهم"):
        assert visible(text) == text
