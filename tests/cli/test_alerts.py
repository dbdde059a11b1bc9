"""`otel-agents alerts`, and what `verify` says of them: the same from a store and a server."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Final

import pytest

from otel_agents.store import open_store
from otel_agents.store.alerts import Alert

from .conftest import Shell
from .filled import EVIL
from .serving import Serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECOND: Final = 10**9


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """Give a workspace in which one alert fires and one is resolved."""
    shell = Shell(tmp_path_factory.mktemp("told"))
    assert shell.run("init").returncode == 0
    now = time.time_ns()
    texts = {"summary": f"A run is stuck {EVIL}"}
    store = open_store(None, shell.workspace)
    store.keep_alerts(
        [
            Alert(
                fingerprint="a", firing=True, starts=now - 60 * SECOND, annotations=texts,
                labels={"alertname": "RunStuck", "severity": "critical", "workflow": "shop"},
            ),
            Alert(
                fingerprint="b", firing=False, starts=now - 900 * SECOND, ends=now - 30 * SECOND,
                labels={"alertname": "CostSpike", "severity": "warning"}, annotations={},
            ),
        ]
    )  # fmt: skip
    store.close()
    return shell


@pytest.fixture(params=["workspace", "server"])
def asked(
    request: pytest.FixtureRequest, told: Shell, tmp_path: Path
) -> Iterator[tuple[Shell, tuple[str, ...]]]:
    """Ask from the workspace, and through a server from a directory without any."""
    if request.param == "workspace":
        yield told, ()
        return
    with Serving(told) as serving:
        yield Shell(tmp_path), ("--server", serving.url)


def test_alerts_are_listed(asked: tuple[Shell, tuple[str, ...]]) -> None:
    """All of them, those of a state, and page by page; whatever fires, the command is fine."""
    shell, server = asked
    found = shell.data("alerts", *server)
    assert [(one["name"], one["status"]) for one in found] == [
        ("RunStuck", "firing"), ("CostSpike", "resolved"),
    ]  # fmt: skip
    firing = shell.data("alerts", "--status", "firing", *server)
    assert [one["name"] for one in firing] == ["RunStuck"]
    assert shell.data("alerts", "--status", "stale", *server) == []
    done = shell.run("alerts", "--limit", "1", "--json", *server)
    cursor = json.loads(done.stdout)["meta"]["next_cursor"]
    rest = shell.data("alerts", "--cursor", cursor, *server)
    assert [one["name"] for one in rest] == ["CostSpike"]
    assert done.returncode == 0


def test_alerts_are_read_by_people(asked: tuple[Shell, tuple[str, ...]]) -> None:
    """In a table, where nothing of a text reaches the terminal's controls."""
    shell, server = asked
    done = shell.run("alerts", *server)
    assert done.returncode == 0
    for word in ("RunStuck", "critical", "firing", "shop", "CostSpike", "resolved"):
        assert word in done.stdout
    assert "\x1b]0" not in done.stdout
    assert r"\u202e" in done.stdout
    assert "Alertmanager" in shell.run("alerts", "--status", "stale", *server).stdout
    assert "go on with --cursor" in shell.run("alerts", "--limit", "1", *server).stdout


def test_verify_lists_them_and_is_not_swayed(asked: tuple[Shell, tuple[str, ...]]) -> None:
    """A firing alert stands beside the health, which workers, breakers and queues decide."""
    shell, server = asked
    done = shell.run("verify", *server)
    assert done.returncode == 0
    assert "nothing is wrong" in done.stdout
    assert "critical: A run is stuck" in done.stdout
    found = shell.data("verify", *server)
    assert (found["healthy"], [one["name"] for one in found["alerts"]]) == (True, ["RunStuck"])


def test_wrong_usage_is_said(told: Shell) -> None:
    """Another state is none, and a cursor is one of this list."""
    assert told.run("alerts", "--status", "open").returncode == 2
    assert told.run("alerts", "--cursor", "x").returncode == 2
