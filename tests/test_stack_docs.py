"""The pages about the stack say what is there, and their commands do what they say."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click
import grpc
import opentelemetry.instrumentation.environment_variables as instrumentation_variables
import opentelemetry.sdk.environment_variables as sdk_variables
import pytest
import yaml
from opentelemetry import environment_variables
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from dashboards import alerts, foreign
from dashboards.thresholds import THRESHOLDS
from otel_agents import server_vocabulary, settings, vocabulary
from otel_agents.cli.main import app
from otel_agents.exposition import name_of
from otel_agents.store.retention import MAX_BYTES, RETAIN_DAYS
from otel_agents.store.writer import MIN_FREE_BYTES
from otel_agents.vocabulary import Metric

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ROOT: Final = Path(__file__).resolve().parents[1]
TOOLS: Final = Path(sys.executable).parent
_PAGES = (
    "tutorial", "how-to/backends", "how-to/sizing", "how-to/retention", "how-to/guard-and-recover",
)  # fmt: skip
PAGES: Final = [ROOT / "docs" / f"{name}.md" for name in _PAGES]
_, BACKENDS, _, RETENTION, _ = PAGES
# Where the pages say that one is.
FOLDERS: Final = ("", "examples/lighthouse", "examples/faults")
# Told by other programs, and on no board of ours: seen on the pages of the running stack.
SEEN: Final = (
    "prometheus_tsdb_storage_blocks_bytes",
    "prometheus_tsdb_head_series",
    "otelcol_process_cpu_seconds_total",
)
BOTH: Final = "Both here and there"
SECONDS: Final = 120.0

sys.path.insert(0, str(ROOT / "deploy" / "native"))

import components  # noqa: E402 - found through the line above
import compose_tools  # noqa: E402
import parts  # noqa: E402

# In CI nothing is skipped in silence.
NO_COLLECTOR: Final = not parts.collector_path().is_file() and "CI" not in os.environ
NO_COMPOSE: Final = (
    compose_tools.programs(parts.cache_dir())["docker-compose"] is None and "CI" not in os.environ
)

APP: Final = "import shop; print(shop.sell(21))\n"
SHOP: Final = "def sell(order): return order * 2\n"
SETTINGS: Final = "[[wrap]]\ntarget = 'shop:sell'\nscope = 'run'\nname = 'shop'\n"
# What the blocks read from files.
SECRETS: Final = {
    "grafana.token": "glc_abc\n",
    "honeycomb.token": "hcaik_abc\n",
    "langfuse.keys": "pk-lf-1:sk-lf-2\n",
    "newrelic.token": "nr-abc\n",
    "dash0.token": "auth_abc\n",
}
TRACES, METRICS, LOGS = "/v1/traces", "/v1/metrics", "/v1/logs"


class Backend(NamedTuple):
    """What a backend takes: its address, the paths below it, and who one says one is."""

    address: str
    paths: tuple[str, ...]
    headers: dict[str, str]
    also: Mapping[str, dict[str, str]] = {}


# From the vendors' pages, not from ours. The first text of Basic is `printf … | base64` by hand.
TAKES: Final = {
    "Grafana Cloud": Backend(
        "https://otlp-gateway-prod-eu-west-2.grafana.net",
        ("/otlp/v1/traces", "/otlp/v1/metrics", "/otlp/v1/logs"),
        {"authorization": "Basic MTIzNDU2OmdsY19hYmM="},
    ),
    "Honeycomb": Backend(
        "https://api.honeycomb.io",
        (TRACES, METRICS, LOGS),
        {"x-honeycomb-team": "hcaik_abc"},
        {METRICS: {"x-honeycomb-team": "hcaik_abc", "x-honeycomb-dataset": "shop-metrics"}},
    ),
    "Langfuse": Backend(
        "https://cloud.langfuse.com",
        ("/api/public/otel/v1/traces",),
        {"authorization": "Basic cGstbGYtMTpzay1sZi0y", "x-langfuse-ingestion-version": "4"},
    ),
    "Phoenix by HTTP": Backend(
        "http://127.0.0.1:6006", (TRACES,), {"x-project-name": "logbook"}
    ),
    "New Relic": Backend(
        "https://otlp.nr-data.net", (TRACES, METRICS, LOGS), {"api-key": "nr-abc"}
    ),
    "Dash0": Backend(
        "https://ingress.eu-west-1.aws.dash0.com",
        (TRACES, METRICS, LOGS),
        {"authorization": "Bearer auth_abc", "dash0-dataset": "default"},
    ),
}  # fmt: skip


class Sink:
    """A receiver of OTLP over HTTP on this machine that remembers what came."""

    def __init__(self) -> None:
        """Listen on a free port."""
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                headers = {name.lower(): value for name, value in self.headers.items()}
                sink.requests.append((self.path, headers, body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def paths(self) -> set[str]:
        """Return the paths that something came to."""
        return {path for path, _, _ in self.requests}


@pytest.fixture
def sink() -> Iterator[Sink]:
    """A receiver of OTLP over HTTP."""
    with (sink := Sink()).server:
        yield sink
        sink.server.shutdown()


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A folder with a small program, what it wraps, and the files that hold secrets."""
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "otel-agents.toml").write_text(SETTINGS)
    for name, text in SECRETS.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def sections(page: Path) -> dict[str, str]:
    """Return the sections of a page by their headings."""
    found = re.split(r"^## (.+)$", page.read_text(), flags=re.MULTILINE)
    return dict(zip(found[1::2], found[2::2], strict=True))


