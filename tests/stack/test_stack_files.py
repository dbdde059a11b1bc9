"""The stack's files with the real programs: configuration and delivery."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import urllib.request
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import layout
import parts
import pytest
import yaml

from tests.stack.otlp import logs, metrics, send, spans

if TYPE_CHECKING:
    from conftest import Backends

pytestmark = pytest.mark.xdist_group("stack")

TRANSPORTS = ("http", "grpc")


def spans_of(backends: Backends, service: str, **tags: str) -> list[dict[str, Any]]:
    """Return the spans of the traces that Jaeger finds."""
    return list(chain.from_iterable(t["spans"] for t in backends.traces(service, **tags)))


def run(*argv: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(  # noqa: S603 - commands of the repository
        argv, env=os.environ | env, capture_output=True, text=True, timeout=120, check=False
    )


# --- files

COLLECTOR = parts.DEPLOY / "collector"
NO_PIPELINES = "yaml:service::pipelines: null"
VARIANTS = {
    "one": ["config.yaml"],
    "gateway": ["config.yaml", "gateway.yaml"],
    "tail sampling": ["config.yaml", "tail-sampling.yaml"],
    "sampling gateway": ["config.yaml", "gateway.yaml", "tail-sampling.yaml"],
    "node": ["config.yaml", NO_PIPELINES, "node.yaml"],
}


def configs(variant: str) -> list[str]:
    """Return the options that name a variant's files."""
    files = VARIANTS[variant]
    return [f"--config={each if each == NO_PIPELINES else COLLECTOR / each}" for each in files]


@pytest.fixture
def beside(tmp_path: Path) -> dict[str, str]:
    """What the collector's configuration needs from outside."""
    (tmp_path / "ingest_token").write_text("t-1")
    return {
        "COLLECTOR_QUEUE_DIR": str(tmp_path),
        "COLLECTOR_INGEST_TOKEN_FILE": str(tmp_path / "ingest_token"),
        "COLLECTOR_GATEWAYS": '{static: {hostnames: ["127.0.0.1:1", "127.0.0.1:2"]}}',
        "COLLECTOR_NAME": "gateway-0",
    }


@pytest.mark.parametrize("variant", VARIANTS)
def test_collector_accepts_each_variant(
    programs: dict[str, Path], beside: dict[str, str], variant: str
) -> None:
    """The collector finds no fault in its configuration, alone and with what is merged over it."""
    done = run(programs["otelcol"], "validate", *configs(variant), **beside)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_queues_on_disk_and_never_gives_up(
    programs: dict[str, Path], beside: dict[str, str], variant: str
) -> None:
    """What leaves the collector waits on disk first, and nothing batches in memory before that."""
    printed = run(programs["otelcol"], "print-config", *configs(variant), **beside)
    config = yaml.safe_load(printed.stdout)
    pipelines = config["service"]["pipelines"]
    used = {name for pipeline in pipelines.values() for name in pipeline["exporters"]}
    leaving = used - {"span_metrics", "prometheus_remote_write"}

    assert len(leaving) >= 3
    for name in leaving:
        exporter = config["exporters"][name]
        assert exporter["sending_queue"]["storage"] == "file_storage/queues"
        assert exporter["sending_queue"]["batch"]
        assert exporter["retry_on_failure"]["max_elapsed_time"] in {0, "0s"}
    processors = [pipeline["processors"] for pipeline in pipelines.values()]
    assert {names[0] for names in processors} == {"memory_limiter"}
    assert not any(name.startswith("batch") for names in processors for name in names)


def test_every_pipeline_from_outside_hides_secrets(
    programs: dict[str, Path], beside: dict[str, str]
) -> None:
    """No variant has a way from a program to an exporter that passes by the redaction."""
    for variant in VARIANTS:
        printed = run(programs["otelcol"], "print-config", *configs(variant), **beside)
        for name, pipeline in yaml.safe_load(printed.stdout)["service"]["pipelines"].items():
            hides = any(each.startswith("redaction") for each in pipeline["processors"])
            assert hides == ("otlp" in pipeline["receivers"]), (variant, name)


def test_jaeger_accepts_its_configuration(programs: dict[str, Path]) -> None:
    """Jaeger finds no fault in its configuration."""
    config = parts.DEPLOY / "jaeger" / "config.yaml"

    done = run(programs["jaeger"], "validate", "--config", config)

    assert "error" not in done.stderr.lower()
    assert done.returncode == 0


