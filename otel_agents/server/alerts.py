"""Alerts: Alertmanager's webhook, and the list of what it told of."""

# FastAPI reads the annotations when the routes are made.

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from otel_agents.errors import InvalidInputError
from otel_agents.server.answers import answer, body_of, problem
from otel_agents.server.api import ONCE, NoQuery, asked
from otel_agents.server.filters import AlertsFilter
from otel_agents.server.schemas import Answered, Listed
from otel_agents.server.schemas_alerts import NOTIFICATION, Alert, Firing, Taken
from otel_agents.store.alerts import Alert as Told
from otel_agents.values import cut

if TYPE_CHECKING:
    from otel_agents.store import Store

PATH: Final = "/api/alerts"
# An alert takes about 2 kB; a group of more than two thousand says nothing to anybody.
MOST_BYTES: Final = 4 * 1024 * 1024
_MOST_TEXTS: Final = 64  # labels or annotations of an alert
_NAME: Final = 200
_LABEL: Final = 1000
_ANNOTATION: Final = 8000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class _Alert(msgspec.Struct, rename="camel"):
    """What is taken of an alert; `endsAt` of one that goes on is the year 1."""

    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    starts_at: datetime
    fingerprint: Annotated[str, msgspec.Meta(min_length=1)]
    annotations: dict[str, str] = {}
    ends_at: datetime | None = None
    generator_url: str = msgspec.field(default="", name="generatorURL")


class _Notification(msgspec.Struct):
    """What is taken of a notification."""

    version: Literal["4"]
    alerts: list[_Alert]
    external_url: str = msgspec.field(default="", name="externalURL")


_decode: Final = msgspec.json.Decoder(_Notification).decode


def alerts(store: "Store") -> APIRouter:
    """Return the endpoints of alerts."""
    router = APIRouter(prefix=PATH, tags=["alerts"], dependencies=ONCE)

    @router.get("", response_model=Answered[Listed[Alert]])
    def list_alerts(request: Request, chosen: Annotated[AlertsFilter, Query()]) -> Response:
        """List alerts, the one that began last first."""
        return answer(request.scope, store.alerts(**asked(chosen)))

    @router.get("/count", response_model=Answered[Firing])
    def count_alerts(request: Request, _: NoQuery) -> Response:
        """Return how many alerts fire, how many of each severity, and how many people wait.

        What the console counts in its header.
        """
        found = store.firing()
        counts = {"firing": sum(found.values()), "by_severity": found}
        return answer(request.scope, {**counts, "waiting": store.hitl.waiting()})

    content = {"application/json": {"schema": NOTIFICATION}}

    @router.post(
        "",
        response_model=Answered[Taken],
        openapi_extra={"requestBody": {"required": True, "content": content}},
    )
    async def take_alerts(request: Request, _: NoQuery) -> Response:
        """Take a notification of Alertmanager in: the JSON of its webhook, version 4.

        For the token that sends telemetry, or the admin's. Repeats and disorder do no harm.
        """
        body = await body_of(request, MOST_BYTES)
        if body is None:
            message = f"The notification is longer than {MOST_BYTES} bytes."
            return problem(request.scope, 413, message, headers={"Connection": "close"})
        told = _read(body)
        changed = await run_in_threadpool(store.keep_alerts, told)
        return answer(request.scope, {"received": len(told), "changed": changed})

    return router


def _read(body: bytes) -> list[Told]:
    """Return what a notification says; raises InvalidInputError, in one sentence, for another."""
    try:
        found = _decode(body)
        return [_told(one, found.external_url) for one in found.alerts]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        message = f"This is no notification of Alertmanager's webhook, version 4: {error}."
        raise InvalidInputError(message, parameter="body") from error


def _told(alert: _Alert, external_url: str) -> Told:
    now = time.time_ns()
    ends = 0 if alert.ends_at is None else _nanoseconds(alert.ends_at)
    return Told(
        fingerprint=alert.fingerprint,
        firing=alert.status == "firing",
        labels=_texts(alert.labels, _LABEL),
        annotations=_texts(alert.annotations, _ANNOTATION),
        # A clock that is ahead would make all that comes after look older.
        starts=min(_nanoseconds(alert.starts_at), now),
        ends=min(ends, now) or None,
        generator_url=cut(alert.generator_url, _LABEL),
        external_url=cut(external_url, _LABEL),
    )


def _texts(given: dict[str, str], longest: int) -> dict[str, str]:
    return {
        cut(name, _NAME): cut(value, longest) for name, value in list(given.items())[:_MOST_TEXTS]
    }


def _nanoseconds(moment: datetime) -> int:
    zoned = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    seconds = (zoned - _EPOCH).total_seconds()
    return max(0, round(seconds * 1e6)) * 1000
