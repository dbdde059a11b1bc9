"""What names are made of: attributes, metrics, and the only labels that a metric may have."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

NAMESPACE: Final = "otelagents"


class Attribute(NamedTuple):
    """A span or log attribute: its key, the type of its value and what it means."""

    key: str
    type: type
    brief: str


def own(suffix: str, type_: type, brief: str) -> Attribute:
    """Return one of our attributes."""
    return Attribute(f"{NAMESPACE}.{suffix}", type_, brief)


# The only words a metric may be split by. An id is not among them, so a metric cannot have one.
LABELS: Final[dict[str, str]] = {
    "workflow": "The workflow's name.",
    "phase": "The phase's name.",
    "agent": "The agent's name.",
    "model": "The model that answered.",
    "provider": "The provider, in the conventions' words.",
    "tool": "The tool's name.",
    "gate": "The gate's name.",
    "name": "The validation's or critic's name.",
    "queue": "The queue of the task.",
    "result": "The outcome; for runs succeeded, failed or canceled.",
    "type": "The kind of token: input (not cached), cache_read, cache_write, output.",
    "sink": "Where a signal was to go.",
    "reason": "Why something was dropped, or a model's try failed.",
    "breaker": "The breaker's name.",
    "budget": "What the budget is for: its scope or name.",
    "unit": "What the budget is counted in: USD, token or second.",
    "level": "How much of the budget is gone: warning or exceeded.",
    "worker_type": "The kind of worker.",
    "state": "The state of a task in its queue, of a worker, or of a run under way.",
    "target": "What was to be instrumented: a target of the settings, or a framework.",
    "severity": "How urgent an alert is: critical, warning or info.",
}

Instrument = Literal["counter", "updown", "histogram", "gauge"]
# Buckets in seconds up to two hours: agent runs last minutes, and a top bucket of 10 s or 300 s
# pins every percentile to it.
LONG_BUCKETS: Final = (
    0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200,
)  # fmt: skip


class Metric(NamedTuple):
    """A metric: its OTLP name, instrument, unit, labels in order, meaning and buckets."""

    name: str
    instrument: Instrument
    unit: str
    labels: tuple[str, ...]
    brief: str
    buckets: tuple[float, ...] = ()


def metric(name: str, instrument: Instrument, unit: str, labels: str, brief: str) -> Metric:
    """Return one of our metrics; its labels are words of LABELS, or this raises ValueError."""
    words = tuple(labels.split())
    unknown = [word for word in words if word not in LABELS]
    if unknown:
        message = f"{name}: {unknown} is no label; an id or other unbounded value never is"
        raise ValueError(message)
    buckets = LONG_BUCKETS if instrument == "histogram" else ()
    return Metric(f"{NAMESPACE}.{name}", instrument, unit, words, brief, buckets)
