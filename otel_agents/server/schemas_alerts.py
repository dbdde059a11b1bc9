"""The shapes of alerts, and of the notification that Alertmanager sends of them."""

# pydantic reads the annotations when the classes are made.

from typing import Any, Final, Literal

from otel_agents.server.schemas import Count, Shape, Time

AlertStatus = Literal["firing", "resolved", "stale"]


class Alert(Shape):
    """An alert; one that fires and has not been confirmed for three hours is `stale`."""

    fingerprint: str
    status: AlertStatus
    name: str | None
    severity: str | None
    labels: dict[str, str]
    annotations: dict[str, str]
    starts_at: Time
    ends_at: Time | None
    received_at: Time
    generator_url: str | None
    external_url: str | None


class Firing(Shape):
    """How many alerts fire; `by_severity` has the severities of those that do.

    `waiting` is how many waits for a human are open.
    """

    firing: Count
    by_severity: dict[str, Count]
    waiting: Count


class Taken(Shape):
    """Of how many alerts a notification told, and of how many it told something new."""

    received: Count
    changed: Count


_TEXTS: Final = {"type": "object", "additionalProperties": {"type": "string"}}
_TIME: Final = {"type": "string", "format": "date-time"}
# What the handler looks at; there may be more, as Alertmanager sends it.
NOTIFICATION: Final[dict[str, Any]] = {
    "type": "object",
    "title": "Notification",
    "description": "The JSON of Alertmanager's webhook, version 4.",
    "required": ["version", "alerts"],
    "properties": {
        "version": {"type": "string", "enum": ["4"]},
        "externalURL": {"type": "string"},
        "alerts": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["status", "labels", "startsAt", "fingerprint"],
                "properties": {
                    "status": {"type": "string", "enum": ["firing", "resolved"]},
                    "labels": _TEXTS,
                    "annotations": _TEXTS,
                    "startsAt": _TIME,
                    "endsAt": _TIME,
                    "generatorURL": {"type": "string"},
                    "fingerprint": {"type": "string", "minLength": 1},
                },
            },
        },
    },
}
