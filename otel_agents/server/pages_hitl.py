"""The page `/hitl`, its form, and what other pages say of waits for humans."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, quote

from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse

from otel_agents.errors import (
    AlreadyAnsweredError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)
from otel_agents.server.answers import body_of, retry_after
from otel_agents.server.gate import client_of
from otel_agents.server.guard import RefusedError
from otel_agents.server.hitl import MOST_BYTES
from otel_agents.store.waits import MOST_TEXT

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from otel_agents.server.hitl import Pace
    from otel_agents.server.pages_render import Renderer
    from otel_agents.store import Store

_OPEN: Final = 200
_PAGE: Final = 50
_OF_A_RUN: Final = 20
# Ids that a shell and our own options take as they are.
_PLAIN: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/@-]*")
_FIELDS: Final = 10


class HitlPages:
    """Shows who waits for a human, and takes what an admin says on the page."""

    def __init__(
        self,
        store: Store,
        renderer: Renderer,
        pace: Pace,
        error: Callable[[Request, int, str], Response],
    ) -> None:
        self._store = store
        self._render = renderer
        self._pace = pace
        self._error = error

    def show(self, request: Request) -> Response:
        """Show the waits: the open ones, the one that waits longest first, then the others."""
        since = int(self._store.feed_bounds()[1])
        cursor = request.query_params.get("cursor", "").strip() or None
        past = self._store.hitl.list(status="all", cursor=cursor, limit=_PAGE)
        waits = self._store.hitl
        opened, lost = (
            waits.list(status=status, limit=_OPEN)["items"] for status in ("open", "lost")
        )
        context = {
            "nav": "hitl",
            "since": since,
            "waits": [shown(request, one) for one in reversed(opened)],
            "lost": [shown(request, one) for one in lost],
            "past": {
                **past,
                "items": [one for one in past["items"] if one["status"] not in {"open", "lost"}],
            },
            "longest": MOST_TEXT,
        }
        return self._render.page(request, "hitl", context)

    async def answer(self, request: Request) -> Response:
        """Take the form of a wait, and lead back to the page it was on."""
        try:
            self._pace.check(client_of(request.scope))
        except RefusedError as refused:
            page = self._error(request, refused.status, str(refused))
            page.headers.update(retry_after(refused.retry_after or 1.0))
            return page
        body = await body_of(request, MOST_BYTES)
        if body is None:
            return self._error(request, 413, f"The form is longer than {MOST_BYTES} bytes.")
        try:
            fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=_FIELDS)
        except ValueError:
            return self._error(request, 400, "The form has too many fields.")
        decision, text, back = (fields.get(name, [""])[0] for name in ("decision", "answer", "run"))
        try:
            await run_in_threadpool(
                self._store.hitl.answer,
                request.path_params["wait_id"],
                decision,
                # A browser ends the lines of a form as HTTP does.
                text.replace("\r\n", "\n"),
                "console",
            )
        except AlreadyAnsweredError as error:
            return self._error(request, 409, str(error))
        except NotFoundError as error:
            return self._error(request, 404, str(error))
        except InvalidInputError as error:
            return self._error(request, 400, str(error))
        except UnavailableError as error:
            return self._error(request, 503, str(error))
        return RedirectResponse(f"/runs/{quote(back, safe='')}" if back else "/hitl", 303)


def of_run(store: Store, request: Request, run_id: str) -> list[dict[str, Any]]:
    """Return the open waits of a run, the one that waits longest first."""
    found = store.hitl.list(status="open", run_id=run_id, limit=_OF_A_RUN)["items"]
    return [shown(request, one) for one in reversed(found)]


def waiting(store: Store) -> int | None:
    """Return how many wait for a human; None where the store does not answer."""
    try:
        return store.hitl.waiting()
    except UnavailableError:
        return None


def shown(request: Request, wait: dict[str, Any]) -> dict[str, Any]:
    """Return a wait as the pages show it, with the command that answers it in a terminal."""
    plain = _PLAIN.fullmatch(wait["id"]) is not None
    name = wait["id"] if plain else shlex.quote(wait["scope_id"])
    server = ""
    if getattr(request.state, "role", None) != "anyone":
        server = f" --server {str(request.base_url).rstrip('/')}"
    return {**wait, "command": f"otel-agents hitl resolve {name} --approve{server}"}
