"""The pods' programs as processes here: their arguments, variables, files and probes are real.

What differs is where they are: a pod's folders are below a temporary one, and its ports are free
ones on loopback.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any, Self
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from otel_agents.server.origins import Hosts
from tests.chaos.served import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tests.databases import Cluster

    from .chart import Chart, Pod, Rendered

pytestmark = pytest.mark.xdist_group("kubernetes-running")

HOST = "127.0.0.1"
# Others use the machine too: this is how long anything may take before it is called stuck.
SECONDS = 180.0
TOKENS = {"token": "of-the-admin", "ingest_token": "of-senders", "viewer_token": "of-viewers"}


def until(question: Callable[[], Any], process: Process) -> Any:
    """Ask until the answer is truthy, while the process lives and there is time; return it."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and process.alive:
        if answer := question():
            return answer
        time.sleep(0.05)
    raise AssertionError(process.last_said())


def asked(url: str, token: str | None = None) -> tuple[int, str]:
    """Return the status and the text of an answer; 0 where nobody answers."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        with urlopen(Request(url, headers=headers), timeout=10) as answer:  # noqa: S310 - loopback
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


class Process:
    """A pod's container as a process."""

    def __init__(self, argv: list[str], environment: Mapping[str, str], folder: Path) -> None:
        self._log = folder / "log"
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - ours
                argv, cwd=folder, env={**kept, **environment}, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.terminate()

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def said(self) -> str:
        """Return what it wrote."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def last_said(self) -> str:
        """Return how it ended, or that it runs, and the last lines that it wrote."""
        lines = [line[:400] for line in self.said().splitlines() if "\tinfo\tottl@" not in line]
        return "\n".join((f"exit code: {self._process.poll()}", *lines[-20:]))

    def terminate(self) -> int:
        """End it as the cluster does; return its exit code."""
        self._process.terminate()
        try:
            return self._process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def lay_out(folder: Path, rendered: Rendered, pod: Pod) -> Path:
    """Make what a pod mounts below a folder; return the one that stands for its root."""
    root = folder / pod.labels["app.kubernetes.io/component"]
    mounted = {
        one["name"]: root / one["mountPath"].lstrip("/") for one in pod.container["volumeMounts"]
    }
    for each in mounted.values():
        each.mkdir(parents=True)
    for volume in pod.spec["volumes"]:
        if "configMap" in volume:
            data = rendered.of("ConfigMap")[volume["configMap"]["name"]]["data"]
            for name, text in data.items():
                (mounted[volume["name"]] / name).write_text(text, "utf-8")
        for item in volume.get("secret", {}).get("items", []):
            (mounted[volume["name"]] / item["path"]).write_text(TOKENS[item["key"]], "utf-8")
    return root


def moved(text: str, root: Path, pod: Pod) -> str:
    """Return an argument or a value with the pod's folders below the one that stands for /."""
    mounted = [one["mountPath"] for one in pod.container["volumeMounts"]]
    return re.sub(rf"(?:{'|'.join(map(re.escape, mounted))})(?=/|$)", rf"{root}\g<0>", text)


class Server(Process):
    """The server's container, with the values of variables that come from a secret."""

    def __init__(self, folder: Path, rendered: Rendered, **secrets: str) -> None:
        pod = rendered.pod("server")
        root = lay_out(folder, rendered, pod)
        assert pod.container["command"] == ["otel-agents"]
        arguments = [moved(one, root, pod) for one in pod.container["args"]]
        arguments[arguments.index("--host") + 1] = HOST
        for option in ("--port", "--otlp-http-port", "--otlp-grpc-port"):
            arguments[arguments.index(option) + 1] = "0"
        environment = {name: moved(text, root, pod) for name, text in pod.environment.items()}
        environment |= {
            one["name"]: secrets[one["valueFrom"]["secretKeyRef"]["key"]]
            for one in pod.container["env"]
            if "valueFrom" in one
        }
        self.home = root / "var/lib/otel-agents"
        super().__init__([sys.executable, "-m", "otel_agents.cli", *arguments], environment, root)
        line = until(lambda: self.said() if "\n" in self.said() else "", self)
        self.addresses: dict[str, str] = json.loads(line)["data"]

    @property
    def console(self) -> str:
        """The address of console and API."""
        return self.addresses["console"]


class Collector(Process):
    """A collector's container, with variables that take the place of the pod's own."""

    def __init__(
        self, folder: Path, rendered: Rendered, component: str, program: Path, **more: str
    ) -> None:
        pod = rendered.pod(component)
        root = lay_out(folder, rendered, pod)
        environment = {name: moved(text, root, pod) for name, text in pod.environment.items()}
        for name in ("OTLP_GRPC", "OTLP_HTTP", "HEALTH", "METRICS_QUEUE"):
            environment[f"COLLECTOR_{name}_ENDPOINT"] = f"{HOST}:{free_port()}"
        environment |= {
            "COLLECTOR_METRICS_HOST": HOST,
            "COLLECTOR_METRICS_PORT": str(free_port()),
            "COLLECTOR_NAME": f"{component}-0",
            # Nobody is there: what goes to them waits in the queues.
            "COLLECTOR_JAEGER_URL": f"http://{HOST}:9",
            "COLLECTOR_PROMETHEUS_URL": f"http://{HOST}:9",
            **more,
        }
        self.environment = environment
        arguments = [moved(one, root, pod) for one in pod.container["args"]]
        super().__init__([str(program), *arguments], environment, root)
        path = pod.container["readinessProbe"]["httpGet"]["path"]
        self.health = f"http://{environment['COLLECTOR_HEALTH_ENDPOINT']}{path}"
        until(lambda: asked(self.health)[0] == 200, self)


