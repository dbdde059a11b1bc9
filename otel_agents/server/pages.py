"""The console's pages: what each asks of the store, and the template that shows it."""

from __future__ import annotations

import functools
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from otel_agents.errors import InvalidInputError, NotFoundError, UnavailableError
from otel_agents.event_types import ALL_TYPES
from otel_agents.server.pages_alerts import AlertsPage, count, line
from otel_agents.server.pages_hitl import HitlPages, waiting
from otel_agents.server.pages_render import STATIC, Renderer, asked_part
from otel_agents.server.pages_run import RunPage, spans_of
from otel_agents.server.pages_runtime import RuntimePage
from otel_agents.server.pages_totals import Totals
from otel_agents.server.pages_waterfall import chart, span_item
from otel_agents.server.runbooks import RunbookPages, Runbooks
from otel_agents.vocabulary import AGENT_RUN_ID

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from otel_agents.server.hitl import Pace
    from otel_agents.store import Store

    Handler = Callable[[Request], Response]

log = logging.getLogger("otel_agents.server")

FEED_MODULE: Final = "/static/feed.js"
"""Where other people's pages find the feed's module, in each version of this server."""
RUN_STATES: Final = ("running", "waiting", "succeeded", "failed", "canceled", "lost")
AGENT_STATES: Final = ("starting", "running", "completed", "failed", "cancelled", "lost")
KINDS: Final = (
    "run", "iteration", "phase", "agent", "task", "gate", "validation", "delivery", "human",
    "worker", "breaker", "runtime",
)  # fmt: skip
# In the order of the vocabulary; each with what it is called here, and its icon.
KPI_TILES: Final = (
    ("agent_utilization", "Agent utilization", "k-agent"),
    ("cost_per_feature", "Cost per feature", "k-budget"),
    ("average_retry_count", "Retries", "refresh"),
    ("critic_rejection_rate", "Critic rejections", "k-critic"),
    ("validation_pass_rate", "Validations passed", "k-validation"),
    ("time_to_completion", "Time to completion", "k-clock"),
)
_PAGE: Final = 50  # rows of a list
_RECENT: Final = 100  # events the live page starts with
_SPANS: Final = 300  # rows of a waterfall at first
_ALL: Final = 20_000  # and after "show all"
_TITLES: Final = {
    400: ("That cannot be shown", "Something in the address of this page is not right."),
    401: ("Please sign in", "This page needs a token."),
    403: ("Not allowed", "Your token does not open this page."),
    404: ("Nothing here", "There is no such page, run, agent or trace. It may have been deleted."),
    409: ("Too late", "This was decided already."),
    413: ("Too long", "The form is longer than any answer."),
    429: ("Too many", "Too many answers came from this address; try again later."),
    503: ("Not available", "The store cannot be read right now."),
}
_FAILED: Final = ("Something broke", "The server could not make this page. Its log says why.")


def routes(
    store: Store, guard: object, pace: Pace, *, jaeger_url: str | None = None
) -> list[BaseRoute]:
    """Return the routes of the pages and of their static files.

    Args:
        store: Where everything shown is read.
        guard: Protects the routes as a middleware and puts the visitor's role in
            `request.state.role`; nothing is asked of it here.
        pace: Slows down who answers waits too often.
        jaeger_url: Where traces can be looked at too, as `http://localhost:16686`.

    """
    del guard
    return Pages(store, pace, jaeger_url=jaeger_url).routes()


def error_page(request: Request, status: int, detail: str = "") -> Response:
    """Return the page for an error that is met outside of the pages themselves.

    Args:
        request: The request that failed.
        status: The HTTP status.
        detail: A sentence that says what is wrong; a general one without it.

    """
    return _error(_renderer(), request, status, detail)


def login_page(request: Request, *, problem: str = "", status: int = 200) -> Response:
    """Return the form that takes a token; it is sent to `POST /login` as `token` and `next`."""
    asked = request.query_params.get("next", "")
    # Another host must not be reached from here: a path, and not one that names a host.
    path = asked if asked.startswith("/") and asked[1:2] not in {"/", "\\"} else "/runs"
    context = {"nav": "", "problem": problem, "next": path}
    return _renderer().page(request, "login", context, status=status)


