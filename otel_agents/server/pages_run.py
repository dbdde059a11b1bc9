"""The page of one run: its header and six views of it, one at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otel_agents.errors import InvalidInputError, NotFoundError
from otel_agents.server.kpis import Readings
from otel_agents.server.pages_hitl import of_run
from otel_agents.server.pages_render import asked_part
from otel_agents.server.pages_text import duration, moment, percent, usd
from otel_agents.server.pages_waterfall import SPAN, Chart, chart, placed, without_tellings
from otel_agents.store.waits import MOST_TEXT

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from otel_agents.server.pages_render import Renderer
    from otel_agents.store import Store

TABS: Final = {
    "timeline": "Timeline",
    "agents": "Agents",
    "cost": "Tokens & cost",
    "events": "Events",
    "logs": "Logs",
    "spans": "Spans",
}
_ROWS: Final = 300  # of a waterfall at first: what fits many screens, and is drawn at once
_ALL: Final = 20_000
_PAGE: Final = 100
_SPANS: Final = 500  # the store gives no more at once
_SPAN_PAGES: Final = 4


def kpi_words(read: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the KPIs that have something to count: a value, and what it is of."""
    kpis, counts = read["kpis"], read["counts"]
    said: dict[str, tuple[Callable[[Any], str], str]] = {
        "agent_utilization": (percent, "of the time an agent at work"),
        "cost_per_feature": (usd, f"a feature, of {counts['features_completed']}"),
        "average_retry_count": (lambda number: f"{number:.3g}", "retries a task"),
        "critic_rejection_rate": (percent, f"of {counts['critic_decisions']} decisions rejected"),
        "validation_pass_rate": (percent, f"of {counts['validations']} validations passed"),
        "time_to_completion": (duration, "from queue to success"),
    }
    return [
        (show(kpis[name]), what) for name, (show, what) in said.items() if kpis[name] is not None
    ]


class RunPage:
    """Shows one run; the view is in the address, so a link leads to what was seen."""

    def __init__(self, store: Store, renderer: Renderer, jaeger_url: str | None) -> None:
        self._store = store
        self._render = renderer
        self._jaeger = jaeger_url
        self._readings = Readings(store)

    def show(self, request: Request) -> Response:
        """Show a run; `tab` is the view, `scope` or `span` opens one row of the timeline."""
        query = request.query_params
        tab = query.get("tab", "timeline")
        if tab not in TABS:
            message = f"tab: {tab!r} is not one of {', '.join(TABS)}"
            raise InvalidInputError(message, parameter="tab")
        since = int(self._store.feed_bounds()[1])  # before the run is read: nothing is missed
        run = self._store.run(request.path_params["run_id"])
        context: dict[str, Any] = {
            "nav": "runs",
            "run": run,
            "tab": tab,
            "tabs": TABS,
            "jaeger": self._trace_link(run),
            "since": since,
            "scope": None,
            "span": None,
            "spans_shown": "spans" in query,
            "kpis": kpi_words(self._readings.run(run["run_id"])),
            "waits": of_run(self._store, request, run["run_id"]),
            "longest": MOST_TEXT,
        }
        if tab == "timeline":
            context["chart"] = self._chart(run, spans="spans" in query, whole="all" in query)
            context["growth"] = growth(run)
        if query.get("scope"):
            context |= self._chosen(request, run, query["scope"])
        context |= self._list(tab, run, query.get("cursor"))
        return self._render.page(request, "run", context)

    def _list(self, tab: str, run: dict[str, Any], cursor: str | None) -> dict[str, Any]:
        run_id = run["run_id"]
        if tab == "agents":
            return {"checkpoints": self._checkpoints(run_id)}
        if tab == "events":
            after = _number(cursor)
            return {"page": self._store.run_signals(run_id, after=after, limit=_PAGE)}
        if tab == "logs":
            return {"page": self._store.logs(run_id=run_id, cursor=cursor, limit=_PAGE)}
        if tab == "spans":
            return {"page": self._store.run_spans(run_id, cursor=cursor, limit=_PAGE)}
        return {}

    def _checkpoints(self, run_id: str) -> dict[str, str]:
        """Return the checkpoints before attempts of agents, by the attempts' ids."""
        found = self._store.agents(run_id=run_id, limit=_SPANS)["items"]
        return {one["id"]: one["checkpoint_id"] for one in found if one["checkpoint_id"]}

    def _trace_link(self, run: dict[str, Any]) -> str | None:
        if not self._jaeger or not run["trace_ids"]:
            return None
        return f"{self._jaeger.rstrip('/')}/trace/{run['trace_ids'][0]}"

    def _chart(self, run: dict[str, Any], *, spans: bool, whole: bool) -> Chart:
        found = spans_of(self._store, run["run_id"]) if spans else []
        # A scope and its span are one thing: only spans that are no scope's are added.
        scopes = {each["span_id"]: str(each["id"]) for each in run["scopes"] if each["span_id"]}
        begin = moment(run["started_at"])
        items = adopted(run, found)
        items += [placed(span, begin, scopes) for span in found if span["span_id"] not in scopes]
        length = (run["duration_seconds"] or 0) * 1000
        return chart(without_tellings(items), length, _ALL if whole else _ROWS)

    def _chosen(self, request: Request, run: dict[str, Any], key: str) -> dict[str, Any]:
        """Return the scope or span of a row, by the row's key."""
        if key.startswith(SPAN):
            wanted = key.removeprefix(SPAN)
            found = next(
                (s for s in spans_of(self._store, run["run_id"]) if s["span_id"] == wanted), None
            )
            name = "span"
        else:
            found = next((each for each in run["scopes"] if str(each["id"]) == key), None)
            name = "scope"
        if found is None and asked_part(request) == "drawer":
            message = f"no {name} {key!r} in this run"
            raise NotFoundError(message)
        return {name: found}


