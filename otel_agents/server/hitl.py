"""Who waits for a human: the list, one wait, and the answer to it."""

# FastAPI reads the annotations when the routes are made.

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from otel_agents.errors import AlreadyAnsweredError, InvalidInputError
from otel_agents.server.answers import answer, body_of, problem, retry_after
from otel_agents.server.api import ONCE, NoQuery, asked
from otel_agents.server.filters import WaitsFilter
from otel_agents.server.gate import client_of
from otel_agents.server.guard import RefusedError
from otel_agents.server.schemas import Answered, Listed
from otel_agents.server.schemas_hitl import ANSWER, Wait

if TYPE_CHECKING:
    from otel_agents.store import Store

PATH: Final = "/api/hitl"
# An answer of the most characters, each written as an escape, and room to spare.
MOST_BYTES: Final = 128 * 1024
# Answers of one client in a minute: a person gives few, a program that goes wrong many.
ANSWERS: Final = 120
_SECONDS: Final = 60.0
_CLIENTS: Final = 1024
_PROGRAM: Final = "otel-agents/"

WaitId = Annotated[
    str,
    Path(title="Wait", description="The id of a wait, or of its scope.", pattern=r"^[^\x00]+$"),
]


class _Said(msgspec.Struct, forbid_unknown_fields=True):
    """What a human says."""

    decision: Literal["approved", "rejected", "answered"]
    answer: str | None = None


_decode: Final = msgspec.json.Decoder(_Said).decode


class Pace:
    """How many answers a client gave lately. Memory is bounded, whatever the clients."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._given: OrderedDict[str, deque[float]] = OrderedDict()

    def check(self, client: str) -> None:
        """Count an answer of a client; raises RefusedError, 429, where it gives too many."""
        times = self._given.setdefault(client, deque(maxlen=ANSWERS))
        now = self._clock()
        if len(times) == ANSWERS and (wait := times[0] + _SECONDS - now) > 0:
            message = "Too many answers came from this address; try again later."
            raise RefusedError(429, message, retry_after=wait)
        times.append(now)
        self._given.move_to_end(client)
        while len(self._given) > _CLIENTS:
            self._given.popitem(last=False)


def hitl(store: "Store", pace: Pace) -> APIRouter:
    """Return the endpoints of waits; `pace` is shared with the console's forms."""
    router = APIRouter(prefix=PATH, tags=["hitl"], dependencies=ONCE)

    @router.get("", response_model=Answered[Listed[Wait]])
    def list_waits(request: Request, chosen: Annotated[WaitsFilter, Query()]) -> Response:
        """List waits for humans, the last to be asked first; by default those that are open."""
        return answer(request.scope, store.hitl.list(**asked(chosen)))

    @router.get("/{wait_id:id}", response_model=Answered[Wait])
    def show_wait(request: Request, wait_id: WaitId, _: NoQuery) -> Response:
        """Return a wait. Of several with one id the open one is meant, or the last to be asked."""
        return answer(request.scope, store.hitl.get(wait_id))

    content = {"application/json": {"schema": ANSWER}}

    @router.post(
        "/{wait_id:id}",
        response_model=Answered[Wait],
        openapi_extra={"requestBody": {"required": True, "content": content}},
    )
    async def answer_wait(request: Request, wait_id: WaitId, _: NoQuery) -> Response:
        """Answer a wait, once: 409 where it has an answer or is closed. Admins only.

        Whoever waits takes the answer and goes on; it stands in the live feed and in the run.
        """
        try:
            pace.check(client_of(request.scope))
        except RefusedError as refused:
            headers = retry_after(refused.retry_after or 1.0)
            return problem(request.scope, refused.status, str(refused), headers=headers)
        body = await body_of(request, MOST_BYTES)
        if body is None:
            message = f"The answer is longer than {MOST_BYTES} bytes."
            return problem(request.scope, 413, message, headers={"Connection": "close"})
        said = _read(body)
        by = _by(request)
        try:
            item, _signal = await run_in_threadpool(
                store.hitl.answer, wait_id, said.decision, said.answer, by
            )
        except AlreadyAnsweredError as error:
            return problem(request.scope, 409, str(error))
        return answer(request.scope, item)

    return router


def _read(body: bytes) -> _Said:
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        message = f"This is no answer to a wait: {error}."
        raise InvalidInputError(message, parameter="body") from error


def _by(request: Request) -> str:
    """Return where an answer comes from, as the feed and the run say it."""
    headers: Any = request.headers
    if "authorization" not in headers:
        return "console"
    return "cli" if headers.get("user-agent", "").startswith(_PROGRAM) else "api"