def feed_module(request: Request) -> Response:
    """Return the module of the live feed, to pages opened from disk too.

    Nothing else here is shared with another origin. This is a file that everybody has, and a page
    from disk, whose Origin is `null`, may listen if it has a token.
    """
    headers = {"cache-control": "no-cache", "vary": "Origin"}
    if request.headers.get("origin") == "null":
        headers["access-control-allow-origin"] = "null"
    return Response(_module(), media_type="text/javascript", headers=headers)


@functools.cache
def _module() -> bytes:
    return (STATIC / "feed.js").read_bytes()


@functools.cache
def _renderer() -> Renderer:
    return Renderer()


def _error(renderer: Renderer, request: Request, status: int, detail: str) -> Response:
    title, general = _TITLES.get(status, _FAILED)
    context = {"nav": "", "status": status, "title": title, "detail": detail or general}
    return renderer.page(request, "error", context, status=status)


class Pages:
    """The pages of one store."""

    def __init__(self, store: Store, pace: Pace, *, jaeger_url: str | None = None) -> None:
        self._store = store
        self._render = _renderer()
        self._totals = Totals(store)
        self._run = RunPage(store, self._render, jaeger_url)
        self._runtime = RuntimePage(store, self._render)
        runbooks = Runbooks()
        self._alerts = AlertsPage(store, self._render, runbooks)
        self._runbooks = RunbookPages(runbooks, self._render)
        self._hitl = HitlPages(store, self._render, pace, error_page)
        self._jaeger = jaeger_url

    def routes(self) -> list[BaseRoute]:
        """Return the routes, with the errors of the store turned into pages."""
        pages: dict[str, Handler] = {
            "/": self.home,
            "/runs": self.runs,
            "/runs/{run_id:path}": self._run.show,
            "/agents": self.agents,
            "/agents/{agent_id:path}": self.agent,
            "/traces": self.traces,
            "/traces/{trace_id:path}": self.trace,
            "/live": self.live,
            "/alerts": self._alerts.show,
            "/hitl": self._hitl.show,
            "/runbooks": self._runbooks.index,
            "/runbooks/{name}": self._runbooks.show,
            "/admin/runtime": self._runtime.show,
            "/admin/ai/runtime": self._runtime.show,
            "/login": login_page,
        }
        # Ids are of any text, slashes too: hence the rest of the path is taken as one.
        made: list[BaseRoute] = [
            Route(path, self._caught(page), methods=["GET"]) for path, page in pages.items()
        ]
        made.append(Route("/hitl/{wait_id:path}", self._hitl.answer, methods=["POST"]))
        return [*made, Route(FEED_MODULE, feed_module), self._render.files()]

    def _caught(self, page: Handler) -> Handler:
        @functools.wraps(page)
        def respond(request: Request) -> Response:
            try:
                if page is not login_page and not asked_part(request):
                    request.state.firing = count(self._store)
                    request.state.waiting = waiting(self._store)
                return page(request)
            except NotFoundError as problem:
                return _error(self._render, request, 404, str(problem))
            except InvalidInputError as problem:
                return _error(self._render, request, 400, str(problem))
            except UnavailableError as problem:
                return _error(self._render, request, 503, str(problem))
            except Exception:
                log.exception("the page %s could not be made", request.url.path)
                return _error(self._render, request, 500, "")

        return respond

    def _last_seq(self) -> int:
        """Return where the feed is; asked before a page is read, so that it misses nothing."""
        return int(self._store.feed_bounds()[1])

    def home(self, request: Request) -> Response:
        """Go to the runs."""
        del request
        return RedirectResponse("/runs")

    def runs(self, request: Request) -> Response:
        """List the runs, the newest first, with what the last day came to."""
        wanted = given(request, "status", "workflow", "q", "cursor")
        context = {
            "nav": "runs",
            "since": self._last_seq(),
            "alerts": line(self._store),
            "page": self._store.runs(limit=_PAGE, **wanted),
            "totals": self._totals.day(),
            "days": self._totals.days(),
            "workflows": self._totals.workflows(),
            "states": RUN_STATES,
            "filtered": bool(wanted.keys() - {"cursor"}),
        }
        return self._render.page(request, "runs", context)

    def agents(self, request: Request) -> Response:
        """List the attempts of agents, the newest first."""
        wanted = given(request, "status", "name", "run_id", "q", "cursor")
        context = {
            "nav": "agents",
            "since": self._last_seq(),
            "page": self._store.agents(limit=_PAGE, **wanted),
            "states": AGENT_STATES,
            "filtered": bool(wanted.keys() - {"cursor"}),
        }
        return self._render.page(request, "agents", context)

    def agent(self, request: Request) -> Response:
        """Show one attempt of an agent."""
        agent_id = request.path_params["agent_id"]
        since = self._last_seq()
        agent = self._store.agent(agent_id)
        telemetry = self._store.telemetry(agent_id)
        context = {
            "nav": "agents",
            "since": since,
            "agent": agent,
            "telemetry": telemetry,
            "models": [{**row, "key": row["model"]} for row in telemetry["by_model"]],
            "logs": self._store.logs(
                agent_id=agent_id, cursor=given(request, "cursor").get("cursor"), limit=_PAGE
            ),
            "attempts": self._attempts(agent),
            **self._calls(agent),
        }
        return self._render.page(request, "agent", context)

    def _attempts(self, agent: dict[str, Any]) -> list[dict[str, Any]]:
        """Return all tries of the agent at what this one tried."""
        if not agent["run_id"]:
            return [agent]
        found = self._store.agents(name=agent["name"], run_id=agent["run_id"], limit=200)["items"]
        # Tries of one task are counted over iterations; without a task, within the iteration.
        place = ("task_id",) if agent["task_id"] else ("phase", "iteration")
        same = [each for each in found if all(each[key] == agent[key] for key in place)]
        return sorted(same, key=lambda each: (each["attempt"] or 0, each["started_at"] or ""))

    def _calls(self, agent: dict[str, Any]) -> dict[str, Any]:
        """Return what an agent did by its spans, and the trace they are in."""
        spans = []
        if agent["run_id"]:
            with suppress(NotFoundError):  # a run can be deleted while its agent is looked at
                spans = [
                    span
                    for span in spans_of(self._store, agent["run_id"])
                    if span["attributes"].get(AGENT_RUN_ID.key) == agent["id"]
                ]
        first = min((float(span["start_ms"]) for span in spans), default=0.0)
        items = [span_item(span) for span in spans]
        for item in items:
            item["start_ms"] = float(item["start_ms"]) - first
        return {
            "chart": chart(items, 0, _SPANS),
            "trace_id": spans[0]["trace_id"] if spans else "",
        }

    def traces(self, request: Request) -> Response:
        """List the traces, the newest first."""
        wanted = given(request, "q", "service", "status", "cursor")
        context = {
            "nav": "traces",
            "page": self._store.traces(limit=_PAGE, **wanted),
            "filtered": bool(wanted.keys() - {"cursor"}),
        }
        return self._render.page(request, "traces", context)

    def trace(self, request: Request) -> Response:
        """Show a trace as a waterfall of its spans; `span` opens one of them."""
        trace = self._store.trace(request.path_params["trace_id"])
        chosen = request.query_params.get("span", "")
        span = next((each for each in trace["spans"] if each["span_id"] == chosen), None)
        if chosen and span is None and asked_part(request) == "drawer":
            message = f"no span {chosen!r} in this trace"
            raise NotFoundError(message)
        items = [span_item(each) for each in trace["spans"]]
        most = _ALL if "all" in request.query_params else _SPANS
        context = {
            "nav": "traces",
            "trace": trace,
            "chart": chart(items, float(trace["duration_ms"] or 0), most),
            "errors": sum(each["status"] == "error" for each in trace["spans"]),
            "span": span,
            "scope": None,
            "run": None,
            "jaeger": self._jaeger and f"{self._jaeger.rstrip('/')}/trace/{trace['trace_id']}",
        }
        return self._render.page(request, "trace", context)

    def live(self, request: Request) -> Response:
        """Show the feed; the page itself asks for its latest events over the WebSocket."""
        first, last = self._store.feed_bounds()
        context = {
            "nav": "live",
            "since": max(first - 1, last - _RECENT, 0),
            "kpis": KPI_TILES,
            "event_types": ALL_TYPES,
            "kinds": KINDS,
        }
        return self._render.page(request, "live", context)


def given(request: Request, *names: str) -> dict[str, str]:
    """Return those of the named query parameters that say something."""
    found = {name: request.query_params.get(name, "").strip() for name in names}
    return {name: value for name, value in found.items() if value}
