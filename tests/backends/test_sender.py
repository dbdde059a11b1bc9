"""What the sender makes of a backend's answers, and what a spool outlives."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from typing import TYPE_CHECKING, Final

import pytest

from otel_agents.spool.destination import of_environment
from otel_agents.spool.pauses import Pauses

from .kit import PATIENCE, command, environment, start, told_by

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from otel_agents.spool.transport import Outcome

    from .zoo import Zoo

pytestmark = pytest.mark.xdist_group("backends")

HTTP: Final = "http/protobuf"
_FIRST_BACKOFF: Final = (0.8, 1.2)  # seconds, with its jitter
_LONGEST: Final = 300.0  # whatever a backend asks for
_ASKED: Final = (38.0, 41.0)  # 40 s; a date has whole seconds, and some time has passed


def asked(zoo: Zoo, beast: str, protocol: str, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    """Send one request and return what came of it."""
    for name, value in zoo.environment(protocol).items():
        monkeypatch.setenv(name, value)
    zoo.become(beast)
    transport = of_environment("traces").connect()
    try:
        return transport.send(b"")
    finally:
        transport.close()


def pause_of(outcome: Outcome) -> float:
    """Return how long a lane waits after an outcome, its first."""
    pauses = Pauses()
    pauses.begin(outcome.after)
    return pauses.left


@pytest.mark.parametrize(
    ("beast", "protocol", "least", "most"),
    [
        ("429-seconds", HTTP, *_ASKED),
        ("429-date", HTTP, *_ASKED),
        ("429-huge", HTTP, _LONGEST, _LONGEST),
        ("429-garbage", HTTP, *_FIRST_BACKOFF),
        ("503-retry", HTTP, *_ASKED),
        ("503", HTTP, *_FIRST_BACKOFF),
        ("unavailable-retry", "grpc", *_ASKED),
        ("unavailable-huge", "grpc", _LONGEST, _LONGEST),
        ("unavailable", "grpc", *_FIRST_BACKOFF),
        ("exhausted-retry", "grpc", *_ASKED),
    ],
)
def test_the_pause_is_what_the_backend_asked_for(
    zoo: Zoo,
    monkeypatch: pytest.MonkeyPatch,
    beast: str,
    protocol: str,
    least: float,
    most: float,
) -> None:
    """Seconds, a date and a RetryInfo are honoured up to five minutes; nonsense asks nothing."""
    outcome = asked(zoo, beast, protocol, monkeypatch)

    assert outcome.again
    assert least <= round(pause_of(outcome), 2) <= most


@pytest.mark.parametrize("proxied", [False, True], ids=["direct", "proxied"])
@pytest.mark.parametrize("beast", ["slow-answer", "endless-continue", "endless-headers"])
def test_a_request_has_an_end(
    zoo: Zoo, monkeypatch: pytest.MonkeyPatch, beast: str, *, proxied: bool
) -> None:
    """However a backend goes on, a request ends soon after its time, through a proxy too."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "2")
    for name in ("HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    outcomes: list[Outcome] = []
    if proxied:
        monkeypatch.setenv("http_proxy", zoo.http)
        monkeypatch.setattr(zoo, "http", "http://collector.example:4318")
    sending = threading.Thread(
        target=lambda: outcomes.append(asked(zoo, beast, HTTP, monkeypatch)), daemon=True
    )
    sending.start()
    sending.join(12)

    assert outcomes
    assert outcomes[0].again


def test_a_taken_request_is_taken_however_long_its_reply(
    zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reply over gRPC that is longer than we read does not have its request sent again."""
    assert asked(zoo, "huge-reply", "grpc", monkeypatch).sent


def test_the_next_process_delivers_what_one_left(zoo: Zoo, tmp_path: Path) -> None:
    """Nobody has to drain: a program sends what an earlier one could not, and nothing twice."""
    variables = environment(tmp_path, **zoo.environment(HTTP))
    zoo.become("refused")
    start(tmp_path, variables, zero_code=True)
    first = told_by(tmp_path)
    zoo.become("healthy")
    start(tmp_path, variables, zero_code=False)
    code, left = command(variables, "drain", "--timeout", "30")

    second = told_by(tmp_path)
    assert first["traces"].isdisjoint(second["traces"])
    assert code == 0
    assert left["dropped"] == []
    seen = zoo.seen()
    for signal in ("traces", "logs"):
        assert set(seen.taken[signal]) == first[signal] | second[signal]
    assert not seen.again("traces") | seen.again("logs")


def test_a_certificate_of_otlp_beats_that_of_the_machine(zoo_tls: Zoo, tmp_path: Path) -> None:
    """`OTEL_EXPORTER_OTLP_CERTIFICATE` holds where `REQUESTS_CA_BUNDLE` names other authorities."""
    other = tmp_path / "others.pem"
    other.write_text("")
    variables = environment(tmp_path, **zoo_tls.environment(HTTP), REQUESTS_CA_BUNDLE=str(other))
    start(tmp_path, variables, zero_code=False)
    command(variables, "drain", "--timeout", "10")

    assert set(zoo_tls.seen().taken["traces"]) == told_by(tmp_path)["traces"]


@pytest.mark.parametrize(
    ("protocol", "coding"), [(HTTP, "gzip"), (HTTP, "deflate"), ("grpc", "gzip")]
)
def test_requests_are_compressed_as_the_program_says(
    zoo: Zoo, tmp_path: Path, protocol: str, coding: str
) -> None:
    """`OTEL_EXPORTER_OTLP_COMPRESSION` holds for the spool, and the backend can read all of it."""
    variables = environment(tmp_path, **zoo.environment(protocol))
    start(tmp_path, variables | {"OTEL_EXPORTER_OTLP_COMPRESSION": coding}, zero_code=False)
    command(variables, "drain", "--timeout", "10")

    seen = zoo.seen()
    assert set(seen.taken["traces"]) == told_by(tmp_path)["traces"]
    if protocol == HTTP:  # gRPC's header is not shown to a server's handlers
        assert {one["coding"] for one in seen.requests} == {coding}


TAKEN_OVER: Final = """
    import importlib, os, time
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    protocol = os.environ["OTEL_EXPORTER_OTLP_PROTOCOL"].partition("/")[0]
    package = f"opentelemetry.exporter.otlp.proto.{protocol}"
    exporter = importlib.import_module(f"{package}.trace_exporter")
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exporter.OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    tracer = trace.get_tracer("library")
    for number in range(600):
        tracer.start_span("early").end()
    print("early", flush=True)
    input()
    from otel_agents import run
    begun = time.monotonic()
    with run("shop"):
        pass
    print(time.monotonic() - begun, flush=True)
"""


@pytest.mark.parametrize("protocol", [HTTP, "grpc"])
def test_to_take_over_does_not_wait_for_the_exporter(
    zoo: Zoo, tmp_path: Path, until: Callable[..., None], protocol: str
) -> None:
    """A program whose SDK is caught in an export opens its first scope without waiting for it."""
    zoo.become("blackhole")
    port = protocol.partition("/")[0]
    before = zoo.connections()[port]
    program = tmp_path / "early.py"
    program.write_text(textwrap.dedent(TAKEN_OVER))
    with subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, str(program)], env=environment(tmp_path, **zoo.environment(protocol)),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "early\n"
        until(lambda: zoo.connections()[port] > before, "an export that gets no answer")
        answer, _ = process.communicate("\n", timeout=PATIENCE)

    assert float(answer) < 4.0  # the export would have taken 10


def test_what_a_full_disk_does_not_take_is_counted(zoo: Zoo, tmp_path: Path) -> None:
    """Where the files can take no more and the backend is away, the account is exact still."""
    variables = environment(tmp_path, **zoo.environment(HTTP))
    variables |= {"OTEL_AGENTS_SINKS": "otlp:", "TEST_FILE_BYTES": "24000"}
    zoo.become("refused")
    ended = start(tmp_path, variables, zero_code=False)
    zoo.become("healthy")
    command(variables, "drain", "--timeout", "30")
    _, status = command(variables, "status")

    assert ended.code == 3
    (tmp_path / "signals.jsonl").touch()
    told, taken = told_by(tmp_path)["traces"], set(zoo.seen().taken["traces"])
    dropped = {
        row["reason"]: row["count"] for row in status["dropped"] if row["signal"] == "traces"
    }
    assert taken < told
    assert len(told - taken) == sum(dropped.values())
    assert set(dropped) <= {"disk full", "closed"}


def test_the_environment_leads_to_a_drain(zoo: Zoo, tmp_path: Path) -> None:
    """A spool is delivered to where the variables point now, not to where its writer was sent."""
    variables = environment(tmp_path, **zoo.environment("grpc"))
    dead = variables | {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector.invalid:4317"}
    start(tmp_path, dead, zero_code=True)
    code, _ = command(dead, "drain", "--timeout", "1")
    assert code == 1

    code, _ = command(variables | zoo.environment(HTTP), "drain", "--timeout", "30")

    assert code == 0
    assert set(zoo.seen().taken["traces"]) == told_by(tmp_path)["traces"]
