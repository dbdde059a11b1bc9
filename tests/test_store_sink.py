"""The store as a sink of a program: what it writes, and that its failures stay its own."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from otel_agents import agent, phase, run
from otel_agents.boundary import boundary
from otel_agents.errors import SettingsError
from otel_agents.metrics import Metrics
from otel_agents.pipeline import Pipeline
from otel_agents.runtime import Runtime, put
from otel_agents.sinks import make_sink
from otel_agents.store import open_store
from otel_agents.workspace import Workspace, create
from tests.forking import Forked


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return create(tmp_path)[0]


class Program:
    """A program whose signals go to a store; `dropped` counts what the pipeline lost."""

    def __init__(self, url: str, workspace: Workspace | None) -> None:
        self.dropped: Counter[str] = Counter()
        self.pipeline = Pipeline([make_sink(url, workspace)], self._count)
        self._before = put(Runtime(metrics=Metrics(), pipeline=self.pipeline))

    def _count(self, _sink: str, reason: str, number: int) -> None:
        self.dropped[reason] += number

    def work(self) -> int:
        """Do a run and return its result."""
        with run("shop", id="run-1"), phase("plan"), agent("planner", id="a-1"):
            return 42

    def end(self) -> None:
        self.pipeline.close(20.0)
        put(self._before)


def rows(workspace: Workspace, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(workspace.database)) as connection:
        return connection.execute(sql).fetchall()


def test_a_program_in_a_workspace_fills_its_database(workspace: Workspace) -> None:
    """When the program ends, its run, phase and agent stand in the tables."""
    program = Program("sqlite:", workspace)

    result = program.work()
    program.end()

    assert result == 42
    assert program.dropped == Counter()
    assert rows(workspace, "SELECT run_id, workflow, status FROM runs") == [
        ("run-1", "shop", "succeeded")
    ]
    assert rows(workspace, "SELECT name, status FROM phases") == [("plan", "completed")]
    assert rows(workspace, "SELECT agent_id, name, status, pid FROM agents") == [
        ("a-1", "planner", "completed", os.getpid())
    ]


def test_a_database_that_cannot_be_made_costs_the_program_nothing(tmp_path: Path) -> None:
    """The run ends as it would have, and what was not stored is counted."""
    (tmp_path / "file").write_text("in the way")
    boundary.strict = False  # in a user's program it is not
    program = Program(f"sqlite:///{tmp_path}/file/below/x.db", None)

    result = program.work()
    program.end()

    assert result == 42
    assert sum(program.dropped.values()) == 6  # three starts and three ends


def test_a_database_that_is_locked_is_waited_for_by_nobody_but_the_sink(
    workspace: Workspace,
) -> None:
    """While another holds the database the program goes on; what is let go in time is stored."""
    open_store(None, workspace).close()
    program = Program("sqlite:", workspace)
    with closing(sqlite3.connect(workspace.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        result = program.work()
        assert not program.pipeline.flush(0.5)
        other.execute("ROLLBACK")

    program.end()

    assert result == 42
    assert rows(workspace, "SELECT run_id FROM runs") == [("run-1",)]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_forked_child_writes_through_a_connection_of_its_own(workspace: Workspace) -> None:
    """Parent and child both write after the fork, and both their runs are there."""
    program = Program("sqlite:", workspace)
    program.work()
    assert program.pipeline.flush(90)

    def child() -> None:
        with run("child", id="run-2"):
            pass
        assert program.pipeline.flush(50)

    Forked(child).end()
    with run("parent", id="run-3"):
        pass

    program.end()

    found = rows(workspace, "SELECT DISTINCT run_id FROM signals ORDER BY 1")
    assert found == [("run-1",), ("run-2",), ("run-3",)]
    assert program.dropped == Counter()


def test_the_sink_without_a_path_needs_a_workspace() -> None:
    """One sentence says how to get one."""
    with pytest.raises(SettingsError, match="run `otel-agents init` first"):
        make_sink("sqlite:", None)
