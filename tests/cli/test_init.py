"""`otel-agents init`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

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

    assert bare.data("init", "new/project") == {"path": path, "created": True}
    assert bare.data("init", "new/project") == {"path": path, "created": False}


def test_init_does_not_replace_a_file(bare: Shell) -> None:
    """One sentence names the file, and it stays."""
    (bare.path / ".otel-agents").write_text("mine")
    done = bare.run("init", "--json")

    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "invalid_input"
    assert ".otel-agents" in done.stderr
    assert (bare.path / ".otel-agents").read_text() == "mine"
