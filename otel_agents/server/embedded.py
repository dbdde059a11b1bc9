"""The server inside a program: what `get_emitter().start()` runs.

It is the server of `otel-agents serve` on the program's own store, with OTLP on a free port, and
the program's signals go straight into the store. Where another otel-agents server has the port,
the program's signals are sent to that one instead.
"""

from __future__ import annotations

import shutil
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from otel_agents.errors import OtelAgentsError, UnavailableError
from otel_agents.server.serve import Options, Server
from otel_agents.sinks.otlp import OtlpSink
from otel_agents.sinks.sqlite import StoreSink
from otel_agents.store import store_url
from otel_agents.workspace import Workspace

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import LoggerProvider

    from otel_agents.pipeline import Pipeline, Sink
    from otel_agents.settings import Settings

# A page that follows asks for the KPIs a second after an event; the last ones are what people keep.
_LAST_LOOK_SECONDS: Final = 1.3
_ASK_SECONDS: Final = 2.0
_SEND_SECONDS: Final = 2.0
_SEND_EVERY_MS: Final = 5
_MOST_ANSWER: Final = 64 << 10


class Embedded:
    """The stream of a program: its own server, or the way to the one that has the port.

    Args:
        settings: Those of the program.
        home: The program's workspace; without one the store is a temporary file.
        pipeline: Where the program's signals come from.
        host: The address to listen on.
        port: The port of console, live feed and API.

    """

    def __init__(
        self, settings: Settings, home: Workspace | None, pipeline: Pipeline, host: str, port: int
    ) -> None:
        self._settings = settings
        self._home = home
        self._pipeline = pipeline
        self._host = host
        self._port = port
        self._server: Server | None = None
        self._sink: Sink | None = None
        self._aside: list[StoreSink] = []
        self._temporary: str | None = None

    def start(self) -> str:
        """Serve, or find who does; return the console's address.

        Raises:
            OtelAgentsError: Something else has the port, or the store cannot be opened.

        """
        options = Options(self._host, self._port, 0, None)
        if self._settings.store is None and (self._home is None or not self._home.path.is_dir()):
            self._temporary = tempfile.mkdtemp(prefix="otel-agents-")
            self._home = Workspace(Path(self._temporary))
        server = Server(options, self._settings, self._home)
        try:
            addresses = server.start()
        except UnavailableError as error:
            self._clean()
            address = f"http://{self._host}:{self._port}"
            taken = _otlp_of(address)
            if taken is None:
                raise
            self._sink = _forwarder(taken, self._settings, error)
            self._pipeline.add(self._sink)
            return address
        except OtelAgentsError:
            self._clean()
            raise
        self._server = server
        url = store_url(self._settings.store, self._home)
        # One writer is enough: a sink of the same store steps aside while the server runs.
        self._aside = [
            sink
            for sink in self._pipeline.sinks
            if isinstance(sink, StoreSink) and store_url(sink.url, self._home) == url
        ]
        self._sink = StoreSink(url, server.store)
        self._pipeline.add(self._sink)
        for sink in self._aside:
            self._pipeline.remove(sink)
        return addresses.console

    def stop(self) -> None:
        """Write what waits, and end the server."""
        for sink in self._aside:
            self._pipeline.add(StoreSink(sink.url))
        self._aside = []
        if self._sink is not None:
            self._pipeline.remove(self._sink)
            self._sink = None
        if self._server is not None:
            if self._server.listeners:
                time.sleep(_LAST_LOOK_SECONDS)
            self._server.stop()
            self._server = None
        self._clean()

    def _clean(self) -> None:
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None


def _otlp_of(address: str) -> str | None:
    """Return where the otel-agents server at an address takes telemetry, or None if it is none."""
    try:
        with urllib.request.urlopen(f"{address}/healthz", timeout=_ASK_SECONDS) as answer:  # noqa: S310 - http, to this machine
            said: Any = msgspec.json.decode(answer.read(_MOST_ANSWER))
        found = said["data"]
        if found["service"] != "otel-agents":
            return None
        otlp = found["otlp_http"]
    except (OSError, ValueError, msgspec.MsgspecError, KeyError, TypeError):
        return None
    return otlp if isinstance(otlp, str) and otlp.startswith(("http://", "https://")) else None


class _Forwarder(OtlpSink):
    """Sends signals to another server of ours, by an exporter of its own."""

    name = "server"
    linger = 0.0

    def __init__(self, provider: LoggerProvider) -> None:
        super().__init__(provider)
        self._own = provider

    def close(self) -> None:
        """Send what waits."""
        self._own.shutdown()


def _forwarder(otlp: str, settings: Settings, cause: Exception) -> Sink:
    try:
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    except ImportError:
        raise cause from None
    token = settings.ingest_token or settings.token
    headers = {"authorization": f"Bearer {token}"} if token else {}
    provider = LoggerProvider(shutdown_on_exit=False)
    exporter = OTLPLogExporter(f"{otlp}/v1/logs", headers=headers, timeout=_SEND_SECONDS)
    provider.add_log_record_processor(
        BatchLogRecordProcessor(exporter, schedule_delay_millis=_SEND_EVERY_MS)
    )
    return _Forwarder(provider)