def block(page: Path, section: str, language: str, first: str = "") -> str:
    """Return the one block of a language in a section that begins with these words."""
    found = re.findall(rf"```{language}\n(.*?)```", sections(page)[section], re.DOTALL)
    (chosen,) = (text for text in found if text.startswith(first))
    return str(chosen)


def run(program: Path, variables: str, **more: str) -> None:
    """Set variables as a page does, in a shell, and start the program as it says."""
    told = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "PYTHONPATH"))}
    command = f"{variables}\nexec opentelemetry-instrument python app.py"
    done = subprocess.run(  # noqa: S603 - what our own page says
        ["/bin/sh", "-ec", command],
        cwd=program, capture_output=True, text=True, timeout=SECONDS, check=False,
        env={**told, "PATH": f"{TOOLS}:{os.environ['PATH']}", "OTEL_AGENTS_SINKS": "otlp:", **more},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "42\n", "")


@pytest.mark.parametrize("name", TAKES)
def test_the_request_of_each_backend_is_the_one_that_it_takes(
    name: str, program: Path, sink: Sink
) -> None:
    """A program with the variables of the page sends to these paths alone, with these headers."""
    backend = TAKES[name]
    variables = block(BACKENDS, name, "sh")
    assert backend.address in variables
    run(program, variables.replace(backend.address, sink.address))

    assert sink.paths() == set(backend.paths)
    for path, headers, body in sink.requests:
        assert body, path
        expected = backend.also.get(path, backend.headers)
        assert {key: headers.get(key) for key in expected} == expected
        assert ("x-honeycomb-dataset" in headers) == ("x-honeycomb-dataset" in expected)


def test_new_relic_is_sent_deltas(program: Path, sink: Sink) -> None:
    """Sums and histograms say of themselves that they are deltas."""
    variables = block(BACKENDS, "New Relic", "sh")
    run(program, variables.replace(TAKES["New Relic"].address, sink.address))

    kinds = set()
    for path, _, body in sink.requests:
        if path == METRICS:
            text = str(ExportMetricsServiceRequest.FromString(body))
            kinds.update(re.findall(r"aggregation_temporality: (\w+)", text))
    assert "AGGREGATION_TEMPORALITY_DELTA" in kinds