@pytest.fixture(params=["promtool", "promtool3"])
def promtool(request: pytest.FixtureRequest, programs: dict[str, Path]) -> Path:
    """Give promtool of Debian's Prometheus and of Prometheus 3."""
    if request.param in programs:
        return programs[request.param]
    found = parts.parts()["promtool3"].programs["promtool3"]
    if found is None:
        reason = "promtool3 missing: run deploy/native/install promtool3"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return found


@pytest.mark.parametrize("rules", [True, False])
def test_prometheus_accepts_its_configuration(
    promtool: Path, tmp_path: Path, *, rules: bool
) -> None:
    """Both generations of promtool find no fault in what Compose mounts, with rules and without."""
    folder = tmp_path / "prometheus"
    shutil.copytree(parts.DEPLOY / "prometheus", folder)
    (folder / "secrets").mkdir()
    (folder / "secrets" / "viewer_token").write_text("t-1")
    if rules:
        shutil.copytree(layout.RULES, folder / "rules")

    done = run(promtool, "check", "config", folder / "prometheus.yml")

    assert done.returncode == 0, done.stdout + done.stderr
    assert ("rules found" in done.stdout) == rules


def test_pages_tell_the_window_for_late_samples_that_is_set() -> None:
    """What an operator reads about outages of Prometheus is what the configuration says."""
    config = yaml.safe_load((parts.DEPLOY / "prometheus" / "prometheus.yml").read_text())
    window = config["storage"]["tsdb"]["out_of_order_time_window"]
    hours = f"{window.removesuffix('h')} hours"
    docs = parts.DEPLOY.parent / "docs"
    pages = {
        docs / "how-to" / "retention.md": {f"out_of_order_time_window: {window}", hours},
        docs / "runbooks" / "OtelAgentsPrometheusRemoteWriteRejecting.md": {hours},
        parts.DEPLOY / "kubernetes" / "README.md": {f"outOfOrderTimeWindow: {window}"},
    }

    for page, told in pages.items():
        text = page.read_text()
        assert {one for one in told if one not in text} == set()
        named = re.findall(r"(?:out_of_order_time_window|outOfOrderTimeWindow): (\w+)", text)
        assert set(named) <= {window}


def alertmanager_config(folder: Path) -> Path:
    """Copy Alertmanager's configuration to a folder with its secret, as Compose mounts them."""
    (folder / "secrets").mkdir()
    (folder / "secrets" / "ingest_token").write_text("t-1")
    return Path(shutil.copy(parts.DEPLOY / "alertmanager" / "alertmanager.yml", folder))


def test_alertmanager_accepts_its_configuration(programs: dict[str, Path], tmp_path: Path) -> None:
    """Amtool finds no fault in it, and sends an alert of each severity to the console."""
    config = alertmanager_config(tmp_path)

    checked = run(programs["amtool"], "check-config", config)
    routed = [
        run(
            programs["amtool"], "config", "routes", "test", f"--config.file={config}",
            "alertname=OtelAgentsRunStuck", f"severity={severity}",
        ).stdout.strip()
        for severity in ("critical", "warning", "info")
    ]  # fmt: skip

    assert checked.returncode == 0, checked.stderr
    assert routed == ["console"] * 3


def test_alertmanager_names_the_alerts_that_there_are() -> None:
    """Every alert that an inhibition rule names is one of ours, so that none is a dead letter."""
    config = yaml.safe_load((parts.DEPLOY / "alertmanager" / "alertmanager.yml").read_text())
    rules = yaml.safe_load((layout.RULES / "alerts.yml").read_text())
    names = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    matchers = [
        matcher
        for rule in config["inhibit_rules"]
        for matcher in rule["source_matchers"] + rule["target_matchers"]
        if matcher.startswith("alertname")
    ]

    assert len(matchers) == 2 * len(config["inhibit_rules"])
    for matcher in matchers:
        operator, pattern = re.fullmatch(r'alertname(=~?)"(.*)"', matcher).groups()
        listed = pattern.split("|") if "(" not in pattern else expanded(pattern)
        assert operator == ("=~" if len(listed) > 1 else "=")
        assert set(listed) <= names


def expanded(pattern: str) -> list[str]:
    """Return the names that `Prefix(A|B)` stands for."""
    prefix, _, choices = pattern.rstrip(")").partition("(")
    return [prefix + choice for choice in choices.split("|")]


