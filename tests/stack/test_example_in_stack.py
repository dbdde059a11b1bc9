"""The example, instrumented with no line changed, in the real collector, Jaeger and Prometheus."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from tests.stack.conftest import Backends

pytestmark = pytest.mark.xdist_group("stack")

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "lighthouse"


class Told(NamedTuple):
    """What a run of the example left behind, by itself and in the workspace."""

    service: str
    run_id: str
    exit_code: int
    status: dict[str, Any]
    status_code: int


def run_example(backends: Backends, home: Path, protocol: str, *options: str) -> Told:
    """Run the example under opentelemetry-instrument into the stack."""
    run_id = f"run-{home.name}"
    service = f"lighthouse-{home.name}"
    workspace = home / ".otel-agents"
    workspace.mkdir(parents=True)
    stack = backends.stack
    environment = {
        **os.environ,
        "OTEL_SERVICE_NAME": service,
        "OTEL_AGENTS_HOME": str(workspace),
        "OTEL_AGENTS_CONFIG": str(EXAMPLE / "otel-agents.toml"),
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_ENDPOINT": stack.otlp_grpc if protocol == "grpc" else stack.otlp_http,
    }
    tools = Path(sys.executable).parent
    done = subprocess.run(  # noqa: S603 - our own example
        [
            tools / "opentelemetry-instrument", sys.executable, EXAMPLE / "app.py",
            "--pace", "0", "--run-id", run_id, "--out", home / "out", *options,
        ],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    asked = subprocess.run(  # noqa: S603 - ourselves
        [tools / "otel-agents", "status", "--json", "--run-id", run_id],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert asked.stdout, done.stderr + asked.stderr
    return Told(
        service, run_id, done.returncode, json.loads(asked.stdout)["data"], asked.returncode
    )


@pytest.fixture(scope="module")
def told(backends: Backends, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """A run that delivers."""
    return run_example(backends, tmp_path_factory.mktemp("ok"), "http/protobuf")


@pytest.fixture(scope="module")
def failed(backends: Backends, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """A run that ends with a question to a human, exported by gRPC."""
    return run_example(
        backends, tmp_path_factory.mktemp("failed"), "grpc", "--failure", "--chapters", "1"
    )


def spans_of(backends: Backends, told: Told) -> list[dict[str, Any]]:
    """Return the spans of the run's trace, once all of them have arrived."""
    key = {"otelagents__run__id": told.run_id}

    def whole() -> list[dict[str, Any]]:
        spans = [span for trace in backends.traces(told.service, **key) for span in trace["spans"]]
        return (
            spans
            if any(span["operationName"].startswith("invoke_workflow") for span in spans)
            else []
        )

    return backends.eventually(whole)


def tag(span: dict[str, Any], key: str) -> Any:
    return next((found["value"] for found in span["tags"] if found["key"] == key), None)


def test_the_run_is_one_trace_found_by_its_id(backends: Backends, told: Told) -> None:
    """Every span of the run is in one trace, and every one carries the run's id."""
    spans = spans_of(backends, told)
    assert told.exit_code == 0
    assert len({span["traceID"] for span in spans}) == 1
    assert {tag(span, "otelagents.run.id") for span in spans} == {told.run_id}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("otelagents__phase__name", "draft"),
        ("gen_ai__agent__name", "critic"),
        ("gen_ai__request__model", "offline-large"),
        ("gen_ai__tool__name", "read_passages"),
        ("otelagents__result", "failure"),
    ],
)
def test_the_trace_is_found_by_what_happened_in_it(
    backends: Backends, told: Told, key: str, value: str
) -> None:
    """Jaeger finds the trace by phase, agent, model, tool and result."""
    found = backends.eventually(lambda: backends.traces(told.service, **{key: value}))
    assert {span["traceID"] for trace in found for span in trace["spans"]} == {
        span["traceID"] for span in spans_of(backends, told)
    }


def test_spans_nest_from_the_run_down_to_the_model_call(backends: Backends, told: Told) -> None:
    """The chain above a model call is agent, task or phase, iteration, run."""
    spans = {span["spanID"]: span for span in spans_of(backends, told)}

    def chain(span: dict[str, Any]) -> list[str]:
        above = [ref["spanID"] for ref in span["references"] if ref["refType"] == "CHILD_OF"]
        return [span["operationName"], *(chain(spans[above[0]]) if above else [])]

    chains = {" < ".join(chain(span)) for span in spans.values()}
    assert (
        "chat offline-small < invoke_agent reader < task read < worker reader < phase draft"
        " < iteration < invoke_workflow logbook"
    ) in chains
    roots = [span for span in spans.values() if not span["references"]]
    assert [span["operationName"].split()[0] for span in roots] == ["invoke_workflow"]


def test_the_tokens_on_the_spans_are_those_of_the_status_and_of_prometheus(
    backends: Backends, told: Told
) -> None:
    """Three ways to the same sum: spans of model calls, signals, metrics."""
    spans = spans_of(backends, told)
    on_spans = sum(
        (tag(span, "gen_ai.usage.input_tokens") or 0)
        + (tag(span, "gen_ai.usage.output_tokens") or 0)
        for span in spans
    )
    in_status = told.status["usage"]["total_tokens"]
    query = f'sum(otelagents_tokens_total{{job="{told.service}"}})'
    in_prometheus = backends.eventually(lambda: backends.query(query))

    assert on_spans == in_status > 0
    assert float(in_prometheus[0]["value"][1]) == on_spans


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("sum(otelagents_runs_started_total{{{job}}})", 1),
        ('sum(otelagents_runs_completed_total{{{job},result="succeeded"}})', 1),
        ("sum(otelagents_run_active{{{job}}})", 0),
        ("sum(otelagents_agent_active{{{job}}})", 0),
        ("sum(otelagents_run_duration_seconds_count{{{job}}})", 1),
        ("sum(otelagents_iterations_total{{{job}}})", 3),
        ('sum(otelagents_agent_attempts_total{{{job},agent="planner"}})', 1),
        ('sum(otelagents_deliveries_total{{{job},result="success"}})', 1),
    ],
)
def test_prometheus_has_the_metrics_under_these_names(
    backends: Backends, told: Told, query: str, value: float
) -> None:
    """PromQL gives runs, iterations, attempts and deliveries of this run."""
    asked = query.format(job=f'job="{told.service}"')
    found = backends.eventually(lambda: backends.query(asked))
    assert float(found[0]["value"][1]) == value


def test_the_cost_in_prometheus_is_that_of_the_status(backends: Backends, told: Told) -> None:
    """The sum of the counter is the run's roll-up."""
    found = backends.eventually(
        lambda: backends.query(f'sum(otelagents_cost_total{{job="{told.service}"}})')
    )
    assert float(found[0]["value"][1]) == pytest.approx(told.status["cost_usd"])
    assert told.status["cost_usd"] > 0


def test_a_failed_run_is_failed_in_all_three_places(backends: Backends, failed: Told) -> None:
    """The escalation is an ERROR in Jaeger, `failed` in Prometheus and in the status."""
    found = backends.eventually(lambda: backends.traces(failed.service, error="true"))
    (run,) = [
        span
        for trace in found
        for span in trace["spans"]
        if span["operationName"].startswith("invoke_workflow")
    ]
    counted = backends.eventually(
        lambda: backends.query(
            f'sum(otelagents_runs_completed_total{{job="{failed.service}",result="failed"}})'
        )
    )
    assert tag(run, "error.type") == "logbook.pipeline.Escalation"
    assert float(counted[0]["value"][1]) == 1
    assert (failed.status["status"], failed.status_code, failed.exit_code) == ("failed", 1, 1)
