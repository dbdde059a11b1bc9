"""The OpenTelemetry SDKs for Node and Go send here in every form they have, and all of it arrives.

The clients are installed and built outside the repository, by what their lock files say, in the
cache that the native stack uses (deploy/native/parts.py). Without Node or Go the tests are skipped,
but for where `CI` is set.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.receiver.kit import grpc_receiver, http_receiver

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.receiver.kit import Remembering

pytestmark = pytest.mark.xdist_group("receiver-clients")

HERE: Final = Path(__file__).parent / "clients"
BUILD_SECONDS: Final = 600
RUN_SECONDS: Final = 180


def cache() -> Path:
    """Return the folder of what is built for tests."""
    if explicit := os.environ.get("OTEL_AGENTS_STACK_CACHE"):
        return Path(explicit).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "otel-agents" / "stack"


def built(name: str, tool: str, steps: Sequence[Sequence[str]]) -> Path:
    """Return the folder of a client, built by some steps unless it is there already."""
    program = shutil.which(tool)
    if program is None:
        reason = f"there is no {tool}, which the client for {name} needs"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    sources = sorted(path for path in (HERE / name).iterdir() if path.is_file())
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    folder = cache() / f"client-{name}-{digest}"
    if not folder.exists():
        working = folder.with_name(f"{folder.name}.{os.getpid()}")
        shutil.copytree(HERE / name, working)
        for step in steps:
            done = subprocess.run(  # noqa: S603 - our own program
                step,
                check=False,
                cwd=working,
                capture_output=True,
                text=True,
                timeout=BUILD_SECONDS,
            )
            assert done.returncode == 0, done.stderr
        working.rename(folder)
    return folder


def client(name: str) -> tuple[list[str], Path]:
    """Return the command of a client, and where it runs."""
    if name == "node":
        install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        return ["node", "client.js"], built(name, "npm", [install])
    folder = built(name, "go", [["go", "build", "-mod=readonly", "-trimpath", "-o", "client", "."]])
    return [str(folder / "client")], folder


FORMS: Final = {
    "node": {"json", "json-gzip", "protobuf", "protobuf-gzip", "grpc", "grpc-gzip"},
    "go": {"protobuf", "protobuf-gzip", "grpc", "grpc-gzip"},
}


@pytest.mark.parametrize("name", FORMS)
def test_what_a_client_sends_arrives(name: str, store: Remembering) -> None:
    """A span, a metric and a log record over JSON, protobuf and gRPC, plain and packed."""
    command, folder = client(name)
    with http_receiver(store) as over_http, grpc_receiver(store) as over_grpc:
        done = subprocess.run(  # noqa: S603 - our own program
            [*command, str(over_http.port), str(over_grpc.port)],
            check=False, cwd=folder, capture_output=True, text=True, timeout=RUN_SECONDS,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")

    groups = [group for request in store.requests for group in request.resource_spans]
    spans = {span.name: span for g in groups for s in g.scope_spans for span in s.spans}
    assert set(spans) == FORMS[name]
    for span in spans.values():
        values = {pair.key: pair.value for pair in span.attributes}
        assert values["n"].int_value == 1
        assert values["text"].string_value == "ä"
        assert [v.string_value for v in values["list"].array_value.values] == ["a", "b"]
        assert (span.status.code, span.status.message) == (2, "wrong")
        assert [event.name for event in span.events] == ["event"]
        assert 0 < span.start_time_unix_nano <= span.end_time_unix_nano
    services = {f"{name}-{form}" for form in FORMS[name]}
    assert {
        p.service: (p.kind, p.value) for p in store.points if p.name == "orders"
    } == dict.fromkeys(services, ("sum", 3.0))
    assert {record.service: (record.body, record.severity) for record in store.logs} == {
        f"{name}-{form}": (f"line {form}", 9) for form in FORMS[name]
    }