def test_phoenix_by_grpc_gets_spans_of_its_project_and_nothing_else(program: Path) -> None:
    """One method is called, and the resource names the project."""
    calls: list[tuple[str, bytes]] = []

    class EveryMethod(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
            def take(body: bytes, _: grpc.ServicerContext) -> bytes:
                calls.append((details.method, body))
                return b""

            return grpc.unary_unary_rpc_method_handler(take)

    with ThreadPoolExecutor(2) as threads:
        server = grpc.server(threads, handlers=[EveryMethod()])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        variables = block(BACKENDS, "Phoenix by gRPC", "sh")
        run(program, variables.replace("127.0.0.1:4317", f"127.0.0.1:{port}"))
        server.stop(None).wait()

    service = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
    assert {method for method, _ in calls} == {service}
    (resource,) = {
        str(part.resource)
        for _, body in calls
        for part in ExportTraceServiceRequest.FromString(body).resource_spans
    }
    assert re.search(r'"openinference.project.name".*"logbook"', resource, re.DOTALL)


def test_every_backend_of_the_table_has_a_section() -> None:
    """The table of backends, the sections and what is tested name the same ones."""
    named = {name for name, text in sections(BACKENDS).items() if "```sh" in text}
    assert named == {*TAKES, "Phoenix by gRPC"}


def test_the_second_file_adds_to_the_lists_of_the_stack() -> None:
    """Lists are replaced where files are joined: each repeats the stack's own, and adds one."""
    stack = yaml.safe_load((ROOT / "deploy/collector/config.yaml").read_text())
    there = yaml.safe_load(block(BACKENDS, BOTH, "yaml", first="exporters:"))
    (name,) = there["exporters"]
    assert name not in stack["exporters"]
    for signal, pipeline in there["service"]["pipelines"].items():
        own = stack["service"]["pipelines"][signal]["exporters"]
        assert pipeline == {"exporters": [*own, name]}


@pytest.mark.skipif(NO_COMPOSE, reason="Compose is not built")
@pytest.mark.parametrize(("page", "section"), [(BACKENDS, BOTH), (RETENTION, "How to change it")])
def test_the_files_for_compose_add_to_what_is_there(
    page: Path, section: str, tmp_path: Path
) -> None:
    """Compose itself joins them to docker-compose.yml: what was mounted stays, more is added."""
    text = block(page, section, "yaml", first="services:")
    (tmp_path / "more.yml").write_text(text)
    files = ("-f", ROOT / "docker-compose.yml", "-f", tmp_path / "more.yml")
    asked = [str(compose_tools.programs(parts.cache_dir())["docker-compose"]), *files, "config"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=SECONDS, check=True)  # noqa: S603 - of the stack
    was = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    now = yaml.safe_load(done.stdout)["services"]
    for name, service in yaml.safe_load(text)["services"].items():
        both = (*was[name]["volumes"], *service["volumes"])
        mounted = {volume["target"] for volume in now[name]["volumes"]}
        assert mounted == {volume.split(":")[1] for volume in both}
        assert now[name]["command"][: len(was[name]["command"])] == was[name]["command"]


@pytest.mark.skipif(NO_COLLECTOR, reason="the collector is not built")
def test_the_collector_sends_both_here_and_there(program: Path, sink: Sink) -> None:
    """The real collector with the page's second file sends all three signals on, with the token."""
    (program / "ingest").write_text("not-this-one")
    (program / "authorization").write_text("MTIzNDU2OmdsY19hYmM=")
    there = block(BACKENDS, BOTH, "yaml", first="exporters:")
    there = there.replace(TAKES["Grafana Cloud"].address, sink.address)
    there = there.replace("/run/secrets/there/authorization", str(program / "authorization"))
    (program / "there.yaml").write_text(there)
    ports = {
        name: f"127.0.0.1:{port}" for name, port in components.choose_ports(default=False).items()
    }
    environment = {
        "PATH": os.environ["PATH"],
        "COLLECTOR_QUEUE_DIR": str(program / "queues"),
        "COLLECTOR_OTLP_GRPC_ENDPOINT": ports["otlp_grpc"],
        "COLLECTOR_OTLP_HTTP_ENDPOINT": ports["otlp_http"],
        "COLLECTOR_HEALTH_ENDPOINT": ports["collector_health"],
        "COLLECTOR_METRICS_PORT": ports["collector_metrics"].rpartition(":")[2],
        "COLLECTOR_METRICS_QUEUE_ENDPOINT": ports["collector_metrics_queue"],
        "COLLECTOR_INGEST_TOKEN_FILE": str(program / "ingest"),
    }
    files = ("--config", ROOT / "deploy/collector/config.yaml", "--config", "there.yaml")
    with (program / "log").open("wb") as log:
        collector = subprocess.Popen(  # noqa: S603 - our own collector
            [parts.collector_path(), *files],
            cwd=program, env=environment, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        run(
            program, "", OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{ports['otlp_grpc']}",
            OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
        )  # fmt: skip
        expected = set(TAKES["Grafana Cloud"].paths)
        assert _within(SECONDS, lambda: sink.paths() == expected), (program / "log").read_text()
    finally:
        collector.terminate()
        collector.wait(SECONDS)
    sent = {headers["authorization"] for _, headers, _ in sink.requests}
    assert sent == {"Basic MTIzNDU2OmdsY19hYmM="}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_file_that_is_named_is_there(page: Path) -> None:
    """Paths of the repository lead to something."""
    folders = "deploy|docs|examples|tests|benchmarks|dashboards"
    paths = re.findall(rf"(?<![\w./~-])((?:{folders})/[\w./-]+)", page.read_text())
    assert [path for path in paths if not (ROOT / path.rstrip(".")).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_heading_that_is_linked_to_is_there(page: Path) -> None:
    """Links with a fragment name a heading of the page that they lead to; the others are https."""
    for target, fragment in re.findall(r"\]\(([^)\s#]*)#([^)\s]+)\)", page.read_text()):
        text = (page.parent / target if target else page).resolve().read_text()
        headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        slugs = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
        assert fragment in slugs
    assert re.findall(r"<http://(?!127\.0\.0\.1)", page.read_text()) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_command_and_option_of_ours_is_there(page: Path) -> None:
    """`otel-agents …` names commands and options that Click knows."""
    ways = r"(?:^ {4}|^\$ |`)otel-agents ([^`\n#|>]*)"
    for line in re.findall(ways, page.read_text(), re.MULTILINE):
        command: click.Command = app
        for word in line.replace("\\", "").split():
            if isinstance(command, click.Group):
                found = command.get_command(click.Context(command), word)
                assert found is not None, line
                command = found
            elif word.startswith("--"):
                known = {
                    name for one in command.params for name in (*one.opts, *one.secondary_opts)
                }
                assert word.partition("=")[0] in known, line


@pytest.mark.parametrize("page", PAGES[:-1], ids=lambda path: path.name)
def test_every_option_of_a_script_of_ours_is_there(page: Path) -> None:
    """Options behind the path of a script are in its text, and targets of make in the Makefile."""
    text = page.read_text().replace("\\\n", " ")
    for script, options in re.findall(
        r"([\w./-]*\w\.py|[\w./-]+/install)((?: [^`\n|>;&]+)?)", text
    ):
        wanted = {f'"{option}"' for option in re.findall(r"(?<= )--[a-z-]+", options)}
        near = [(ROOT / f / script).parent for f in FOLDERS if (ROOT / f / script).is_file()]
        sources = ["".join(path.read_text() for path in folder.glob("*.py")) for folder in near]
        assert any(all(one in source for one in wanted) for source in sources), (script, wanted)
    for target in re.findall(r"^(?:    |\$ )?make (\w+)|`make (\w+)`", text, re.MULTILINE):
        assert re.search(rf"^{''.join(target)}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_variable_is_read_by_somebody(page: Path) -> None:
    """OTEL_* are settings or the SDK's, STACK_* stand in .env, the others in configurations."""
    known = {setting.variable for setting in settings.SETTINGS}
    for module in (environment_variables, sdk_variables, instrumentation_variables):
        known.update(value for value in vars(module).values() if isinstance(value, str))
    files = [ROOT / ".env", ROOT / "docker-compose.yml", *(ROOT / "deploy").rglob("*.yaml")]
    known.update(re.findall(r"[A-Z]+(?:_[A-Z]+)+", "".join(path.read_text() for path in files)))
    text = page.read_text()
    named = set(re.findall(r"\b((?:OTEL|STACK|COMPOSE|COLLECTOR|JAEGER)_[A-Z_]+)\b", text))
    assert named - known == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_metric_and_alert_is_there(page: Path) -> None:
    """Names in Prometheus are those of the vocabularies; alerts are those of the rules."""
    others = [one.values() if isinstance(one, dict) else (one,) for one in vars(foreign).values()]
    theirs = [one for some in others for one in some if isinstance(one, Metric)]
    known = set(SEEN)
    for metric in (*vocabulary.METRICS.values(), *server_vocabulary.METRICS.values(), *theirs):
        ends = ("_bucket", "_sum", "_count") if metric.instrument == "histogram" else ("", "_total")
        known.update(name_of(metric) + end for end in ends)
    text = page.read_text()
    named = re.findall(
        r"\b((?:otelagents|otelcol|prometheus|alertmanager|process|gen_ai)_[a-z_]*[a-z])\b(?!\.)",
        text,
    )
    assert {name for name in named if not name.startswith("prometheus_remote")} - known == set()

    rules = alerts.document("http://127.0.0.1:3010", "http://127.0.0.1:3000")
    fires = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    assert set(re.findall(r"\bOtelAgents[A-Z]\w+", text)) - fires == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_attribute_is_there(page: Path) -> None:
    """Dotted names are attributes or metrics of the vocabulary, or a namespace of them."""
    known = {*vocabulary.ATTRIBUTES, *vocabulary.METRICS}
    named = re.findall(r"\b((?:otelagents|gen_ai)\.[a-z_.]*[a-z])\b", page.read_text())
    assert set(named) - known == set()


def test_retention_is_that_of_the_files() -> None:
    """Times and sizes of the page's first table are those of configuration and code."""
    text, table = RETENTION.read_text(), sections(RETENTION)["Where it is"]
    rows = dict(re.findall(r"^\| ([^|]+?) \| (.+) \|$", table, re.MULTILINE))
    jaeger = yaml.safe_load((ROOT / "deploy/jaeger/config.yaml").read_text())
    badger = jaeger["extensions"]["jaeger_storage"]["backends"]["traces"]["badger"]
    assert f"{int(badger['ttl']['spans'].removesuffix('h')) // 24} days" in rows["spans"]

    compose = (ROOT / "docker-compose.yml").read_text()
    age, size = components.RETENTION_TIME, components.RETENTION_SIZE
    assert f"_RETENTION_TIME:-{age}}}" in compose
    assert f"_RETENTION_SIZE:-{size}}}" in compose
    assert f"{age.removesuffix('d')} days | {size.removesuffix('GB')} GB" in rows["metrics"]
    assert "STACK_REDIS_MAXMEMORY:-256mb" in compose
    assert "256 MB" in rows["KPIs by hour and by day"]

    kept = f"{RETAIN_DAYS:.0f} days | {MAX_BYTES // 2**30} GiB"
    assert kept in rows["runs, agents, tasks, events, logs, spans, alerts"]
    assert f"less than {MIN_FREE_BYTES // 2**20} MiB left" in text
    assert f"at {THRESHOLDS['CollectorQueueNearlyFull'].value:.0%}".replace("%", " %") in text
    assert f"at {THRESHOLDS['StoreNearlyFull'].value:.0%}".replace("%", " %") in text
    assert f"{THRESHOLDS['DiskNearlyFull'].value / 1e9:.0f} GB left" in text


def test_every_queue_and_volume_is_told_of() -> None:
    """The page counts the collector's queues on disk, and has each volume of the containers."""
    config = yaml.safe_load((ROOT / "deploy/collector/config.yaml").read_text())
    queued = {
        name: exporter["sending_queue"]
        for name, exporter in config["exporters"].items()
        if exporter.get("sending_queue", {}).get("storage")
    }
    pipelines = config["service"]["pipelines"].items()
    queues = {(n, s.partition("/")[0]) for s, p in pipelines for n in p["exporters"] if n in queued}
    assert len(queues) == len(("Jaeger", "server", "server", "server", "Prometheus"))
    assert {queue["queue_size"] for queue in queued.values()} == {512 * 2**20}

    volumes = set(yaml.safe_load((ROOT / "docker-compose.yml").read_text())["volumes"])
    assert (
        set(re.findall(r"`((?:secrets|\w+)-(?:data|queues|\w+))`", RETENTION.read_text()))
        >= volumes
    )


@pytest.mark.skipif(NO_COLLECTOR, reason="the collector is not built")
def test_a_larger_queue_is_a_configuration_that_the_collector_takes(tmp_path: Path) -> None:
    """The page's file, joined to the stack's own, is valid."""
    larger = block(RETENTION, "How to change it", "yaml", first="exporters:")
    (tmp_path / "larger.yaml").write_text(larger)
    (tmp_path / "ingest").write_text("token")
    files = ("--config", ROOT / "deploy/collector/config.yaml", "--config", "larger.yaml")
    done = subprocess.run(  # noqa: S603 - our own collector
        [parts.collector_path(), "validate", *files],
        cwd=tmp_path, env={"COLLECTOR_INGEST_TOKEN_FILE": str(tmp_path / "ingest")},
        capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def _within(seconds: float, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
