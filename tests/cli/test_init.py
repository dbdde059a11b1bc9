"""`otel-agents init`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from .filled import healthy

if TYPE_CHECKING:
    from .conftest import Shell


def test_init_makes_a_workspace_and_says_what_to_do_next(bare: Shell) -> None:
    """Once; the second time it says that it is there, which is no error."""
    first, second = bare.run("init"), bare.run("init")

    assert (first.returncode, second.returncode) == (0, 0)
    assert first.stdout.startswith(f"Made {bare.path}/.otel-agents.\n")
    assert "opentelemetry-instrument" in first.stdout
    assert second.stdout.startswith(f"{bare.path}/.otel-agents is there already.\n")
    assert (bare.path / ".otel-agents" / "logs").is_dir()


def test_init_takes_a_directory(bare: Shell) -> None:
    """Which is made where it is missing."""
    path = str(bare.path / "new" / "project" / ".otel-agents")
    made = {"path": path, "store": f"sqlite:///{path}/otel-agents.db"}

    assert bare.data("init", "new/project") == {**made, "created": True}
    assert bare.data("init", "new/project") == {**made, "created": False}


def test_init_makes_the_database(bare: Shell) -> None:
    """So that every command that reads has something to read; the second time nothing is lost."""
    bare.run("init")
    assert bare.data("monitor", "list") == []

    bare.put(healthy())
    bare.run("init")
    assert len(bare.data("monitor", "list")) == 6


def test_init_makes_the_store_that_the_settings_name(bare: Shell) -> None:
    """And one that is down is said so, without its password."""
    (bare.path / "otel-agents.toml").write_text(f'store = "sqlite:///{bare.path}/mine.db"\n')
    assert bare.data("init")["store"] == f"sqlite:///{bare.path}/mine.db"
    assert (bare.path / "mine.db").is_file()

    down = bare.run("init", OTEL_AGENTS_STORE="postgresql://me:secret@127.0.0.1:9/x")
    assert (down.returncode, down.stdout, down.stderr.count("\n")) == (1, "", 1)
    assert "secret" not in down.stderr


def test_init_does_not_replace_a_file(bare: Shell) -> None:
    """One sentence names the file, and it stays."""
    (bare.path / ".otel-agents").write_text("mine")
    done = bare.run("init", "--json")

    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "invalid_input"
    assert ".otel-agents" in done.stderr
    assert (bare.path / ".otel-agents").read_text() == "mine"
