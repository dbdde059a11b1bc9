"""The page `/admin/runtime`: health, queue, events and tasks of everything that runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otel_agents.server.pages_alerts import line
from otel_agents.server.pages_text import moment
from otel_agents.vocabulary import LAYERS, TASK_STATES

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from otel_agents.server.pages_render import Renderer
    from otel_agents.store import Store

POLL_SECONDS: Final = 12
_EVENTS: Final = 50
_TASKS: Final = 30
# Names in the address (those of the admin API) and what the store calls them.
_EVENT_FILTERS: Final = {
    "layer": "layer", "reasonCode": "reason_code", "entityId": "entity_id", "taskId": "task_id",
    "from": "since", "to": "until", "cursor": "cursor",
}  # fmt: skip


class RuntimePage:
    """Shows the runtime; filters stand in the address."""

    def __init__(self, store: Store, renderer: Renderer) -> None:
        self._store = store
        self._render = renderer

    def show(self, request: Request) -> Response:
        """Show health, queue, events and tasks."""
        query = request.query_params
        events = {
            name: query[key].strip() for key, name in _EVENT_FILTERS.items() if query.get(key)
        }
        for name in ("since", "until"):
            if name in events:
                events[name] = _utc(events[name])
        tasks: dict[str, Any] = {}
        if query.get("status"):
            tasks["status"] = query["status"]
        if query.get("stuck"):
            tasks["stuck"] = True
        status = self._store.runtime_status()
        context = {
            "nav": "runtime",
            "alerts": line(self._store),
            "status": status,
            "events": self._store.runtime_events(limit=_EVENTS, **events),
            "tasks": self._store.tasks(limit=_TASKS, **tasks),
            "layers": LAYERS,
            "states": TASK_STATES,
            "poll": POLL_SECONDS,
            "filters": {key: query.get(key, "") for key in _EVENT_FILTERS},
            "filtered": bool(events.keys() - {"cursor"}),
            "tasks_filtered": bool(tasks),
            "quiet": _quiet(status),
        }
        return self._render.page(request, "runtime", context)


def _quiet(status: dict[str, Any]) -> bool:
    """Say whether nothing has ever been heard of a runtime."""
    return (
        not status["workers"]
        and not status["breakers"]
        and not any(status["queue"].values())
        and status["last_event"] is None
    )


def _utc(text: str) -> str:
    """Return a time of the page's own fields, which tell no zone, as one in UTC."""
    when = moment(text)
    return f"{text}Z" if when is not None and when.tzinfo is None else text
