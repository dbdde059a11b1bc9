"""The three programs of the native stack: how each is run on loopback, and when it is ready."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

import parts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

HOST = "127.0.0.1"

# What a user is told of, where the field expects it (OTLP, Jaeger, Prometheus).
PUBLIC_PORTS = {"otlp_grpc": 4317, "otlp_http": 4318, "jaeger_query": 16686, "prometheus": 9090}
# What the parts use among themselves.
INNER_PORTS = (
    "collector_health",
    "collector_metrics",
    "collector_metrics_queue",
    "jaeger_otlp",
    "jaeger_health",
    "jaeger_metrics",
    "jaeger_query_grpc",
)
# Below the range that Linux takes for outgoing connections (from 32768), so that none of those
# gets a port between our look and the program's start.
FREE_PORTS = range(20000, 32000)


@dataclass(frozen=True)
class Component:
    """A program to run: what to call, with which environment, and what answers when it is ready."""

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
    config = parts.DEPLOY
    return {
        "jaeger": Component(
            (programs["jaeger"], "--config", config / "jaeger" / "config.yaml"),
            _environment(
                JAEGER_DATA_DIR=str(state / "data" / "jaeger"),
                JAEGER_OTLP_ENDPOINT=at["jaeger_otlp"],
                JAEGER_HEALTH_ENDPOINT=at["jaeger_health"],
                JAEGER_QUERY_ENDPOINT=at["jaeger_query"],
                JAEGER_QUERY_GRPC_ENDPOINT=at["jaeger_query_grpc"],
                JAEGER_METRICS_HOST=HOST,
                JAEGER_METRICS_PORT=str(ports["jaeger_metrics"]),
            ),
            (f"http://{at['jaeger_health']}/status", f"http://{at['jaeger_query']}/api/services"),
        ),
        "prometheus": Component(
            (
                programs["prometheus"],
                f"--config.file={state / 'prometheus' / 'prometheus.yml'}",
                f"--storage.tsdb.path={state / 'data' / 'prometheus'}",
                f"--web.listen-address={at['prometheus']}",
                "--web.enable-remote-write-receiver",
                "--enable-feature=exemplar-storage",
            ),
            _environment(),
            (f"http://{at['prometheus']}/-/ready",),
        ),
        "collector": Component(
            (programs["otelcol"], "--config", config / "collector" / "config.yaml"),
            _environment(
                # A little below the memory limiter's limit, so that Go collects before it refuses.
                GOMEMLIMIT="400MiB",
                COLLECTOR_QUEUE_DIR=str(state / "data" / "collector"),
                COLLECTOR_OTLP_GRPC_ENDPOINT=at["otlp_grpc"],
                COLLECTOR_OTLP_HTTP_ENDPOINT=at["otlp_http"],
                COLLECTOR_HEALTH_ENDPOINT=at["collector_health"],
                COLLECTOR_METRICS_HOST=HOST,
                COLLECTOR_METRICS_PORT=str(ports["collector_metrics"]),
                COLLECTOR_METRICS_QUEUE_ENDPOINT=at["collector_metrics_queue"],
                COLLECTOR_JAEGER_URL=f"http://{at['jaeger_otlp']}",
                COLLECTOR_PROMETHEUS_URL=f"http://{at['prometheus']}",
            ),
            (f"http://{at['collector_health']}/",),
        ),
    }


def prepare(state: Path, ports: Mapping[str, int]) -> None:
    """Lay out the state folder: logs, data, and Prometheus' configuration with what it scrapes."""
    (state / "logs").mkdir(parents=True, exist_ok=True)
    (state / "data" / "jaeger").mkdir(parents=True, exist_ok=True)
    targets = state / "prometheus" / "targets"
    targets.mkdir(parents=True, exist_ok=True)
    shutil.copy(parts.DEPLOY / "prometheus" / "prometheus.yml", targets.parent)
    scraped = {
        "collector": ports["collector_metrics"],
        "jaeger": ports["jaeger_metrics"],
        "prometheus": ports["prometheus"],
    }
    groups = [
        {"labels": {"job": job}, "targets": [f"{HOST}:{port}"]} for job, port in scraped.items()
    ]
    # JSON is YAML too, and needs no package to write.
    (targets / "native.yml").write_text(json.dumps(groups, indent=2), encoding="utf-8")


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
