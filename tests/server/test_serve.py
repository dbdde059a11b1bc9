"""The whole server: addresses, ports that are taken, TLS, restarts, and its end."""

from __future__ import annotations

import asyncio
import datetime
import signal
import socket
import ssl
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

import grpc
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub

from otel_agents.errors import SettingsError, UnavailableError
from otel_agents.server.serve import Options, Server
from otel_agents.settings import Settings

from .kit import OPEN, TOKENS, TRACE, fill, trace_request, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Running, Serving


def options(tmp_path: Path, **given: object) -> Options:
    ports = {"port": 0, "otlp_http_port": 0, "otlp_grpc_port": 0}
    return Options(**{**ports, "store": f"sqlite:///{tmp_path}/x.db", **given})  # type: ignore[arg-type]


def port(url: str) -> int:
    return httpx.URL(url).port or 0


def spans(running: Running) -> int:
    """Return how many spans of the trace can be read."""
    answer = running.client.get(f"/api/traces/{TRACE}")
    return len(answer.json()["data"]["spans"]) if answer.status_code == 200 else 0


def test_spans_come_in_and_can_be_read(serving: Serving) -> None:
    """What is sent by HTTP and by gRPC can be read from the API."""
    running = serving()
    answer = httpx.post(
        f"{running.addresses.otlp_http}/v1/traces",
        content=trace_request("sent", spans=2).SerializeToString(),
        headers={"Content-Type": "application/x-protobuf"},
        trust_env=False,
    )
    assert answer.status_code == 200
    wait_until(lambda: spans(running) == 2)
    with grpc.insecure_channel(running.addresses.otlp_grpc.removeprefix("http://")) as channel:
        TraceServiceStub(channel).Export(trace_request("sent", spans=5), timeout=20)
    wait_until(lambda: spans(running) == 5)


@pytest.mark.parametrize(
    ("field", "option"),
    [
        ("port", "--port"), ("otlp_http_port", "--otlp-http-port"),
        ("otlp_grpc_port", "--otlp-grpc-port"),
    ],
)  # fmt: skip
def test_a_port_that_is_taken_is_one_sentence(tmp_path: Path, field: str, option: str) -> None:
    """It names the port and the option, and nothing else was started or left behind."""
    before = threading.active_count()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        server = Server(options(tmp_path, **{field: number}), OPEN, None)
        with pytest.raises(UnavailableError) as failed:
            server.start()

    assert str(number) in str(failed.value)
    assert option in str(failed.value)
    assert isinstance(failed.value.__cause__, OSError)
    assert threading.active_count() == before
    assert not (tmp_path / "x.db").exists()


def test_a_host_that_is_not_ours_is_one_sentence(tmp_path: Path) -> None:
    """An address of another machine cannot be listened on, token or not."""
    server = Server(options(tmp_path, host="192.0.2.1"), TOKENS, None)
    with pytest.raises(SettingsError, match=r"--host 192\.0\.2\.1"):
        server.start()


def test_beyond_loopback_a_token_is_needed(tmp_path: Path, serving: Serving) -> None:
    """Attack 34: without one the server refuses before it opens anything; with one it listens."""
    with pytest.raises(SettingsError, match="OTEL_AGENTS_TOKEN"):
        Server(options(tmp_path, host="0.0.0.0"), OPEN, None)  # noqa: S104
    assert not (tmp_path / "x.db").exists()
    running = serving(TOKENS, host="0.0.0.0")  # noqa: S104
    assert running.url.startswith("http://127.0.0.1:")
    assert running.client.get("/api/runs").status_code == 401
    assert running.client.get("/healthz", headers={"Host": "box.example"}).status_code == 200


