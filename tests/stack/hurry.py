"""Alerts in seconds: the stack with its waiting cut, and where its alerts are looked up.

The rules are the generated ones. Only waiting is cut: `for`, `keep_firing_for` and the groups'
`interval` of the rules; Alertmanager's `group_wait` and `group_interval`; Prometheus'
`scrape_interval` and `evaluation_interval`. No expression and no threshold is touched.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.stack.faulty import INSTRUMENT, SETTINGS, environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Backends
    from stack import Stack

PROGRAMS = Path(__file__).parent / "programs"
QUICK = "2s"
WAITS = {
    "for", "keep_firing_for", "interval", "group_wait", "group_interval", "scrape_interval",
    "evaluation_interval",
}  # fmt: skip


def hurry(value: Any) -> Any:
    """Return a configuration with its waiting cut."""
    if isinstance(value, list):
        return [hurry(one) for one in value]
    if isinstance(value, dict):
        return {key: QUICK if key in WAITS else hurry(one) for key, one in value.items()}
    return value


def reload(stack: Stack) -> None:
    """Have Prometheus and Alertmanager read their files anew."""
    for address in (stack.prometheus, stack.alertmanager):
        post = urllib.request.Request(f"{address}/-/reload", method="POST")  # noqa: S310
        with urllib.request.urlopen(post, timeout=10):  # noqa: S310 - loopback only
            pass


@pytest.fixture(scope="session")
def hurried(backends: Backends) -> Stack:
    """The shared stack, with its waiting cut from now on.

    Once, and not for each test that asks: what fires while Prometheus reads its files anew is lost
    to Alertmanager for a minute.
    """
    state = backends.stack.state
    for path in (
        state / "prometheus" / "prometheus.yml",
        state / "alertmanager" / "alertmanager.yml",
        *sorted((state / "prometheus" / "rules").glob("*.yml")),
    ):
        quick = hurry(yaml.safe_load(path.read_text("utf-8")))
        path.write_text(yaml.safe_dump(quick, sort_keys=False), "utf-8")
    reload(backends.stack)
    return backends.stack


def get(stack: Stack, path: str) -> str:
    """Return what the console answers a viewer."""
    viewer = {"Authorization": f"Bearer {stack.viewer_token}"}
    asked = urllib.request.Request(f"{stack.console}{path}", headers=viewer)  # noqa: S310
    with urllib.request.urlopen(asked, timeout=10) as answer:  # noqa: S310 - loopback only
        return str(answer.read().decode())


def on_console(stack: Stack, name: str, **labels: str) -> dict[str, Any] | None:
    """Return an alert as the console has it."""
    found = json.loads(get(stack, "/api/alerts"))["data"]["items"]
    wanted = {"alertname": name, **labels}.items()
    return next((one for one in found if wanted <= one["labels"].items()), None)


def in_alertmanager(stack: Stack, name: str, **labels: str) -> dict[str, Any] | None:
    """Return an alert as Alertmanager has it; its `status` says whether it is inhibited."""
    matchers = [f'{label}="{value}"' for label, value in {"alertname": name, **labels}.items()]
    query = urllib.parse.urlencode({"filter": matchers, "inhibited": "true"}, doseq=True)
    with urllib.request.urlopen(  # noqa: S310 - loopback only
        f"{stack.alertmanager}/api/v2/alerts?{query}", timeout=10
    ) as answer:
        return next(iter(json.load(answer)), None)


@contextlib.contextmanager
def program(backends: Backends, folder: Path, *command: str) -> Iterator[subprocess.Popen[str]]:
    """Run one of the programs beside, instrumented, and end it."""
    with subprocess.Popen(  # noqa: S603 - our own program
        [INSTRUMENT, sys.executable, PROGRAMS / command[0], *command[1:]],
        cwd=folder, env=environment(backends, "alerting", SETTINGS),
        text=True, stdin=subprocess.PIPE,
    ) as process:  # fmt: skip
        yield process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(120) == 0
