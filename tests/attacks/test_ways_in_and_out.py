"""What a request brings is bounded and escaped, and no address in it is gone to (21, 37, 39)."""

from __future__ import annotations

import socket
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

import otel_agents as oa
from otel_agents.context import current_ids
from otel_agents.receiver.decode import LOGS, TRACES
from otel_agents.server.serve import Options, Server
from otel_agents.settings import Settings
from otel_agents.signals import Ids, Signal
from otel_agents.store import Batch
from tests.chaos.clients import log_message
from tests.store.build import number, request, trace_number

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from otel_agents.testing import Captured

_OURS: Final = "otelagents.run.id=run-7"


@pytest.mark.parametrize(
    ("before", "known"),
    [("", True), ("tenant=7," * 300, True), ("tenant=7," * 8_000, False), ("x" * 65_536, False)],
)
def test_what_a_header_carries_is_read_up_to_a_bound(
    captured: Captured, before: str, known: bool
) -> None:
    """A baggage of 64 KiB is cut at 4 KiB: what stands there in a usual one is not looked for."""
    assert captured
    carrier = {"baggage": f"{before}{_OURS}", "traceparent": "00-" + "f" * 70_000}
    with oa.extract(carrier):
        found = current_ids()

    assert (found is not None and found.run_id == "run-7") is known


def test_a_thousand_members_of_others_cost_us_nothing(captured: Captured) -> None:
    """None of them is on a span, and none is read; what is passed on has ours."""
    members = ",".join(f"k{one}=v{one}" for one in range(1_000))
    with oa.extract({"baggage": members}), oa.run("shop"):
        onward: dict[str, str] = {}
        oa.inject(onward)

    assert "v1" not in str([span.attributes for span in captured.spans])
    assert len(onward["baggage"]) < 10_000
    assert "otelagents.run.id=" in onward["baggage"]


_NAMES: Final = (
    '"} or vector(1) #', 'a",job="other', "a\nup 1\n# HELP up x", "a\\", "{{ $value }}", "\u2028",
)  # fmt: skip


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Server, Any]]:
    """A server without tokens, and its addresses."""
    options = Options(
        port=0, otlp_http_port=0, otlp_grpc_port=None, store=f"sqlite:///{tmp_path / 'store.db'}"
    )  # fmt: skip
    made = Server(options, Settings(), None)
    yield made, made.start()
    made.stop()


def _run(name: str) -> list[Signal]:
    ids = Ids(run_id=f"run {name}", workflow=name, agent=name, agent_id=f"a {name}")
    told = [("run", "start"), ("agent", "start"), ("agent", "end"), ("run", "end")]

    return [
        Signal(id=f"{name}-{kind}-{edge}", kind=kind, edge=edge, ids=ids, time=time.time_ns(),  # type: ignore[arg-type]
               scope_id=f"{name}-{kind}", name=name, duration=1.0 if edge == "end" else None,
               result="success" if edge == "end" else "")
        for kind, edge in told
    ]  # fmt: skip


def test_a_name_stays_one_label(server: tuple[Server, Any]) -> None:
    """Whatever it holds: no line, label or series of /metrics is of its making, and it is there."""
    one, addresses = server
    assert one.store is not None
    for name in _NAMES:
        one.store.write(Batch(signals=_run(name)))
    assert one.store.settle()
    text = httpx.get(f"{addresses.console}/metrics", timeout=60, trust_env=False).text
    families = list(text_string_to_metric_families(text))
    samples = [sample for family in families for sample in family.samples]

    assert {family.name.partition("_")[0] for family in families} <= {"otelagents", "gen", "target"}
    values = {value for sample in samples for value in sample.labels.values()}
    assert {name for name in _NAMES if any(name == value for value in values)} >= set(_NAMES[:2])
    assert "job" not in {key for sample in samples for key in sample.labels}


_CANARY: Final = "127.0.0.1"


@pytest.fixture
def went() -> Iterator[list[Any]]:
    """The addresses that this process connects to, from here on."""
    found: list[Any] = []
    on = [True]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if on[0] and event == "socket.connect":
            found.append(arguments[1])

    sys.addaudithook(hook)  # there is no way to take one back
    yield found
    on[0] = False


def test_no_address_in_telemetry_is_gone_to(server: tuple[Server, Any], went: list[Any]) -> None:
    """In names, attributes, logs, signals and alerts, read on every page; the control is seen."""
    one, addresses = server
    with closing(socket.create_server((_CANARY, 0))) as canary:
        port = canary.getsockname()[1]
        address = f"http://{_CANARY}:{port}/latest/meta-data"
        spans = request({"trace": trace_number(1), "span": number(1), "name": address, "run": "r"})
        for key in ("url.full", "link", "gen_ai.input.messages", "http.url", "webhook"):
            said = spans.resource_spans[0].scope_spans[0].spans[0].attributes.add(key=key)
            said.value.string_value = f"![image]({address})"
        signals = _run(address)
        for signal in signals:
            signal.attributes = {"url": address, "callback": address}
        bodies = ((TRACES, spans), (LOGS, log_message(signals)))
        with httpx.Client(timeout=60, trust_env=False) as client:
            for kind, message in bodies:
                answer = client.post(
                    f"{addresses.otlp_http}{kind.path}", content=message.SerializeToString(),
                    headers={"Content-Type": "application/x-protobuf"},
                )  # fmt: skip
                assert answer.status_code == 200
            client.post(f"{addresses.console}/api/alerts", json={
                "version": "4", "status": "firing", "externalURL": address, "alerts": [{
                    "status": "firing", "labels": {"alertname": "a", "runbook_url": address},
                    "annotations": {"runbook_url": address}, "startsAt": "2026-01-01T00:00:00Z",
                    "generatorURL": address, "fingerprint": "f"}],
            })  # fmt: skip
            assert one.store is not None
            assert one.store.settle()
            for page in ("/runs", f"/traces/{trace_number(1).hex()}", "/api/logs", "/api/alerts",
                         "/alerts", "/live", "/api/runs"):  # fmt: skip
                assert client.get(f"{addresses.console}{page}").status_code == 200, page
        assert port not in {where[1] for where in went if isinstance(where, tuple)}
        with closing(socket.create_connection((_CANARY, port))):
            pass
        assert port in {where[1] for where in went if isinstance(where, tuple)}