def test_ipv6_loopback_is_loopback(serving: Serving) -> None:
    """All three listeners work on ::1 too."""
    running = serving(host="::1")

    assert running.url.startswith("http://[::1]:")
    assert running.client.get("/healthz").status_code == 200
    with grpc.insecure_channel(running.addresses.otlp_grpc.removeprefix("http://")) as channel:
        TraceServiceStub(channel).Export(trace_request("sent"), timeout=20)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """Return the files of a certificate for 127.0.0.1 that signs itself, and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    import ipaddress

    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return cert_file, key_file


def test_all_listeners_speak_tls(serving: Serving, certificate: tuple[Path, Path]) -> None:
    """Console, OTLP/HTTP and gRPC use the certificate, and plain text gets no answer."""
    cert, key = certificate
    running = serving(TOKENS, tls_cert=cert, tls_key=key)
    trusting = ssl.create_default_context(cafile=str(cert))
    with httpx.Client(verify=trusting, trust_env=False) as client:
        console = running.url
        assert console.startswith("https://127.0.0.1:")
        assert client.get(f"{console}/healthz").status_code == 200
        assert client.post(f"{running.addresses.otlp_http}/v1/traces").status_code == 401
        signed = client.post(
            f"{console}/login",
            data={"token": TOKENS.viewer_token or ""},
            headers={"Origin": console},
        )
        assert "Secure" in signed.headers["set-cookie"]
    credentials = grpc.ssl_channel_credentials(cert.read_bytes())
    address = running.addresses.otlp_grpc.removeprefix("https://")
    bearer = (("authorization", f"Bearer {TOKENS.ingest_token}"),)
    with grpc.secure_channel(address, credentials) as channel:
        TraceServiceStub(channel).Export(trace_request("sent"), timeout=20, metadata=bearer)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{port(running.url)}/healthz", trust_env=False)


def test_certificates_are_checked_at_once(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    """Half of a pair, a missing file and a key of another certificate are one sentence each."""
    cert, key = certificate
    for given in (
        {"tls_cert": cert},
        {"tls_key": key},
        {"tls_cert": tmp_path / "none.pem", "tls_key": key},
        {"tls_cert": cert, "tls_key": cert},
    ):
        with pytest.raises(SettingsError, match="--tls-cert"):
            Server(options(tmp_path, **given), OPEN, None)


def test_a_server_that_stopped_can_be_followed_by_another(serving: Serving) -> None:
    """Its ports are free at once, and its store holds what it held."""
    running = serving(full=True)
    before = listed(running)
    ports = {
        "port": port(running.url),
        "otlp_http_port": port(running.addresses.otlp_http),
        "otlp_grpc_port": port(running.addresses.otlp_grpc),
    }
    url = running.store.url
    running.server.stop()
    again = serving(store=url, **ports)

    assert again.addresses == running.addresses
    assert listed(again) == before


def listed(running: Running) -> list[dict[str, Any]]:
    """Return the runs, without how long the one that goes on has taken until now."""
    items: list[dict[str, Any]] = running.client.get("/api/runs").json()["data"]["items"]
    return [one | {"duration_seconds": None} for one in items]


def test_stopping_answers_what_is_under_way(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that has begun is answered, though the server is told to stop meanwhile."""
    running = serving(full=True)
    begun, go_on = threading.Event(), threading.Event()
    real: Callable[..., object] = running.store.runs

    def slow(**given: object) -> object:
        begun.set()
        go_on.wait(90)
        return real(**given)

    monkeypatch.setattr(running.store, "runs", slow)
    found: list[int] = []
    asking = threading.Thread(
        target=lambda: found.append(running.client.get("/api/runs").status_code)
    )
    asking.start()
    assert begun.wait(90)
    stopping = threading.Thread(target=running.server.stop)
    stopping.start()
    server = running.server._listeners[-1]._server
    wait_until(lambda: not any(one.is_serving() for one in server.servers))
    go_on.set()
    asking.join(90)
    stopping.join(90)

    assert found == [200]


def test_stopping_twice_is_stopping(tmp_path: Path) -> None:
    """A server may be stopped before it started, and again."""
    server = Server(options(tmp_path), OPEN, None)
    server.stop()
    server.start()
    server.stop()
    server.stop()


PROGRAM: Final = """
import sys
from otel_agents.server.serve import Options, run
from otel_agents.settings import Settings
options = Options(port=0, otlp_http_port=0, otlp_grpc_port=0, store=sys.argv[1])
run(options, Settings(), None, lambda addresses: print(addresses.console, flush=True))
print("ended", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    """`run` announces the real address, serves, and returns on a signal."""
    command = [sys.executable, "-c", PROGRAM, f"sqlite:///{tmp_path}/x.db"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
        process.send_signal(number)
        assert process.stdout.read() == "ended\n"

    assert process.returncode == 0


def test_the_store_is_tidied_as_the_settings_say(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keeper deletes what is older than is to be kept."""
    from otel_agents.server import serve

    monkeypatch.setattr(serve, "_FIRST_MAINTAIN_SECONDS", 0.05)
    monkeypatch.setattr(serve, "_MAINTAIN_SECONDS", 0.05)
    kept = serving(Settings(retention={"retain_days": 0.002}))  # 173 s
    fill(kept.store)
    wait_until(lambda: ids(kept) == {"run-2", "run-3"})


def ids(running: Running) -> set[str]:
    return {run["run_id"] for run in running.client.get("/api/runs").json()["data"]["items"]}


def test_the_console_answers_while_telemetry_is_decoded(serving: Serving) -> None:
    """Console and receiver have loops of their own: one that is busy does not stop the other."""
    running = serving(full=True)
    otlp = running.server._listeners[0]._server
    free = threading.Event()

    async def busy() -> None:
        free.wait(90)  # holds the receiver's loop

    loop = otlp.servers[0].get_loop()
    held = asyncio.run_coroutine_threadsafe(busy(), loop)
    try:
        assert running.client.get("/api/runs").status_code == 200
        assert not held.done()
    finally:
        free.set()
    held.result(90)
