"""Every object of every variant is what the cluster's API takes, to the last field."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import TYPE_CHECKING, Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from otel_agents.version import __version__

from .chart import CHART, NEWEST, OLDEST, RELEASE, VARIANTS

if TYPE_CHECKING:
    from pathlib import Path

    from .chart import Chart

OPERATOR = "monitoring.coreos.com/v1"


def closed(schema: Any) -> Any:
    """Return a custom resource's schema that takes no field it does not name.

    The cluster would drop such a field without a word.
    """
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items()}
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        found.setdefault("additionalProperties", False)
    return found


@cache
def operator_schema(path: Path) -> dict[str, Any]:
    """Return the strict schema of a kind of the operator's, by its definition's file."""
    (version,) = (
        one
        for one in yaml.safe_load(path.read_text(encoding="utf-8"))["spec"]["versions"]
        if one["name"] == "v1"
    )
    found: dict[str, Any] = closed(version["schema"]["openAPIV3Schema"])
    return found


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_the_cluster_takes_every_object(chart: Chart, variant: str, version: str) -> None:
    """By the strict schema of the oldest release that the chart admits, and of the newest."""
    ours = [one for one in chart.variant(variant).objects if one["apiVersion"] != OPERATOR]
    for each in ours:
        assert kubernetes_validate.validate(each, version, strict=True) == version[:-2]
    assert bool(ours) == (variant != "off")


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_operator_takes_every_object(
    chart: Chart, tools: dict[str, Path], variant: str
) -> None:
    """By the schema of its own custom resource definition."""
    for each in chart.variant(variant).objects:
        if each["apiVersion"] == OPERATOR:
            schema = operator_schema(tools[each["kind"].lower() + "s"])
            jsonschema.Draft202012Validator(schema).validate(each)


def test_a_field_that_nobody_knows_is_found(chart: Chart, tools: dict[str, Path]) -> None:
    """In an object of the cluster and in one of the operator, however deep."""
    everything = chart.variant("all")
    service = {**everything.one("Service", "server")}
    service["spec"] = {**service["spec"], "clusterIp": "None"}
    with pytest.raises(kubernetes_validate.ValidationError, match="clusterIp"):
        kubernetes_validate.validate(service, NEWEST, strict=True)

    monitor = {**everything.one("ServiceMonitor", "server")}
    monitor["spec"] = {**monitor["spec"], "endpoints": [{"port": "console", "timeout": "1s"}]}
    schema = operator_schema(tools["servicemonitors"])
    with pytest.raises(jsonschema.ValidationError, match="timeout"):
        jsonschema.Draft202012Validator(schema).validate(monitor)


def test_the_releases_that_are_looked_at_are_those_that_the_chart_admits() -> None:
    """From the one in Chart.yaml on."""
    admitted = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))["kubeVersion"]
    assert admitted == f">={OLDEST}-0"


@pytest.mark.parametrize("variant", VARIANTS)
def test_everything_has_a_name_of_its_own_that_fits(chart: Chart, variant: str) -> None:
    """Also under a release's name of 53 characters, the longest that Helm takes."""
    for release in (RELEASE, "x" * 53):
        objects = chart.rendered(VARIANTS[variant], release=release).objects
        names = [(one["kind"], one["metadata"]["name"]) for one in objects]
        assert len(names) == len(set(names))
        # A pod's name is a label of the network: two characters more, and its number.
        assert all(re.fullmatch("[a-z0-9][a-z0-9-]{0,59}[a-z0-9]", name) for _, name in names)


@pytest.mark.parametrize("variant", VARIANTS)
def test_everything_says_whose_it_is(chart: Chart, variant: str) -> None:
    """By the labels that Kubernetes recommends."""
    for each in chart.variant(variant).objects:
        labels = each["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "otel-agents"
        assert labels["app.kubernetes.io/instance"] == RELEASE
        assert labels["app.kubernetes.io/version"] == __version__
        assert "namespace" not in each["metadata"]  # it is the release's, whichever that is


def test_helm_finds_nothing_to_complain_of(chart: Chart) -> None:
    """Nor do the values that it comes with break their own schema."""
    done = chart.helm("lint", CHART, "--strict", "--kube-version", NEWEST)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 chart(s) failed" in done.stdout


@pytest.mark.parametrize("variant", VARIANTS)
def test_rendering_is_the_same_each_time(chart: Chart, variant: str) -> None:
    """Nothing is made at random: a second look by a tool for GitOps shows no difference."""
    assert chart.rendered(VARIANTS[variant]).objects == chart.variant(variant).objects


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"server": {"replicas": 2}}, "set server.store to postgresql"),
        ({"server": {"enabled": False}}, "name another server in backends.server.url"),
        ({"node": {"enabled": True}, "gateway": {"enabled": False}}, "needs gateway.enabled"),
        ({"server": {"storage": "sqlite"}}, "storage"),
        ({"server": {"store": "mysql"}}, "store"),
        ({"gateway": {"replicas": "two"}}, "replicas"),
    ],
)
def test_values_that_cannot_work_are_refused(
    chart: Chart, values: dict[str, Any], sentence: str
) -> None:
    """With a sentence that says what to do, or the name of the value."""
    done = chart.template(values)
    assert done.returncode != 0
    assert sentence in done.stderr


def places(value: Any, path: str = "") -> set[str]:
    """Return the paths of values, where a table without entries is a value."""
    if not isinstance(value, dict) or not value:
        return {path}
    return {one for key, below in value.items() for one in places(below, f"{path}.{key}")}


def described(schema: dict[str, Any], definitions: dict[str, Any], path: str = "") -> set[str]:
    """Return the paths that a schema of values describes."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    if "properties" not in schema:
        return {path}
    return {
        one
        for key, below in schema["properties"].items()
        for one in described(below, definitions, f"{path}.{key}")
    }


def test_the_schema_of_values_describes_each_and_no_other() -> None:
    """What free tables hold is left to those who fill them; `global` is Helm's own."""
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    free = {f".{component}.resources" for component in ("server", "gateway", "node")}
    for each in free:
        values[each.split(".")[1]]["resources"] = {}
    assert described(schema, schema["$defs"]) - {".global"} == places(values)
