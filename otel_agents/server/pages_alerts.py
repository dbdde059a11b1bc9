"""The page `/alerts`, and what other pages say of alerts: the count, and a line on the worst."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otel_agents.errors import UnavailableError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from otel_agents.server.pages_render import Renderer
    from otel_agents.server.runbooks import Runbooks
    from otel_agents.store import Store

POLL_SECONDS: Final = 12
_FIRING: Final = 200
_PAGE: Final = 50
_NAMED: Final = 3  # of the alerts that fire, on other pages
# The most urgent first; words of others' own come after.
_URGENCY: Final = {"critical": 0, "warning": 1, "info": 2}
# Shown apart from the other labels and annotations.
_OWN_LABELS: Final = frozenset({"alertname", "severity", "workflow"})


class AlertsPage:
    """Shows alerts: those that fire, those that nobody confirms any more, those resolved lately."""

    def __init__(self, store: Store, renderer: Renderer, runbooks: Runbooks) -> None:
        self._store = store
        self._render = renderer
        self._runbooks = runbooks

    def show(self, request: Request) -> Response:
        """Show the alerts."""
        cursor = request.query_params.get("cursor", "").strip() or None
        resolved = self._store.alerts(status="resolved", cursor=cursor, limit=_PAGE)
        firing, stale = (
            self._store.alerts(status=status, limit=_FIRING)["items"]
            for status in ("firing", "stale")
        )
        context = {
            "nav": "alerts",
            "poll": POLL_SECONDS,
            "firing": [self._shown(one) for one in sorted(firing, key=_urgency)],
            "stale": [self._shown(one) for one in sorted(stale, key=_urgency)],
            "resolved": {**resolved, "items": [self._shown(one) for one in resolved["items"]]},
            "webhook": f"{str(request.base_url).rstrip('/')}/api/alerts",
        }
        return self._render.page(request, "alerts", context)

    def _shown(self, alert: dict[str, Any]) -> dict[str, Any]:
        """Return an alert as the page shows it; which addresses are links, the template decides."""
        said, labels = alert["annotations"], alert["labels"]
        name = alert["name"] or ""
        # Our own page of it, by whichever name this server is reached.
        own = f"/runbooks/{name}" if self._runbooks.has(name) else None
        return {
            **alert,
            "summary": said.get("summary"),
            "description": said.get("description"),
            "runbook": own,
            "runbook_url": said.get("runbook_url"),
            "dashboard_url": said.get("dashboard_url"),
            "workflow": labels.get("workflow"),
            "chips": sorted((key, text) for key, text in labels.items() if key not in _OWN_LABELS),
        }


def _urgency(alert: dict[str, Any]) -> tuple[int, str]:
    return _URGENCY.get(alert["severity"], len(_URGENCY)), alert["name"] or ""


def count(store: Store) -> int | None:
    """Return how many alerts fire; None where the store does not answer."""
    try:
        return sum(store.firing().values())
    except UnavailableError:
        return None


def line(store: Store) -> dict[str, Any]:
    """Return what an overview says of alerts: how many fire, and the most urgent of them."""
    found = sorted(store.alerts(status="firing", limit=_FIRING)["items"], key=_urgency)
    return {"count": sum(store.firing().values()), "worst": found[:_NAMED]}
