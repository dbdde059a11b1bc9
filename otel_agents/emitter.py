"""The emitter of a process: events and their KPIs, and the server that streams them.

emitter = get_emitter()
await emitter.start()                 # console, live feed and API on http://127.0.0.1:3010
emitter.emit("agent_started", {"agent": "coder", "task_id": "t-1"})
emitter.get_metrics()["agent_utilization"]
await emitter.stop()
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from typing import TYPE_CHECKING, Any, Final

from otel_agents import configure, events, runtime
from otel_agents.boundary import boundary, caught
from otel_agents.errors import OtelAgentsError
from otel_agents.settings import workspace_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_agents.server.embedded import Embedded

HOST: Final = "127.0.0.1"
PORT: Final = 3010
_STOP_SECONDS: Final = 2.0  # for what was told to reach every sink
# What `pip install otel-agents` leaves away, and the server needs.
_EXTRA: Final = frozenset({"fastapi", "starlette", "uvicorn", "httptools", "websockets", "jinja2"})


class Emitter:
    """What `get_emitter` returns: one a process. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._embedded: Embedded | None = None
        self._pid = 0
        self._address: str | None = None

    def emit(self, type: str, payload: Mapping[str, Any], *, strict: bool = True) -> None:  # noqa: A002
        """Tell of an event; the same as `emit_event`."""
        events.emit_event(type, payload, strict=strict)

    def record_critic_decision(
        self,
        rejected: bool,
        *,
        task_id: str | None = None,
        agent: str | None = None,
        name: str | None = None,
    ) -> None:
        """Tell of a critic's decision; the same as the function of this name."""
        events.record_critic_decision(rejected, task_id=task_id, agent=agent, name=name)

    def get_metrics(self) -> dict[str, Any]:
        """Return the six KPIs of this process so far, and `counts`, what they are made from.

        Fractions are 0 to 1, money is USD and times are seconds; None where there is nothing to
        count. The definitions stand in `state.kpis`.
        """
        try:
            return events.get_metrics(runtime.get())
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("get_metrics", error)
            from otel_agents.state.kpis import Kpis

            return Kpis().reading()

    def flush(self, seconds: float = 5.0) -> bool:
        """Wait until all that was told is with every sink; False if that took too long."""
        return runtime.get().require_pipeline().flush(seconds)

    # ------------------------------------------------------------------ the server

    @property
    def address(self) -> str | None:
        """Where the console, the API and the live feed are, while the server runs."""
        return self._address if self._pid == os.getpid() else None

    def start_in_thread(self, host: str = HOST, port: int = PORT) -> str | None:
        """Run the stream server in threads of its own; return the console's address.

        Where another otel-agents server has the port, events are sent to that one. If there can be
        no server, the reason is logged and the answer is None: the program goes on.

        Args:
            host: The address to listen on; any but this machine's own needs OTEL_AGENTS_TOKEN.
            port: The port; 0 takes a free one.

        """
        with self._lock:
            if self.address is not None:
                return self._address
            try:
                self._address = self._start(host, port)
            except (OtelAgentsError, OSError) as error:
                boundary.warn("otel-agents: the event stream is not served: %s", error)
                return None
            except ModuleNotFoundError as error:
                if (error.name or "").partition(".")[0] not in _EXTRA:
                    caught("event stream", error)
                    return None
                boundary.warn(
                    "otel-agents: the event stream is not served: it needs more packages; "
                    "pip install 'otel-agents[server]'"
                )
                return None
            self._pid = os.getpid()
            return self._address

    def stop_in_thread(self) -> None:
        """End the server of `start_in_thread` or `start`; events told so far are delivered."""
        with self._lock:
            embedded, self._embedded, self._address = self._embedded, None, None
            if embedded is None or self._pid != os.getpid():
                return
            atexit.unregister(self.stop_in_thread)
            try:
                self.flush(_STOP_SECONDS)
                embedded.stop()
            except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
                caught("event stream", error)

    async def start(self, host: str = HOST, port: int = PORT) -> str | None:
        """Run the stream server without blocking the loop; see `start_in_thread`."""
        return await asyncio.to_thread(self.start_in_thread, host, port)

    async def stop(self) -> None:
        """End the server without blocking the loop."""
        await asyncio.to_thread(self.stop_in_thread)

    def _start(self, host: str, port: int) -> str | None:
        rt = runtime.get()
        if rt.disabled:
            return None
        from otel_agents.server.embedded import Embedded

        settings = configure.settings_now()
        embedded = Embedded(settings, workspace_of(settings), rt.open_events(), host, port)
        address = embedded.start()
        self._embedded = embedded
        atexit.register(self.stop_in_thread)
        return address


_emitter: Final = Emitter()


def get_emitter() -> Emitter:
    """Return the emitter of this process."""
    return _emitter
