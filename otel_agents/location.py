"""Where a scope stands: its ids, made from those around it and what the caller gave."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

from otel_agents.context import Counts, Frame, stamp_of
from otel_agents.signals import Ids, new_id
from otel_agents.values import coerce

if TYPE_CHECKING:
    from otel_agents.vocabulary import Kind


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