def test_lock_files_hold_what_the_manifest_names() -> None:
    """Every component of the builder's manifest stands in go.mod at the same version."""
    manifest, go_mod = (path.read_text() for path in parts.COLLECTOR_SOURCES[:2])

    named = re.findall(r"^  - gomod: (\S+ \S+)$", manifest, re.MULTILINE)

    assert named
    assert [line for line in named if f"\t{line}\n" not in go_mod] == []


# --- delivery


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_span_is_found_by_service_and_by_tag(backends: Backends, transport: str) -> None:
    """A span sent to the collector is found in Jaeger by its service, its run id and its error."""
    service = f"spans-{transport}"

    send(backends.stack, transport, spans(service, "run-ok"))
    send(backends.stack, transport, spans(service, "run-error", error=True))

    assert backends.eventually(lambda: spans_of(backends, service, otelagents__run__id="run-ok"))
    failed = backends.eventually(lambda: spans_of(backends, service, error="true"))
    tags = {tag["key"]: tag["value"] for tag in failed[0]["tags"]}
    assert tags["otelagents.run.id"] == "run-error"
    assert service in backends.services()
    assert backends.traces(service, otelagents__run__id="another") == []


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_metrics_have_the_expected_names_and_labels(backends: Backends, transport: str) -> None:
    """Metrics sent to the collector are in Prometheus by the names that dashboards use."""
    job = f"shop/metrics-{transport}"

    send(backends.stack, transport, metrics(f"metrics-{transport}"))

    found = backends.eventually(
        lambda: backends.query(f'{{job="{job}",__name__=~"otelagents_.+"}}')
    )
    assert {(s["metric"]["__name__"], s["metric"].get("le"), s["value"][1]) for s in found} == {
        ("otelagents_tokens_total", None, "7"),
        ("otelagents_cost_total", None, "0.25"),
        ("otelagents_run_active", None, "1"),
        ("otelagents_run_duration_seconds_bucket", "1", "0"),
        ("otelagents_run_duration_seconds_bucket", "5", "1"),
        ("otelagents_run_duration_seconds_bucket", "+Inf", "1"),
        ("otelagents_run_duration_seconds_sum", None, "1.5"),
        ("otelagents_run_duration_seconds_count", None, "1"),
    }
    labels = [series["metric"].keys() - {"__name__", "le"} for series in found]
    expected = {"job", "instance", "workflow", "otel_scope_name", "otel_scope_version"}
    assert labels == [expected] * len(found)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_server_gets_all_three_signals(backends: Backends, transport: str) -> None:
    """Spans, metrics and logs sent to the collector are on the otel-agents server."""
    service = f"served-{transport}"

    for request in (spans(service, "run-served", count=3), metrics(service), logs(service)):
        send(backends.stack, transport, request)

    def found() -> bool:
        traces = backends.served(f"/api/traces?service={service}")
        series = [one for one in backends.served("/api/metrics") if one["service"] == service]
        told = [log for log in backends.served("/api/logs") if log["service"] == service]
        return [trace["spans"] for trace in traces] == [3] and len(series) == 4 and len(told) == 1

    assert backends.eventually(found)


def test_prometheus_watches_the_stack(backends: Backends) -> None:
    """Prometheus scrapes each part of the stack, itself and the server's page for viewers."""
    jobs = {"alertmanager", "collector", "jaeger", "otel-agents", "prometheus"}

    def watched() -> bool:
        return {s["metric"]["job"] for s in backends.query("up == 1")} >= jobs

    # A target's first scrape comes within one interval of 15 s, and is seen a little later.
    assert backends.eventually(watched)


def test_the_server_is_scraped_for_itself_only(backends: Backends) -> None:
    """What programs sent, which the server tells again, is not taken from it a second time."""
    assert backends.eventually(lambda: backends.query('up{job="otel-agents"}'))
    query = 'count by (__name__) ({job="otel-agents",__name__=~"otelagents_.+"})'

    found = backends.eventually(lambda: backends.query(query))

    own = ("otelagents_server_", "otelagents_telemetry_dropped_total")
    assert [s for s in found if not s["metric"]["__name__"].startswith(own)] == []
    assert found


