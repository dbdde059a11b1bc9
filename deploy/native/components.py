"""The programs of the native stack: how each is run on loopback, and when it is ready."""

from __future__ import annotations

import os
import random
import socket
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import parts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

HOST = "127.0.0.1"

# What a user is told of, where the field expects it.
PUBLIC_PORTS = {
    "otlp_grpc": 4317,
    "otlp_http": 4318,
    "jaeger_query": 16686,
    "prometheus": 9090,
    "alertmanager": 9093,
    "console": 3010,
    "redis": 6379,
}
# What the parts use among themselves.
INNER_PORTS = (
    "collector_health",
    "collector_metrics",
    "collector_metrics_queue",
    "jaeger_otlp",
    "jaeger_health",
    "jaeger_metrics",
    "jaeger_query_grpc",
    "server_otlp_http",
    "server_otlp_grpc",
)
# How much Prometheus keeps: whichever is reached first.
RETENTION_TIME = "30d"
RETENTION_SIZE = "8GB"
# Below the range that Linux takes for outgoing connections (from 32768), so that none of those
# gets a port between our look and the program's start.
FREE_PORTS = range(20000, 32000)


@dataclass(frozen=True)
class Component:
    """A program to run: what to call, with which environment, and what answers when it is ready.

    An address that begins with `tcp:` answers when it takes a connection, others by HTTP.
    """

    argv: tuple[str | Path, ...]
    env: Mapping[str, str]
    ready: tuple[str, ...]


def choose_ports(*, default: bool) -> dict[str, int]:
    """Return a port of the loopback address for each use, the public ones free or the usual ones.

    Raises:
        OSError: when a usual one is taken.
    """
    ports: dict[str, int] = {}
    for name, usual in PUBLIC_PORTS.items() if default else ():
        if not _is_free(usual):
            message = f"Port {usual} on {HOST} is taken: end what listens there or take free ports."
            raise OSError(message)
        ports[name] = usual
    names = [name for name in (*PUBLIC_PORTS, *INNER_PORTS) if name not in ports]
    candidates = iter(random.sample(FREE_PORTS, len(FREE_PORTS)))
    for name in names:
        ports[name] = next(port for port in candidates if _is_free(port))
    return ports


def components(
    programs: Mapping[str, Path], state: Path, ports: Mapping[str, int]
) -> dict[str, Component]:
    """Return the programs of the stack by name, in the order in which to start them."""
    at = {name: f"{HOST}:{port}" for name, port in ports.items()}
    return {
        "server": _server(state, ports),
        "jaeger": _jaeger(programs["jaeger"], state, at),
        "prometheus": _prometheus(programs["prometheus"], state, at["prometheus"]),
        "alertmanager": _alertmanager(programs["alertmanager"], state, at["alertmanager"]),
        "redis": _redis(programs["redis-server"], state, ports["redis"]),
        "collector": _collector(programs["otelcol"], state, at),
    }


def _server(state: Path, ports: Mapping[str, int]) -> Component:
    """Return the otel-agents server, in the Python that runs this."""
    folder = state / "server"
    secrets = state / "secrets"
    return Component(
        (
            sys.executable, "-m", "otel_agents.cli", "serve",
            f"--port={ports['console']}",
            f"--otlp-http-port={ports['server_otlp_http']}",
            f"--otlp-grpc-port={ports['server_otlp_grpc']}",
        ),
        _environment(
            OTEL_AGENTS_HOME=str(state / "data" / "server"),
            # Its own settings, not those of the folder that the stack is started in.
            OTEL_AGENTS_CONFIG=str(folder / "otel-agents.toml"),
            OTEL_AGENTS_JAEGER=f"http://{HOST}:{ports['jaeger_query']}",
            OTEL_AGENTS_TOKEN_FILE=str(secrets / "token"),
            OTEL_AGENTS_INGEST_TOKEN_FILE=str(secrets / "ingest_token"),
            OTEL_AGENTS_VIEWER_TOKEN_FILE=str(secrets / "viewer_token"),
        ),
        (f"http://{HOST}:{ports['console']}/readyz",),
    )  # fmt: skip


