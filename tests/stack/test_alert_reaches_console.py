"""An alert of a real fault: from the program to Alertmanager and the console, and back."""

from __future__ import annotations

import urllib.parse
from typing import TYPE_CHECKING

import pytest

from tests.stack.hurry import get, in_alertmanager, on_console, program

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Backends
    from stack import Stack

    from tests.stack.faulty import Shown

pytestmark = pytest.mark.xdist_group("stack")


def test_an_open_breaker_is_told_on_the_console_until_it_closes(
    backends: Backends, hurried: Stack, shown: Shown, tmp_path: Path
) -> None:
    """A breaker opens: Alertmanager has the alert, the console shows it; it closes: both know."""
    told = "OtelAgentsCircuitOpen"
    with program(backends, tmp_path, "one_breaker.py", "harbour-office") as process:

        def status() -> str:
            found = on_console(hurried, told, breaker="harbour-office")
            return "" if found is None else found["status"]

        assert backends.eventually(lambda: status() == "firing")
        alert = in_alertmanager(hurried, told, breaker="harbour-office")
        kept = on_console(hurried, told, breaker="harbour-office")
        assert alert is not None
        assert kept is not None
        assert (alert["status"]["state"], alert["labels"]["severity"]) == ("active", "warning")
        assert {"summary", "description", "runbook_url", "dashboard_url"} <= alert[
            "annotations"
        ].keys()
        assert (kept["labels"], kept["annotations"]) == (alert["labels"], alert["annotations"])
        page = get(hurried, "/alerts")
        assert told in page
        assert "harbour-office" in page
        runbook = kept["annotations"]["runbook_url"]
        assert runbook.startswith(f"{hurried.console}/")
        assert told in get(hurried, urllib.parse.urlsplit(runbook).path)

        assert process.stdin is not None
        process.stdin.write("close\n")
        process.stdin.flush()
        assert backends.eventually(lambda: status() == "resolved")
        assert in_alertmanager(hurried, told, breaker="harbour-office") is None