def adopted(run: dict[str, Any], spans: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a run's scopes, those whose parent sent no signals below the nearest that did.

    Tools and model calls are spans only. So an agent that a tool called stands below the tool's
    span where spans are shown, or else below the agent that called the tool.
    """
    scopes = run["scopes"]
    known = {each["id"] for each in scopes}
    own_spans = {each["span_id"] for each in scopes}
    root = next((each["id"] for each in scopes if each["kind"] == "run"), None)
    of_agent = {each["agent_id"]: each["id"] for each in scopes if each["kind"] == "agent"}
    callers = {each["id"]: each["parent_id"] for each in run["agents"]["items"]}
    above = {span["span_id"]: span["parent_id"] for span in spans}
    found = []
    for scope in scopes:
        parent = scope["parent_id"]
        if scope["id"] != root and parent not in known:
            span = above.get(scope["span_id"])
            parent = of_agent.get(callers.get(scope["agent_id"]), root)
            if span and span not in own_spans:
                parent = f"{SPAN}{span}"
        found.append({**scope, "parent_id": parent})
    return found


def spans_of(store: Store, run_id: str) -> list[dict[str, Any]]:
    """Return the spans of a run; of a very long one, those that fit a drawing."""
    found: list[dict[str, Any]] = []
    cursor = None
    for _ in range(_SPAN_PAGES):
        page = store.run_spans(run_id, cursor=cursor, limit=_SPANS)
        found += page["items"]
        cursor = page["next_cursor"]
        if not cursor:
            break
    return found


def growth(run: dict[str, Any]) -> list[list[float]]:
    """Return how a run's tokens and agents at work changed: rows of seconds, tokens, agents.

    Tokens are counted when the agent that spent them ended, since no sooner are they all known.
    """
    steps: list[tuple[float, int, int]] = []
    for scope in run["scopes"]:
        if scope["kind"] != "agent":
            continue
        begin = float(scope["start_ms"]) / 1000
        steps.append((begin, 0, 1))
        if scope["duration_ms"] is not None:
            spent = (scope["usage"] or {}).get("total_tokens", 0)
            steps.append((begin + float(scope["duration_ms"]) / 1000, spent, -1))
    rows, tokens, agents = [[0.0, 0.0, 0.0]], 0, 0
    for seconds, spent, more in sorted(steps):
        tokens, agents = tokens + spent, agents + more
        rows.append([round(seconds, 3), float(tokens), float(agents)])
    rows.append(
        [max(rows[-1][0], float(run["duration_seconds"] or 0)), float(tokens), float(agents)]
    )
    return rows


def _number(cursor: str | None) -> int:
    if not cursor:
        return 0
    if not cursor.isdecimal() or len(cursor) > 18:  # noqa: PLR2004 - more than a store counts to
        message = "cursor: it is not one that this server gave"
        raise InvalidInputError(message, parameter="cursor")
    return int(cursor)
