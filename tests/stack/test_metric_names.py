"""A scrape and OTLP give Prometheus the same metrics, so that dashboards serve both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricExportResult
from opentelemetry.sdk.resources import Resource
from prometheus_client.parser import text_string_to_metric_families

from otel_agents import (
    agent,
    emit_event,
    gate,
    iteration,
    model,
    phase,
    run,
    task,
    tool,
    worker,
)
from otel_agents.exposition import exposition
from otel_agents.metrics import Metrics
from otel_agents.testing import capture
from otel_agents.usage import Usage

if TYPE_CHECKING:
    from conftest import Backends

pytestmark = pytest.mark.xdist_group("stack")

Key = tuple[str, frozenset[tuple[str, str]]]
# What the collector's way adds, of the resource and the scope.
ADDED = ("job", "instance", "otel_scope", "telemetry_", "service_", "__name__")


def work() -> None:
    for error in (None, ValueError("no")):
        try:
            with run('a "shop"'), iteration(), phase("build"), task("t-1", queue="digest"):
                with agent("coder"), model("priced", provider="openai") as call:
                    call.chunk()
                    call.answered(
                        Usage(
                            input_tokens=9, cache_read_tokens=4, output_tokens=3,
                            reasoning_tokens=1, requests=1,
                        )
                    )  # fmt: skip
                with tool("grep"), worker("indexer", worker_id="w-1"):
                    gate("lint", passed=True).record()
                emit_event("budget_warning", {"scope": "run", "limit": 1, "spent": 0.9})
                if error is not None:
                    raise error
        except ValueError:
            pass


@pytest.fixture(params=["compat", "latest"])
def semconv(request: pytest.FixtureRequest) -> str:
    """Give each generation of the conventions in turn."""
    return str(request.param)


def counts(found: dict[Key, float]) -> dict[Key, float]:
    """Return values that stand still: an age grows between the two ways of telling it."""
    return {key: 0 if key[0].endswith("_age_seconds") else value for key, value in found.items()}


def test_a_scrape_has_the_names_labels_and_counts_of_otlp(backends: Backends, semconv: str) -> None:
    """Of our own metrics and of those of the conventions, in both of their generations."""
    service = f"names-{semconv}"
    # Not a reader that exports by itself: the SDK starts its thread anew in every forked child.
    reader = InMemoryMetricReader()
    provider = MeterProvider(
        [reader], resource=Resource({"service.name": service}), shutdown_on_exit=False
    )
    metrics = Metrics(provider)
    with capture(prices={"priced": {"input": 1.0, "output": 2.0}}, semconv=semconv) as captured:
        captured.runtime.metrics = metrics
        work()
        assert captured.signals  # and with them the events were dealt with
    expected = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(exposition(metrics.families())[1].decode())
        for sample in family.samples
        if not sample.name.endswith("_bucket")  # whose bounds are spelled `1.0` here and `1` there
    }
    data = reader.get_metrics_data()
    assert data is not None
    where = f"http://127.0.0.1:{backends.stack.ports['otlp_http']}/v1/metrics"
    exporter = OTLPMetricExporter(where, timeout=60)
    assert exporter.export(data) is MetricExportResult.SUCCESS
    exporter.shutdown()

    def pushed() -> dict[Key, float]:
        found = {}
        for one in backends.query(f'{{job="{service}"}}'):
            named = one["metric"]
            labels = {key: said for key, said in named.items() if not key.startswith(ADDED)}
            found[named["__name__"], frozenset(labels.items())] = float(one["value"][1])
        # An alert on these metrics has their job too.
        return {
            key: value for key, value in found.items()
            if not key[0].endswith("_bucket") and not key[0].startswith("ALERTS")
        }  # fmt: skip

    backends.eventually(lambda: len(pushed()) >= len(expected))
    assert set(pushed()) == set(expected)
    assert counts(pushed()) == pytest.approx(counts(expected))
    assert len(expected) > 30