def test_the_server_starts_and_answers_its_probes(chart: Chart, tmp_path: Path) -> None:
    """With tokens, settings and folders as files; and it ends when the cluster asks it to."""
    rendered = chart.variant("default")
    container = rendered.pod("server").container
    with Server(tmp_path, rendered) as server:
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            status, said = asked(server.console + container[probe]["httpGet"]["path"])
            assert (status, json.loads(said)["error"]) == (200, None)
        assert server.terminate() == 0
        assert "otel-agents:" not in server.said()  # no setting was out of place
    assert (server.home / "workspace" / "otel-agents.db").is_file()
    # A probe names the pod's address, which nobody knows before.
    host = container["args"][container["args"].index("--host") + 1]
    assert Hosts(host).knows("10.42.0.7:3010")


@pytest.fixture(scope="module")
def served(chart: Chart, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give a server for all tests that only ask."""
    with Server(tmp_path_factory.mktemp("served"), chart.variant("all")) as server:
        yield server


@pytest.mark.parametrize(
    ("token", "metrics", "runs", "runtime"),
    [
        (None, 401, 401, 401),
        ("of-senders", 403, 403, 403),
        ("of-viewers", 200, 200, 403),
        ("of-the-admin", 200, 200, 200),
    ],
)
def test_each_token_is_the_role_that_its_key_says(
    chart: Chart, served: Server, token: str | None, metrics: int, runs: int, runtime: int
) -> None:
    """From the secret's keys through files and variables to what the server lets in."""
    monitor = chart.variant("all").one("ServiceMonitor", "server")
    (endpoint,) = monitor["spec"]["endpoints"]
    assert asked(served.console + endpoint["path"], token)[0] == metrics
    assert asked(f"{served.console}/api/runs", token)[0] == runs
    assert asked(f"{served.console}/api/admin/runtime/status", token)[0] == runtime


def test_on_postgresql_several_share_one_store(
    chart: Chart, postgresql: Cluster, tmp_path: Path
) -> None:
    """Its URL comes from the secret's key; nothing is kept in the pods."""
    rendered = chart.variant("postgresql")
    url = postgresql.make()
    with ExitStack() as running:
        for number in range(rendered.pod("server").owner["spec"]["replicas"]):
            server = running.enter_context(Server(tmp_path / str(number), rendered, url=url))
            assert asked(f"{server.console}/readyz")[0] == 200
            assert server.addresses["store"].rpartition("@")[2] == url.rpartition("@")[2]
            assert not list(server.home.iterdir())
    postgresql.drop(url)


def test_a_span_goes_from_a_node_s_agent_to_the_server(
    chart: Chart, tmp_path: Path, programs: dict[str, Path]
) -> None:
    """Through a gateway, whose token the server knows; secrets are hidden on the way."""
    rendered = chart.variant("all")
    otelcol = programs["otelcol"]
    with ExitStack() as running:
        server = running.enter_context(Server(tmp_path, rendered))
        gateway = running.enter_context(
            Collector(
                tmp_path, rendered, "gateway", otelcol,
                COLLECTOR_SERVER_URL=server.addresses["otlp_http"],
            )
        )  # fmt: skip
        address = gateway.environment["COLLECTOR_OTLP_GRPC_ENDPOINT"]
        node = running.enter_context(
            Collector(
                tmp_path, rendered, "node", otelcol,
                COLLECTOR_GATEWAYS=json.dumps({"static": {"hostnames": [address]}}),
            )
        )  # fmt: skip
        trace = send(f"http://{node.environment['COLLECTOR_OTLP_HTTP_ENDPOINT']}/v1/traces")

        def stored() -> str:
            status, said = asked(f"{server.console}/api/traces/{trace}", "of-viewers")
            return said if status == 200 and "invoke_agent planner" in said else ""

        said = until(stored, server)
        assert "hunter2" not in said
        for collector in (node, gateway):
            assert collector.alive
            assert collector.terminate() == 0, collector.last_said()


def send(url: str) -> str:
    """Send a span by the SDK, and return its trace's id."""
    provider = TracerProvider(resource=Resource({"service.name": "shop"}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(url, timeout=60)))
    with closing(_Closing(provider)):
        attributes = {"db.password": "hunter2"}
        with provider.get_tracer("shop").start_as_current_span(
            "invoke_agent planner", attributes=attributes
        ) as span:
            return format(span.get_span_context().trace_id, "032x")


class _Closing:
    """A provider as `closing` knows it."""

    def __init__(self, provider: TracerProvider) -> None:
        self.close = provider.shutdown
