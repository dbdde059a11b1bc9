"""The fault run and the example in the real stack, started once for all tests that look at them.

They are started together and go on while tests run, so that what takes long is over when it is
looked at.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Backends

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PROFILES = ("compat", "latest")
INSTRUMENT = Path(sys.executable).with_name("opentelemetry-instrument")
# What lasts goes on until the tests are over.
HOLD_SECONDS = "3600"
END_SECONDS = 20
SETTINGS = EXAMPLES / "faults" / "otel-agents.toml"


class Told(NamedTuple):
    """A run of the example: its service, its run's id, and its process."""

    service: str
    run_id: str
    process: subprocess.Popen[bytes]


class Shown(NamedTuple):
    """What runs: services of the fault run and the guarded example, and the lighthouse by profile.

    The guarded example has what the others have not: restores, and an agent that waits for a human.
    """

    faults: str
    guarded: str
    examples: dict[str, Told]


def environment(backends: Backends, service: str, config: Path, **more: str) -> dict[str, str]:
    """Return the environment of a program whose telemetry goes into the stack, and soon."""
    return {
        **os.environ,
        "OTEL_SERVICE_NAME": service,
        "OTEL_AGENTS_CONFIG": str(config),
        "OTEL_AGENTS_SINKS": "otlp:",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_ENDPOINT": backends.stack.otlp_http,
        "OTEL_METRIC_EXPORT_INTERVAL": "2000",
        **more,
    }


def trace(backends: Backends, trace_id: str) -> list[dict[str, Any]]:
    """Return the spans of a trace in Jaeger's own JSON; none where it has none."""
    url = f"{backends.stack.jaeger_query}/api/traces/{trace_id}"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - loopback only
            found = json.load(answer)["data"] or []
    except urllib.error.HTTPError as error:
        if error.code != HTTPStatus.NOT_FOUND:
            raise
        return []
    return [span for one in found for span in one["spans"]]


@contextmanager
def begun(
    folder: Path, environment: dict[str, str], *program: Path | str
) -> Iterator[subprocess.Popen[bytes]]:
    """Start an instrumented program, and interrupt it at the end if it still runs."""
    with subprocess.Popen(  # noqa: S603 - our own examples
        [INSTRUMENT, sys.executable, *program],
        cwd=folder, env=environment, stdout=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(END_SECONDS)


@pytest.fixture(scope="session")
def shown(backends: Backends, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """Start all faults, which go on, and the examples, one in both profiles, to their ends."""
    folder = tmp_path_factory.mktemp("shown")
    with ExitStack() as running:
        program = (EXAMPLES / "faults" / "app.py", "--hold", HOLD_SECONDS)
        running.enter_context(begun(folder, environment(backends, "faults", SETTINGS), *program))
        stream = (EXAMPLES / "event-stream" / "app.py", "--no-serve", "--pace", "0")
        told = environment(backends, "shown-events", SETTINGS)
        running.enter_context(begun(folder, told, *stream, "--out", folder / "events"))
        guarded = EXAMPLES / "guarded"
        repository = folder / "guarded"
        subprocess.run(  # noqa: S603 - our own example
            [sys.executable, guarded / "app.py", "--new", repository], check=True, timeout=60
        )
        told = environment(backends, "shown-guarded", guarded / "otel-agents.toml")
        program = (guarded / "app.py", "--pace", "0", "--answer", "approve")
        running.enter_context(begun(repository, told, *program))
        examples = {}
        lighthouse = EXAMPLES / "lighthouse"
        for profile in PROFILES:
            service, run_id = f"shown-{profile}", f"run-shown-{profile}"
            told = environment(
                backends, service, lighthouse / "otel-agents.toml", OTEL_AGENTS_SEMCONV=profile
            )
            process = running.enter_context(
                begun(
                    folder, told, lighthouse / "app.py", "--pace", "0", "--chapters", "2",
                    "--run-id", run_id, "--out", folder / profile,
                )
            )  # fmt: skip
            examples[profile] = Told(service, run_id, process)
        # Looked at: Jaeger tells of what it is asked, and of what it does not have.
        backends.services()
        assert not trace(backends, f"{1:032x}")
        yield Shown("faults", "shown-guarded", examples)
