"""The tables `[[budget]]` and `[checkpoint]`: what is right is used, what is wrong is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from otel_agents.budget import Budget
from otel_agents.settings import load
from otel_agents.settings_guards import CheckpointSettings

if TYPE_CHECKING:
    from pathlib import Path

    from otel_agents.settings import Settings


def read(folder: Path, text: str, name: str = "otel-agents.toml") -> Settings:
    """Return the settings of a file."""
    (folder / name).write_text(text, "utf-8")
    return load({}, folder)


def test_a_budget_is_all_that_its_table_says(tmp_path: Path) -> None:
    """Each key, and the defaults of those that are not there."""
    found = read(
        tmp_path,
        """
        [[budget]]
        usd = 5
        [[budget]]
        scope = "agent"
        name = "planner"
        tokens = 200000
        seconds = 1.5
        warn_at = 0.5
        enforce = true
        """,
    )

    assert found.problems == ()
    assert found.budgets == (
        Budget(scope="run", usd=5.0),
        Budget(
            scope="agent", name="planner", tokens=200_000, seconds=1.5, warn_at=0.5, enforce=True
        ),
    )


def test_the_tables_stand_in_a_pyproject_too(tmp_path: Path) -> None:
    """Under our own table."""
    found = read(
        tmp_path,
        "[[tool.otel-agents.budget]]\nusd = 5\n[tool.otel-agents.checkpoint]\nauto = true",
        "pyproject.toml",
    )

    assert found.budgets == (Budget(usd=5.0),)
    assert found.checkpoint == CheckpointSettings(auto=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[budget]]", "it needs a limit: usd, tokens or seconds, as usd = 5.0; it is left out."),
        ('[[budget]]\nscope = "tool"\nusd = 1', "scope 'tool' is none of run, phase, agent, task"),
        ('[[budget]]\nusd = "5"', "usd must be a number above 0, not '5'."),
        ("[[budget]]\nusd = 0", "usd must be a number above 0, not 0."),
        ("[[budget]]\nusd = -1.0", "usd must be a number above 0, not -1.0."),
        ("[[budget]]\nusd = nan", "usd must be a number above 0, not nan."),
        ("[[budget]]\nusd = true", "usd must be a number above 0, not True."),
        ("[[budget]]\ntokens = 1.5", "tokens must be a number above 0, not 1.5."),
        ("[[budget]]\nusd = 1\nname = 3", "name must be a text, not 3; the budget is left out."),
        ("budget = 5", "it must be a table; write [[budget]]."),
    ],
)
def test_a_budget_that_cannot_be_used_is_left_out(tmp_path: Path, text: str, said: str) -> None:
    """With a sentence that names the table and what to write."""
    found = read(tmp_path, text)

    assert found.budgets == ()
    assert any(said in problem for problem in found.problems), found.problems


def test_what_is_wrong_beside_a_limit_has_its_default(tmp_path: Path) -> None:
    """The limit holds all the same: a slip must not lift it."""
    found = read(tmp_path, '[[budget]]\nusd = 1\nwarn_at = 80\nenforce = "yes"\nenforec = true')

    assert found.budgets == (Budget(usd=1.0),)
    assert [problem.partition(": [[budget]] 1: ")[2] for problem in found.problems] == [
        'there is no key "enforec"; did you mean "enforce"?',
        "warn_at must be a share above 0 and up to 1, not 80; it is 0.8.",
        "enforce must be true or false, not 'yes'; it is false.",
    ]


def test_one_bracket_is_one_budget(tmp_path: Path) -> None:
    """It is said how it is written, and the budget holds."""
    found = read(tmp_path, "[budget]\nusd = 1")

    assert found.budgets == (Budget(usd=1.0),)
    assert "write it with two brackets, as [[budget]]" in found.problems[0]


def test_the_checkpoint_table_is_read_key_by_key(tmp_path: Path) -> None:
    """What is wrong is left out alone."""
    found = read(
        tmp_path,
        """
        [checkpoint]
        auto = true
        write_tools = ["save_*"]
        max_bytes = 0
        max_seconds = 2
        keep = 7
        keep_days = "x"
        allow_restore = 1
        kepe = 3
        """,
    )

    assert found.checkpoint == CheckpointSettings(
        auto=True, write_tools=("save_*",), max_seconds=2.0, keep=7
    )
    assert [problem.removeprefix("otel-agents.toml: ") for problem in found.problems] == [
        "[checkpoint] max_bytes: it must be a whole number above 0, not 0; it is left out.",
        "[checkpoint] keep_days: it must be a number above 0, not 'x'; it is left out.",
        "[checkpoint] allow_restore: it must be true or false, not 1; it is left out.",
        '[checkpoint] kepe: there is no such key; did you mean "keep"?',
    ]


def test_without_the_table_there_are_no_checkpoints(tmp_path: Path) -> None:
    """None, not the defaults: whoever reads it need not look what is on."""
    assert read(tmp_path, "").checkpoint is None
    found = read(tmp_path, "checkpoint = true")
    assert found.checkpoint is None
    assert found.problems == (
        "otel-agents.toml: checkpoint: it must be a table; write [checkpoint].",
    )
