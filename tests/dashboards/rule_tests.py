"""Tests of rules as `promtool` reads them, made from Python, and the program that runs them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest
import yaml

from dashboards import alerts, rules
from dashboards.promql import series

if TYPE_CHECKING:
    from otel_agents.vocabulary import Metric

PROGRAMS: Final = ("promtool", "promtool3")
CONSOLE: Final = "http://console:3010"
GRAFANA: Final = "http://grafana:3000"
_NATIVE: Final = Path(__file__).resolve().parents[2] / "deploy" / "native"
# The names in an expression; those of recording rules have colons in them.
_WORDS: Final = re.compile(r"[a-zA-Z_:][\w:]*")

Input = dict[str, str]


class Case(NamedTuple):
    """One alert: the series that make it fire at `at`, its labels and description then.

    `early` is when the same series have not lasted for long enough; it is empty where an alert
    fires at once. `silent` are series that must not make it fire at `at`, each with its reason.
    `board` is the end of the address of its board.
    """

    alert: str
    fires: list[Input]
    at: str
    early: str
    labels: dict[str, str]
    description: str
    board: str
    silent: dict[str, list[Input]]
    evaluated: str = "30s"
    interval: str = "1m"


def told(metric: Metric | str, values: str, part: str = "", **labels: str) -> Input:
    """Return a series and its values, one each interval, in promtool's notation."""
    name = metric if isinstance(metric, str) else series(metric, part)
    given = ", ".join(f'{key}="{value}"' for key, value in labels.items())
    return {"series": f"{name}{{{given}}}", "values": values}


def steady(metric: Metric | str, value: float, **labels: str) -> Input:
    """Return a series that stays as it is for two hours of minutes."""
    return told(metric, f"{value}+0x120", **labels)


def slept(metric: Metric | str, value: float, back: int, **labels: str) -> Input:
    """Return a series that stays as it is, heard of at the start and then from an interval on.

    So it is with all of a machine that slept, and of a Prometheus that was away.
    """
    return told(metric, f"{value} _x{back - 1} {value}+0x60", **labels)


def once(metric: Metric, value: float, after: int = 0, part: str = "", **labels: str) -> Input:
    """Return a series of a process that told of itself once, so many intervals after the start."""
    before = f"_x{after} " if after else ""
    return told(metric, f"{before}{value}", part, **labels)


def program(name: str) -> Path:
    """Return the path of a promtool; without it the test is skipped, and fails where `CI` is set.

    `promtool` is that of Debian's Prometheus 2, `promtool3` that of Prometheus 3.
    """
    sys.path.insert(0, str(_NATIVE))
    try:
        import parts
    finally:
        sys.path.remove(str(_NATIVE))
    known = parts.parts().values()
    path = next((part.programs[name] for part in known if name in part.programs), None)
    if path is None:
        reason = f"{name} missing: run deploy/native/install {name}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return Path(path)


def needed(name: str | None) -> dict[str, Any]:
    """Return the rules that an alert rests on, or all: few rules make promtool fast."""
    groups = [
        group
        for document in (rules.document(), alerts.document(CONSOLE, GRAFANA))
        for group in document["groups"]
    ]
    if name is None:
        return {"groups": groups}
    kept: list[dict[str, Any]] = []
    for group in reversed(groups):
        found: list[dict[str, Any]] = []
        for rule in reversed(group["rules"]):
            asked = {word for one in (*kept, *found) for word in _WORDS.findall(one["expr"])}
            if rule.get("alert") == name or rule.get("record") in asked:
                found.append(rule)
        kept += found
    chosen = [
        {**group, "rules": [rule for rule in group["rules"] if rule in kept]} for group in groups
    ]
    return {"groups": [group for group in chosen if group["rules"]]}


def run(
    promtool: Path, home: Path, *files: tuple[str, str | None, str, list[Any]]
) -> dict[str, str]:
    """Run tests, and return what is wrong by the name of their file: nothing if all is well.

    Args:
        promtool: The program.
        home: An empty folder.
        files: For each a name, the alert whose rules are needed or None for all of them, how often
            they are evaluated, and the tests.

    """
    paths = []
    for name, alert, evaluated, tests in files:
        kept = needed(alert)
        (home / f"{name}-rules.yml").write_text(yaml.safe_dump(kept), encoding="utf-8")
        path = home / f"{name}.yml"
        content = {
            "rule_files": [f"{name}-rules.yml"],
            "evaluation_interval": evaluated,
            # Or an alert may see what was recorded an evaluation ago.
            "group_eval_order": [group["name"] for group in kept["groups"]],
            "tests": tests,
        }
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        paths.append(path)
    done = subprocess.run(  # noqa: S603 - Debian's own program
        [promtool, "test", "rules", *paths],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    # A verdict a file, in their order; only the older promtool names the file.
    blocks = re.split(r"^  (?=(?:SUCCESS|FAILED:)$)", done.stdout, flags=re.MULTILINE)[1:]
    said = [re.sub(r"^Unit Testing:.*$", "", one, flags=re.MULTILINE).strip() for one in blocks]
    assert len(said) == len(paths), done.stdout
    return {
        path.stem: "" if one == "SUCCESS" else one for path, one in zip(paths, said, strict=True)
    }