def _jaeger(program: Path, state: Path, at: Mapping[str, str]) -> Component:
    host, _, metrics_port = at["jaeger_metrics"].partition(":")
    return Component(
        (program, "--config", parts.DEPLOY / "jaeger" / "config.yaml"),
        _environment(
            JAEGER_DATA_DIR=str(state / "data" / "jaeger"),
            JAEGER_OTLP_ENDPOINT=at["jaeger_otlp"],
            JAEGER_HEALTH_ENDPOINT=at["jaeger_health"],
            JAEGER_QUERY_ENDPOINT=at["jaeger_query"],
            JAEGER_QUERY_GRPC_ENDPOINT=at["jaeger_query_grpc"],
            JAEGER_METRICS_HOST=host,
            JAEGER_METRICS_PORT=metrics_port,
            JAEGER_PROMETHEUS_URL=f"http://{at['prometheus']}",
            JAEGER_UI_CONFIG=str(parts.DEPLOY / "jaeger" / "ui.json"),
        ),
        (f"http://{at['jaeger_health']}/status", f"http://{at['jaeger_query']}/api/services"),
    )


def _prometheus(program: Path, state: Path, address: str) -> Component:
    return Component(
        (
            program,
            f"--config.file={state / 'prometheus' / 'prometheus.yml'}",
            f"--storage.tsdb.path={state / 'data' / 'prometheus'}",
            f"--storage.tsdb.retention.time={RETENTION_TIME}",
            f"--storage.tsdb.retention.size={RETENTION_SIZE}",
            f"--web.listen-address={address}",
            f"--web.external-url=http://{address}/",
            "--web.enable-remote-write-receiver",
            # Rules and targets are read anew at a POST to /-/reload.
            "--web.enable-lifecycle",
            "--enable-feature=exemplar-storage",
        ),
        _environment(),
        (f"http://{address}/-/ready",),
    )


def _alertmanager(program: Path, state: Path, address: str) -> Component:
    return Component(
        (
            program,
            f"--config.file={state / 'alertmanager' / 'alertmanager.yml'}",
            f"--storage.path={state / 'data' / 'alertmanager'}",
            f"--web.listen-address={address}",
            f"--web.external-url=http://{address}/",
            # There is one: it need not look for others.
            "--cluster.listen-address=",
        ),
        _environment(),
        (f"http://{address}/-/ready",),
    )


def _redis(program: Path, state: Path, port: int) -> Component:
    return Component(
        (
            program,
            "--bind", HOST, "--port", str(port), "--daemonize", "no",
            "--dir", state / "data" / "redis", "--appendonly", "yes", "--save", "",
            # As in Compose: full is an error for the writer, and nothing is thrown out in silence.
            "--maxmemory", "256mb", "--maxmemory-policy", "noeviction",
        ),
        _environment(),
        (f"tcp://{HOST}:{port}",),
    )  # fmt: skip


def _collector(program: Path, state: Path, at: Mapping[str, str]) -> Component:
    host, _, metrics_port = at["collector_metrics"].partition(":")
    return Component(
        (program, "--config", parts.DEPLOY / "collector" / "config.yaml"),
        _environment(
            # A little below the memory limiter's limit, so that Go collects before it refuses.
            GOMEMLIMIT="400MiB",
            COLLECTOR_QUEUE_DIR=str(state / "data" / "collector"),
            COLLECTOR_OTLP_GRPC_ENDPOINT=at["otlp_grpc"],
            COLLECTOR_OTLP_HTTP_ENDPOINT=at["otlp_http"],
            COLLECTOR_HEALTH_ENDPOINT=at["collector_health"],
            COLLECTOR_METRICS_HOST=host,
            COLLECTOR_METRICS_PORT=metrics_port,
            COLLECTOR_METRICS_QUEUE_ENDPOINT=at["collector_metrics_queue"],
            COLLECTOR_JAEGER_URL=f"http://{at['jaeger_otlp']}",
            COLLECTOR_PROMETHEUS_URL=f"http://{at['prometheus']}",
            COLLECTOR_SERVER_URL=f"http://{at['server_otlp_http']}",
            COLLECTOR_INGEST_TOKEN_FILE=str(state / "secrets" / "ingest_token"),
        ),
        (f"http://{at['collector_health']}/",),
    )


def _environment(**ours: str) -> dict[str, str]:
    """Return a program's environment: the caller's OTEL_* and proxies are not for the stack."""
    kept = ("PATH", "HOME", "TMPDIR", "TZ", "LANG")
    return {name: os.environ[name] for name in kept if name in os.environ} | ours


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As a server does: what a closed connection left in TIME_WAIT is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
