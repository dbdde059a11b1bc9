"""`otel-agents spool`: what waits, and sending it without losing any of it to a mistake."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from otel_agents.spool.directory import Directory
from otel_agents.spool.segment import Segment
from tests.spool.conftest import SOURCE, Backend, serving
from tests.spool.test_lane import names, span

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .conftest import Shell


@pytest.fixture
def backend() -> Iterator[Backend]:
    """A backend that takes what it is sent."""
    with serving() as found:
        yield found


@pytest.fixture
def spool(shell: Shell, tmp_path: Path) -> Directory:
    """A spool with ten spans of a process that ended."""
    for name in tuple(shell.environment):
        if name.startswith("OTEL_") or name.endswith("CA_BUNDLE"):
            del shell.environment[name]
    shell.environment["OTEL_EXPORTER_OTLP_PROTOCOL"] = "http/protobuf"
    directory = Directory(tmp_path / "spool", 1 << 20)
    directory.make()
    segment = Segment.create(directory.path, "traces")
    for name in names(10):
        segment.add_item(SOURCE, span(name), 0)
    segment.close()
    return directory


def waiting(spool: Directory) -> int:
    found: int = spool.status()["waiting"]["traces"]
    return found


def data(text: str) -> Any:
    return json.loads(text)["data"]


def test_the_status_says_what_waits(shell: Shell, spool: Directory) -> None:
    """For people and for programs, and changes nothing."""
    found = shell.run("spool", "status", "--directory", str(spool.path))
    assert found.returncode == 0
    assert "traces" in found.stdout
    assert "Send what ended programs left with `otel-agents spool drain`." in found.stdout
    found = shell.run("spool", "status", "--directory", str(spool.path), "--json")
    assert data(found.stdout)["waiting"] == {"traces": 10, "metrics": 0, "logs": 0}
    assert waiting(spool) == 10


def test_a_drain_sends_all_and_says_so(shell: Shell, spool: Directory, backend: Backend) -> None:
    """To where the standard variables say."""
    shell.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = backend.url
    found = shell.run("spool", "drain", "--directory", str(spool.path), "--json")
    assert found.returncode == 0
    assert data(found.stdout) == {
        "sent": {"traces": 10, "metrics": 0, "logs": 0},
        "left": {"traces": 0, "metrics": 0, "logs": 0},
        "dropped": [],
        "why": {},
    }
    assert backend.spans() == names(10)


def test_an_exporter_that_is_named_with_its_protocol_is_understood(
    shell: Shell, spool: Directory, backend: Backend
) -> None:
    """`OTEL_TRACES_EXPORTER=otlp_proto_http` is how many programs choose it."""
    del shell.environment["OTEL_EXPORTER_OTLP_PROTOCOL"]
    shell.environment["OTEL_TRACES_EXPORTER"] = "otlp_proto_http"
    shell.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = backend.url
    assert shell.run("spool", "drain", "--directory", str(spool.path)).returncode == 0
    assert backend.spans() == names(10)


@pytest.mark.parametrize("address", ["localhost:4318", "nonsense", "http://["])
def test_an_address_that_is_none_costs_nothing(
    shell: Shell, spool: Directory, address: str
) -> None:
    """One sentence at once, and all of it is kept."""
    shell.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = address
    found = shell.run("spool", "drain", "--directory", str(spool.path))
    assert found.returncode == 2
    assert "give OTEL_EXPORTER_OTLP_ENDPOINT with http:// or https://" in found.stderr
    assert waiting(spool) == 10
    assert not spool.losses()


@pytest.mark.parametrize("status", [401, 403, 404, 302])
def test_a_backend_that_does_not_let_us_in_costs_nothing(
    shell: Shell,
    spool: Directory,
    backend: Backend,
    status: int,
) -> None:
    """A token that was forgotten: the reason is said, and all of it is kept."""
    shell.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = backend.url
    backend.answers = [status]
    found = shell.run("spool", "drain", "--directory", str(spool.path))
    assert found.returncode == 1
    assert "10 items are left" in found.stdout
    assert f"traces: {status}" in found.stdout
    assert waiting(spool) == 10
    assert not spool.losses()


def test_a_backend_that_is_away_is_tried_for_as_long_as_was_said(
    shell: Shell, spool: Directory, backend: Backend
) -> None:
    """Nobody listens: what is left is said, and why."""
    shell.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = backend.url
    backend.close()
    found = shell.run("spool", "drain", "--directory", str(spool.path), "--timeout", "0", "--json")
    assert found.returncode == 1
    assert data(found.stdout)["left"]["traces"] == 10
    assert "ConnectionError" in data(found.stdout)["why"]["traces"]


@pytest.mark.parametrize("seconds", ["nan", "-1", "abc"])
def test_a_time_that_is_none_is_refused(shell: Shell, spool: Directory, seconds: str) -> None:
    """Before anything is sent."""
    found = shell.run("spool", "drain", "--directory", str(spool.path), "--timeout", seconds)
    assert found.returncode == 2
    assert "--timeout" in found.stderr
    assert waiting(spool) == 10


def test_no_spool_is_one_sentence(shell: Shell, tmp_path: Path) -> None:
    """With the exit code of what is not there."""
    found = shell.run("spool", "status", "--directory", str(tmp_path / "none"))
    assert found.returncode == 4
    assert found.stderr.count("\n") == 1
    assert "there is no spool at" in found.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make a directory another user's")
def test_a_spool_of_another_user_is_left_alone(shell: Shell, spool: Directory) -> None:
    """As programs do: whoever owns it could have planted what is in it."""
    os.chown(spool.path, 12345, -1)
    found = shell.run("spool", "drain", "--directory", str(spool.path))
    assert found.returncode == 2
    assert "another user's" in found.stderr
