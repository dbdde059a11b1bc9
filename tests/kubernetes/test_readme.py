"""What the chart's page says is so."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from .chart import CHART, NAMESPACE, NEWEST, OLDEST, VARIANTS

if TYPE_CHECKING:
    from .chart import Chart

TEXT = (CHART.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^ *```yaml\n(.*?)^ *```", TEXT, re.DOTALL | re.MULTILINE)
WORDS = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight"}


def values() -> dict[str, Any]:
    """Return the page's example of values."""
    (text,) = (one for one in BLOCKS if one.startswith("# values.yaml"))
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def test_the_example_of_values_works(chart: Chart) -> None:
    """And makes the addresses that the page names."""
    rendered = chart.rendered(values(), release="otel-agents")
    named = set(re.findall(rf"http://([a-z-]+)\.{NAMESPACE}\.svc:([0-9]+)", TEXT))
    ports = {
        (service["metadata"]["name"], str(port["port"]))
        for service in rendered.of("Service").values()
        for port in service["spec"]["ports"]
    }
    assert named
    assert named <= ports
    assert rendered.of("PrometheusRule")


def paths(value: Any, path: str = "") -> set[str]:
    """Return the path of every value, and of every table of values."""
    below = value.items() if isinstance(value, dict) else ()
    return {path} | {one for key, each in below for one in paths(each, f"{path}.{key}")}


def test_each_value_that_is_named_is_there() -> None:
    """By its whole path; `.*` stands for what is below it."""
    known = paths(yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8")))
    tops = "|".join(sorted({one.split(".")[1] for one in known if one}))
    named = re.findall(rf"`((?:{tops})\.[A-Za-z.*]+)[`:]", TEXT)
    assert len(named) > 20
    for each in named:
        # In a column of ports `backends.*.port` is one for each backend.
        pattern = re.escape("." + each.removesuffix(".*")).replace(r"\*", "[a-z]+")
        assert any(re.fullmatch(pattern, one) for one in known), each


@pytest.mark.parametrize("setting", ["server.persistence.size", "gateway.persistence.size"])
def test_the_sizes_are_those_of_the_values(setting: str) -> None:
    """In the table of values."""
    found: Any = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    for key in setting.split("."):
        found = found[key]
    (line,) = (one for one in TEXT.splitlines() if one.startswith("|") and f"`{setting}`" in one)
    assert found in line


def test_what_it_says_of_the_tests_is_so() -> None:
    """How many variants, and which releases of Kubernetes."""
    oldest, newest = OLDEST.removesuffix(".0"), NEWEST.removesuffix(".0")
    said = " ".join(TEXT.split())
    assert f"renders {WORDS[len(VARIANTS)]} variants" in said
    assert f"of Kubernetes {oldest} and {newest}" in said
