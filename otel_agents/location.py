"""What a scope is made of: its ids, from those around it, and the fields the caller gave."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

from otel_agents.boundary import caught
from otel_agents.context import Counts, Frame, stamp_of
from otel_agents.errors import SettingsError
from otel_agents.signals import Ids, new_id
from otel_agents.values import GOAL_LENGTH, coerce, cut, redact
from otel_agents.vocabulary import ANY_FIELDS, RUN_GOAL

if TYPE_CHECKING:
    from otel_agents.vocabulary import Attribute, Kind


def locate(
    kind: Kind, name: str | None, given_id: str | None, fields: dict[str, Any], outer: Frame | None
) -> tuple[Frame, str, dict[str, Any]]:
    """Return a new scope's frame, its own id ("" where its kind has none) and the other fields."""
    if not kind.ids and not kind.name_slot:
        if outer is None:
            return Frame(Ids(), {}, Counts()), "", fields
        return Frame(outer.ids, outer.stamp, outer.counts), "", fields
    given, rest = {}, {}
    for field, value in fields.items():
        slot = kind.ids.get(field)
        if slot is None:
            rest[field] = value
        else:
            given[slot] = coerce(value, int if slot == "iteration" else str)
    ids = copy(outer.ids) if outer is not None else Ids()
    counts = outer.counts if outer is not None else Counts()
    own_id = ""
    if kind.id_field:
        own_id = str(given.get(kind.id_field) or coerce(given_id, str) or new_id())
        given[kind.id_field] = own_id
    if kind.name == "run":
        ids = Ids(correlation_id=ids.correlation_id, task_id=ids.task_id, worker_id=ids.worker_id)
        counts = Counts()
        given["correlation_id"] = given.get("correlation_id") or ids.correlation_id or own_id
    elif kind.name == "iteration":
        ids.phase = None
        counts.iterations += 1
        if given.get("iteration") is None:  # programs count from 0 too
            given["iteration"] = counts.iterations
    elif kind.name == "agent":
        ids.parent_agent_id = ids.agent_id
        # An agent that runs outside any run is a run of its own, so that it can be looked up.
        ids.run_id = ids.run_id or own_id
        if "attempt" not in rest:
            # A sub-agent that is called more than once is no retry.
            tries = counts.attempt(ids.task_id, name) if ids.parent_agent_id is None else 1
            rest = {**rest, "attempt": tries}
    for slot, value in given.items():
        if value is not None:
            setattr(ids, slot, value)
    if kind.name_slot:
        setattr(ids, kind.name_slot, name)
    return Frame(ids, stamp_of(ids), counts), own_id, rest


def field_of(kind: Kind, field: str, value: Any) -> tuple[Attribute | None, Any]:
    """Return the attribute that a field of a kind stands for, and its value as it is kept.

    None stands for a field that the kind does not have, which is reported, or for no value.
    """
    attribute = kind.fields.get(field) or ANY_FIELDS.get(field)
    if attribute is None:
        known = sorted({*kind.fields, *kind.ids, *ANY_FIELDS})
        message = f"{kind.name} has no field {field!r}; it takes {', '.join(known)}"
        caught(f"{kind.name} field {field}", SettingsError(message))
        return None, None
    kept = coerce(value, attribute.type)
    if isinstance(kept, str):
        kept = redact("", kept)  # before it is cut: of a part of a secret its shape is not known
        if attribute is RUN_GOAL:
            kept = cut(kept, GOAL_LENGTH)
    return attribute, kept