def test_prometheus_tells_alertmanager_and_has_the_rules(backends: Backends) -> None:
    """Prometheus has found its Alertmanager, and loaded every group of the generated rules."""
    written = [
        group["name"]
        for path in layout.RULES.glob("*.yml")
        for group in yaml.safe_load(path.read_text())["groups"]
    ]

    def known() -> list[str]:
        found = backends.prometheus("/api/v1/alertmanagers")["activeAlertmanagers"]
        return [each["url"] for each in found]

    assert backends.eventually(known) == [f"{backends.stack.alertmanager}/api/v2/alerts"]
    loaded = [group["name"] for group in backends.prometheus("/api/v1/rules")["groups"]]
    assert sorted(loaded) == sorted(written)


# --- span metrics


def test_the_monitor_tab_has_data(backends: Backends) -> None:
    """Jaeger answers with rate, errors and latency of a service, made of its spans."""
    service = "monitored"
    query = f'traces_span_metrics_calls_total{{service_name="{service}"}}'

    def monitored(what: str) -> float | None:
        send(backends.stack, "http", spans(service, "run-1", count=5, error=True))
        answer = backends.monitor(what, service)
        values = [
            point["gaugeValue"]["doubleValue"]
            for metric in answer["metrics"]
            for point in metric["metricPoints"]
        ]
        return next((value for value in values if value > 0), None)

    found = {
        what: backends.eventually(lambda what=what: monitored(what))
        for what in ("calls", "errors", "latencies")
    }

    assert backends.query(query)
    assert found["errors"] == 1.0
    assert all(found.values())


def test_span_metrics_name_no_process_and_lead_to_a_trace(backends: Backends) -> None:
    """Span metrics have few labels, none of a process, and exemplars with a trace's id."""
    service = "measured"
    name = "traces_span_metrics_calls_total"
    query = f'{name}{{service_name="{service}"}}'
    send(backends.stack, "http", spans(service, "run-1", instance="one"))
    send(backends.stack, "http", spans(service, "run-2", instance="two"))

    # The collector tells of a new series with a 0 first, so that the first growth shows.
    found = backends.eventually(lambda: backends.query(f"{query} == 2"))

    assert len(backends.query(query)) == 1
    assert found[0]["metric"] == {
        "__name__": name,
        "job": "span-metrics",
        "instance": "collector",
        "otel_scope_name": "spanmetricsconnector",
        "service_name": service,
        "span_name": "invoke_agent planner",
        "span_kind": "SPAN_KIND_INTERNAL",
        "status_code": "STATUS_CODE_UNSET",
    }
    buckets = f'traces_span_metrics_duration_milliseconds_bucket{{service_name="{service}"}}'
    exemplars = backends.eventually(lambda: backends.exemplars(buckets))
    shown = {e["labels"]["trace_id"] for series in exemplars for e in series["exemplars"]}
    assert shown <= {trace["traceID"] for trace in backends.traces(service)}
    assert shown


# --- alerts


def test_a_cause_holds_back_what_follows_from_it(backends: Backends) -> None:
    """A dead worker silences its own queue's backlog in Alertmanager, and not another queue's."""
    alerts = [
        {"alertname": "OtelAgentsWorkerMissingHeartbeat", "queue": "held"},
        {"alertname": "OtelAgentsQueueBacklogAge", "queue": "held"},
        {"alertname": "OtelAgentsQueueBacklogAge", "queue": "told"},
        {"alertname": "OtelAgentsTargetDown", "job": "jaeger"},
        {"alertname": "OtelAgentsCollectorExportFailing", "exporter": "otlp_http/jaeger"},
        {"alertname": "OtelAgentsCollectorExportFailing", "exporter": "otlp_http/server"},
    ]
    for alert in alerts:
        alert["test"] = "inhibition"
    body = json.dumps([{"labels": alert} for alert in alerts]).encode()
    address = f"{backends.stack.alertmanager}/api/v2/alerts"
    post = urllib.request.Request(address, body, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(post, timeout=10) as answer:  # noqa: S310 - loopback only
        assert answer.status == 200

    def held() -> list[bool]:
        asked = f"{address}?filter=test=inhibition"
        with urllib.request.urlopen(asked, timeout=10) as answer:  # noqa: S310 - loopback only
            found = json.load(answer)
        by_labels = {json.dumps(a["labels"], sort_keys=True): a["status"] for a in found}
        states = [by_labels.get(json.dumps(alert, sort_keys=True)) for alert in alerts]
        return [bool(state and state["inhibitedBy"]) for state in states]

    wanted = [False, True, False, False, True, False]
    backends.eventually(lambda: held() == wanted)
    assert held() == wanted
