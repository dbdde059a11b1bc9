"""The agents of a run as a tree to be shown: those that went well gathered by name."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from otel_agents.signals import Failure
    from otel_agents.state.report import AgentReport
    from otel_agents.usage import Usage

_FIRST = ("running", "failed", "lost", "cancelled")


class Node(msgspec.Struct, kw_only=True):
    """One agent, or `number` of the same name that all completed, with the agents they called.

    `seconds` is the sum over them, `attempt` says nothing of many.
    """

    name: str
    status: str
    model: str
    attempt: int
    iteration: int | None
    started: int
    seconds: float
    usage: Usage
    usd: float | None
    unpriced: int
    error: Failure | None
    number: int = 1
    children: list[Node] = []


def tree(agents: list[AgentReport]) -> dict[str, list[Node]]:
    """Return the agents that no other one called, by phase; an agent elsewhere is a root there."""
    nodes = [_node(agent) for agent in agents]
    by_id = {(agent.phase, agent.id): node for agent, node in zip(agents, nodes, strict=True)}
    roots: dict[str, list[Node]] = {}
    for agent, node in zip(agents, nodes, strict=True):
        parent = by_id.get((agent.phase, agent.parent_id)) if agent.parent_id else None
        if parent is None or parent is node:
            roots.setdefault(agent.phase, []).append(node)
        else:
            parent.children.append(node)
    return roots


def _node(agent: AgentReport) -> Node:
    return Node(
        name=agent.name,
        status=agent.status,
        model=agent.model,
        attempt=agent.attempt,
        iteration=agent.iteration,
        started=agent.started,
        seconds=agent.seconds,
        usage=agent.usage,
        usd=agent.usd,
        unpriced=agent.unpriced,
        error=agent.error,
    )


def gather(nodes: list[Node], most: int, *, well: bool) -> tuple[list[Node], Counter[str]]:
    """Return the nodes to list, and how many more there are by status.

    Args:
        nodes: Agents that stand side by side.
        most: How many are listed one by one; running ones first, then the most recent.
        well: Whether those that completed are listed, gathered by name, or left out uncounted.

    """
    if not well:
        nodes = [each for node in nodes for each in _unfinished(node)]
    single = sorted(
        (node for node in nodes if node.status != "completed"),
        key=lambda node: (_FIRST.index(node.status), -node.started),
    )
    hidden = Counter(each.status for node in single[most:] for each in _all(node))
    done: dict[str, Node] = {}
    for node in nodes:
        if node.status == "completed":
            before = done.get(node.name)
            done[node.name] = node if before is None else _joined(before, node)
    found = sorted([*single[:most], *done.values()], key=lambda node: node.started)
    for node in found:
        node.children, below = gather(node.children, most, well=well)
        hidden += below
    return found, hidden


def _unfinished(node: Node) -> list[Node]:
    """Return the node, or in place of one that completed what it called and has not."""
    if node.status != "completed":
        return [node]
    return [each for child in node.children for each in _unfinished(child)]


def _all(node: Node) -> list[Node]:
    return [node, *(each for child in node.children for each in _all(child))]


def _joined(one: Node, other: Node) -> Node:
    unpriced = one.unpriced + other.unpriced
    costs = [node.usd for node in (one, other) if node.usd is not None]
    return Node(
        name=one.name,
        status=one.status,
        model=one.model if one.model == other.model else "",
        attempt=1,
        iteration=None,
        started=min(one.started, other.started),
        seconds=one.seconds + other.seconds,
        usage=one.usage + other.usage,
        usd=sum(costs) if costs and not unpriced else None,
        unpriced=unpriced,
        error=None,
        number=one.number + other.number,
        children=[*one.children, *other.children],
    )
