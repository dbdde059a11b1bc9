"""The view of a run: the shape that `status --json` prints, and what else a reading tells."""

from __future__ import annotations

from inline_snapshot import snapshot

from otel_agents.state.report import Check, report
from otel_agents.state.run import fold
from otel_agents.state.times import rfc3339
from otel_agents.state.view import view
from otel_agents.usage import Usage

from .build import Story, living, tokens


def busy() -> Story:
    """Return the story of a run in its second iteration, with a bit of everything."""
    story = Story().start(
        "run", attributes={"otelagents.run.goal": "Sell it", "otelagents.iteration.max": 3}
    )
    story.start("iteration", "i1", parent="run", iteration=1)
    story.start("phase", "b1", "build", parent="i1", iteration=1)
    story.start("agent", "a1", "writer", parent="b1", phase="build", iteration=1, attempt=1)
    story.start(
        "agent", "a2", "reader", parent="a1", phase="build", iteration=1, parent_agent_id="a1"
    )
    usage = Usage(
        input_tokens=1000, output_tokens=200, cache_read_tokens=600, cache_write_tokens=50,
        reasoning_tokens=80, requests=2, tool_calls=3,
    )  # fmt: skip
    story.wait(1.5).end("a2", usage=usage, cost=0.0125)
    story.wait(1).end("a1", "error", usage=tokens(10), cost=0.001, error=("ValueError", "no"))
    story.instant("gate", "tests", "failure", phase="build", iteration=1)
    story.end("b1", "failure").end("i1", "failure")
    story.start("iteration", "i2", parent="run", iteration=2)
    story.start("phase", "b2", "build", parent="i2", iteration=2)
    story.wait(0.5).instant("gate", "tests", phase="build", iteration=2)
    story.start("agent", "a3", "writer", parent="b2", phase="build", iteration=2, attempt=2)
    story.start("task", "t1", "sell").end("t1").start("task", "t2", "buy")
    return story.wait(1.5).progress("run", 1, 4)


def test_the_view_of_a_run_under_way() -> None:
    """Every field of the interface, in order, with times as RFC 3339 in UTC."""
    story = busy()
    run = fold(story.signals).by_id["run-1"]

    assert view(run, now=story.now, alive=living) == snapshot(
        {
            "run_id": "run-1",
            "workflow": "shop",
            "status": "running",
            "percent": 25.0,
            "eta_seconds": 13.5,
            "started_at": "2026-01-01T00:00:00.000Z",
            "updated_at": "2026-01-01T00:00:04.500Z",
            "phases": [
                {
                    "name": "build",
                    "status": "running",
                    "percent": None,
                    "started_at": "2026-01-01T00:00:00.000Z",
                    "ended_at": None,
                    "duration_seconds": 4.5,
                    "waiting_seconds": 0.0,
                    "iterations": 2,
                    "agents": {"completed": 1, "failed": 1, "running": 1},
                    "usage": {
                        "input_tokens": 1010,
                        "output_tokens": 201,
                        "cache_read_tokens": 600,
                        "cache_write_tokens": 50,
                        "reasoning_tokens": 80,
                        "total_tokens": 1211,
                        "requests": 3,
                        "tool_calls": 3,
                        "complete": True,
                    },
                    "cost_usd": 0.0135,
                }
            ],
            "agents": {
                "by_status": {"completed": 1, "failed": 1, "running": 1},
                "items": [
                    {
                        "id": "a1",
                        "name": "writer",
                        "phase": "build",
                        "status": "failed",
                        "attempt": 1,
                        "parent_id": None,
                        "waiting_seconds": 0.0,
                        "usage": {
                            "input_tokens": 10,
                            "output_tokens": 1,
                            "cache_read_tokens": 0,
                            "cache_write_tokens": 0,
                            "reasoning_tokens": 0,
                            "total_tokens": 11,
                            "requests": 1,
                            "tool_calls": 0,
                            "complete": True,
                        },
                        "cost_usd": 0.001,
                        "error": {"type": "ValueError", "message": "no"},
                    },
                    {
                        "id": "a2",
                        "name": "reader",
                        "phase": "build",
                        "status": "completed",
                        "attempt": 1,
                        "parent_id": "a1",
                        "waiting_seconds": 0.0,
                        "usage": {
                            "input_tokens": 1000,
                            "output_tokens": 200,
                            "cache_read_tokens": 600,
                            "cache_write_tokens": 50,
                            "reasoning_tokens": 80,
                            "total_tokens": 1200,
                            "requests": 2,
                            "tool_calls": 3,
                            "complete": True,
                        },
                        "cost_usd": 0.0125,
                        "error": None,
                    },
                    {
                        "id": "a3",
                        "name": "writer",
                        "phase": "build",
                        "status": "running",
                        "attempt": 2,
                        "parent_id": None,
                        "waiting_seconds": 0.0,
                        "usage": {
                            "input_tokens": 0,
                            "output_tokens": 0,
                            "cache_read_tokens": 0,
                            "cache_write_tokens": 0,
                            "reasoning_tokens": 0,
                            "total_tokens": 0,
                            "requests": 0,
                            "tool_calls": 0,
                            "complete": True,
                        },
                        "cost_usd": None,
                        "error": None,
                    },
                ],
            },
            "usage": {
                "input_tokens": 1010,
                "output_tokens": 201,
                "cache_read_tokens": 600,
                "cache_write_tokens": 50,
                "reasoning_tokens": 80,
                "total_tokens": 1211,
                "requests": 3,
                "tool_calls": 3,
                "complete": True,
            },
            "cost_usd": 0.0135,
            "unpriced_tokens": 0,
            "error": None,
            "budgets": [],
            "waiting_seconds": 0.0,
            "waits": [],
        }
    )


def test_a_reading_tells_more_than_the_view() -> None:
    """The goal, the iteration, the tasks, and how often each check came up and how it went."""
    story = busy()
    read = report(fold(story.signals).by_id["run-1"], now=story.now, alive=living)

    assert (read.goal, read.iteration, read.iterations) == ("Sell it", 2, 3)
    assert read.tasks == {"DONE": 1, "RUNNING": 1}
    assert read.checks == [
        Check(
            kind="gate", name="tests", phase="build", outcomes=["failure", "success"],
            seconds=0.0, detail="", error=None,
        )
    ]  # fmt: skip


def test_times_are_cut_to_the_millisecond_and_to_what_a_calendar_holds() -> None:
    """Garbage in a file is no reason to fail."""
    assert rfc3339(1_767_225_600_123_999_999) == "2026-01-01T00:00:00.123Z"
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(1 << 90)[:19] == "9999-12-31T23:59:59"
