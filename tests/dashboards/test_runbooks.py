"""Every alert has a runbook, and what the runbooks quote is really there."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Final

import click
import pytest
import yaml

from dashboards import alerts, foreign, rules
from dashboards.alerting import PREFIX
from dashboards.promql import series
from dashboards.thresholds import THRESHOLDS
from otel_agents import server_vocabulary, vocabulary
from otel_agents.cli.main import app
from otel_agents.reasons import REASON_CODES
from otel_agents.vocabulary import ATTRIBUTES, EVENT_TYPES, LAYERS, Metric
from tests.dashboards import rule_tests

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = ROOT / "docs" / "runbooks"
INDEX: Final = FOLDER / "README.md"
PAGES: Final = sorted(path for path in FOLDER.glob("*.md") if path != INDEX)
ALERTS: Final = {PREFIX + alert.name: alert for alert in alerts.ALERTS}
_FENCE: Final = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)
_METRIC: Final = re.compile(
    r"\b(?:job\w*:\w+:\w+|(?:otelagents|otelcol|jaeger|prometheus|alertmanager)_\w+)"
)
# Names of exporters, and of a metric that Prometheus makes for each scrape.
_NO_METRIC: Final = {"prometheus_remote_write"}
_ATTRIBUTE: Final = re.compile(
    r'"((?:otelagents|gen_ai)\.[\w.]+)"|`((?:otelagents|gen_ai)\.[\w.]+)`'
)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _commands(text: str) -> list[list[str]]:
    """Return each line `otel-agents ...` of shell blocks and each such code in a sentence."""
    lines = [
        line
        for kind, block in _FENCE.findall(text)
        if kind == "sh"
        for line in block.replace("\\\n", " ").splitlines()
    ]
    lines += re.findall(r"\$\((otel-agents [^)]*)\)", text)
    lines += re.findall(r"`(otel-agents [^`]*)`", _FENCE.sub("", text))
    return [shlex.split(line) for line in lines if line.startswith("otel-agents ")]


def _known_metrics() -> set[str]:
    own = [*vocabulary.METRICS.values(), *server_vocabulary.METRICS.values()]
    for value in vars(foreign).values():
        own += value.values() if isinstance(value, dict) else [value]
    names = {rule["record"] for group in rules.document()["groups"] for rule in group["rules"]}
    for metric in own:
        if isinstance(metric, Metric):
            parts = ("bucket", "sum", "count") if metric.instrument == "histogram" else ("",)
            names.update(series(metric, part) for part in parts)
    return names


def _accepts(words: list[str]) -> bool:
    """Return whether the command exists, has each option, and takes each value."""
    context = click.Context(app, info_name=words[0])
    command: click.Command = app
    given = words[1:]
    while isinstance(command, click.Group) and given and not given[0].startswith("-"):
        found = command.get_command(context, given[0])
        if found is None:
            return False
        command, context = found, click.Context(found, parent=context, info_name=given[0])
        given = given[1:]
    if given in ([], ["--help"]):
        return True
    command.parse_args(click.Context(command, parent=context.parent), list(given))
    return True


def test_every_alert_has_a_page_and_every_page_an_alert() -> None:
    """The console finds a page under each alert's name."""
    assert [path.stem for path in PAGES] == sorted(ALERTS)


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_a_page_has_its_four_parts(name: str) -> None:
    """Each says what the alert means, what it harms, how to find the cause and what to do."""
    text = _text(FOLDER / f"{name}.md")
    alert = ALERTS[name]
    hold = THRESHOLDS[alert.name].hold

    assert re.findall(r"^#.*", _FENCE.sub("", text), re.MULTILINE) == [
        f"# {name}", "## Meaning", "## Impact", "## Diagnosis", "## Mitigation",
    ]  # fmt: skip
    opening = f"{alert.summary} Severity: {alert.severity}; it has to last {hold}."
    assert text.splitlines()[2] == opening
    assert all(len(part.split()) > 8 for part in text.split("\n## ")[1:])
    assert len(text.splitlines()) <= 60


def test_the_index_has_each_alert() -> None:
    """One line each, with severity and summary, and no other."""
    rows = re.findall(r"^\| \[.*", _text(INDEX), re.MULTILINE)

    assert rows == [
        f"| [{name}]({name}.md) | {alert.severity} | {alert.summary} |"
        for name, alert in ALERTS.items()
    ]


@pytest.mark.parametrize("path", [*PAGES, INDEX], ids=lambda path: path.stem)
def test_commands_exist(path: Path) -> None:
    """Click takes each command that is quoted, with its options."""
    for words in _commands(_text(path)):
        assert _accepts(words), words


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_metrics_exist(path: Path) -> None:
    """Each metric is of the vocabulary, a recording rule, or of a part of the stack."""
    found = {name for name in _METRIC.findall(_text(path)) if name not in _NO_METRIC}

    assert found <= _known_metrics()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_other_names_exist(path: Path) -> None:
    """Attributes, layers, reasons, types of events and other alerts are really called so."""
    text = _text(path)

    assert {one or other for one, other in _ATTRIBUTE.findall(text)} <= set(ATTRIBUTES)
    assert set(re.findall(r"--layer (\w+)", text)) <= set(LAYERS)
    assert set(re.findall(r"--reason-code (\w+)", text)) <= set(REASON_CODES)
    assert set(re.findall(r"--type (\w+)", text)) <= {*EVENT_TYPES, vocabulary.CRITIC_DECISION}
    assert set(re.findall(r"OtelAgents[A-Z]\w+", text)) <= set(ALERTS)
    settings = re.findall(r"raise `(\w+)` in `dashboards|lower `(\w+)` in `dashboards", text)
    assert {one or other for one, other in settings} <= set(THRESHOLDS)


@pytest.mark.parametrize("path", [*PAGES, INDEX], ids=lambda path: path.stem)
def test_addresses_of_the_api_exist(path: Path) -> None:
    """Each address of the console that is asked for is in the reference of its API."""
    reference = _text(ROOT / "docs" / "reference" / "http-api.md")
    known = re.findall(r"^## `\w+ ([^`]+)`", reference, re.MULTILINE)
    asked = re.findall(r"(?:3010|SERVER)(/[a-z/]+[a-zA-Z/]*)", _text(path))

    for address in asked:
        assert any(re.fullmatch(re.sub(r"\{\w+\}", r"\\w+", one), address) for one in known), (
            address
        )


def test_queries_are_promql(tmp_path: Path) -> None:
    """Promtool takes each query that is quoted, on the pages and in the index."""
    queries = [
        line
        for path in (*PAGES, INDEX)
        for kind, block in _FENCE.findall(_text(path))
        if kind == "promql"
        for line in block.splitlines()
    ]
    rows = [{"record": f"query:{number}", "expr": one} for number, one in enumerate(queries)]
    written = tmp_path / "queries.yml"
    written.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rows}]}))
    done = subprocess.run(  # noqa: S603 - Debian's own program
        [rule_tests.program("promtool"), "check", "rules", written],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert len(queries) > len(PAGES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_command_that_is_not_there_is_found() -> None:
    """The check of commands can fail."""
    assert not _accepts(["otel-agents", "explain"])
    with pytest.raises(click.ClickException):
        _accepts(["otel-agents", "status", "--phase", "x"])
