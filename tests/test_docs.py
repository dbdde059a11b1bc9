"""The docs say what the code does: links lead somewhere, tables are current, commands are named."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from otel_agents.cli.main import COMMANDS

ROOT: Final = Path(__file__).parent.parent
PAGES: Final = sorted(
    path
    for folder in (ROOT, ROOT / "docs", ROOT / "examples", ROOT / "deploy", ROOT / "benchmarks")
    for path in (folder.glob("*.md") if folder == ROOT else folder.rglob("*.md"))
)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page names a file that is there."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    missing = [
        target
        for target in targets
        if target and "://" not in target and not (page.parent / target).exists()
    ]
    assert missing == []


def test_the_reference_is_what_the_code_says() -> None:
    """The generated pages are current."""
    done = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, ROOT / "docs" / "generate.py", "--check"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_a_section(command: str) -> None:
    """`otel-agents COMMAND --help` works, and the reference has the command."""
    done = subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, "-m", "otel_agents.cli", command, "--help"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert f"## `otel-agents {command}`" in (ROOT / "docs/reference/commands.md").read_text()


def test_decisions_have_a_status_and_fit_on_half_a_page() -> None:
    """Each says what was decided and why, in at most 350 words."""
    for page in (ROOT / "docs" / "decisions").glob("*.md"):
        text = page.read_text()
        assert "Status:" in text, page.name
        assert "**Decision.**" in text, page.name
        assert len(text.split()) <= 350, page.name


def test_nothing_names_a_machine() -> None:
    """No committed text holds a path of somebody's machine or an address of a registry."""
    listed = subprocess.run(
        ["git", "ls-files"],  # noqa: S607 - git is where it is
        cwd=ROOT, capture_output=True, text=True, check=False,
    ).stdout.split()  # fmt: skip
    found = []
    for name in listed:
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".txt", ".yml", ".yaml", ""} and path.is_file():
            text = path.read_text(errors="replace")
            found += [
                name
                for word in (
                    "/ro" + "ot/",
                    "/wo" + "rk/",
                    "files.python" + "hosted",
                    "pypi" + ".org",
                )
                if word in text
            ]
    assert found == []


def test_the_tests_that_the_security_page_names_are_there() -> None:
    """Each attack is held by a test that exists."""
    page = (ROOT / "docs" / "security.md").read_text()
    named = re.findall(r"`(tests/\S+\.py)::(\w+)`", page)
    missing = [
        f"{path}::{name}" for path, name in named if f"def {name}(" not in (ROOT / path).read_text()
    ]

    assert len(named) > 40
    assert missing == []
