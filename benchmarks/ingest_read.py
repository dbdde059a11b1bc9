"""How long each API call and page takes on a store of a million spans.

Requests come one at a time over one connection. Those for one run, agent or trace ask for another
one each time, so that nothing the server remembers of the last answer helps.
"""

from __future__ import annotations

import http.client
import itertools
import json
import re
import statistics
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ingest_fill import Filled

TARGET_MS: Final = 100.0
# What one question may take in all: a slow one is asked less often, and shows all the same.
_SECONDS: Final = 20.0
_FEWEST: Final = 5
_MISS: Final = "no-such-thing"


@dataclass
class Case:
    """A question: its name, and the paths that are asked in turn.

    One that `follows` goes on from page to page.
    """

    name: str
    paths: Iterator[str]
    follows: bool = False
    times: list[float] = field(default_factory=list)
    bytes: int = 0
    cpu: float = 0.0
    wrong: str = ""

    def row(self) -> dict[str, Any]:
        """Return what was seen, in ms and kB."""
        if self.wrong:
            return {"label": self.name, "error": self.wrong}
        ordered = sorted(self.times)
        return {
            "label": self.name,
            "p50_ms": statistics.median(ordered) * 1e3,
            "p95_ms": ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))] * 1e3,
            "max_ms": ordered[-1] * 1e3,
            "cpu_ms": self.cpu / len(ordered) * 1e3,
            "requests": len(ordered),
            "kb": self.bytes / 1e3,
        }


def _spread(values: Sequence[str]) -> list[str]:
    """Return values from all over a list, the last one first."""
    return list(reversed(values[:: max(1, len(values) // 500)]))


def cases(filled: Filled, *, pages: bool) -> list[Case]:
    """Return every question that the API answers by GET, and with `pages` every page."""
    ids = {
        "run": _spread(filled.runs), "agent": _spread(filled.agents),
        "long": _spread(filled.long_traces), "short": _spread(filled.short_traces),
        "task": _spread(filled.tasks),
    }  # fmt: skip
    found = [_case(path, ids) for path in (*_API, *(_PAGES if pages else ()))]
    for name in ("runs", "agents", "traces", "logs", "metrics"):
        path = f"/api/{name}"
        found.append(Case(f"{path}, page by page", itertools.repeat(path), follows=True))
    return found


# {run} and the like stand for one of the ids; {miss} for what is nowhere.
_API: Final = (
    "/api/runs", "/api/runs?limit=500", "/api/runs?status=failed", "/api/runs?status=running",
    "/api/runs?status=lost", "/api/runs?workflow=research", "/api/runs?workflow={miss}",
    "/api/runs?q=billing", "/api/runs?q=order+{number}", "/api/runs?q={miss}",
    "/api/runs?from=2020-01-01T00:00:00Z&to=2020-01-02T00:00:00Z",
    "/api/runs/{run}", "/api/runs/latest/report", "/api/runs/{run}/report", "/api/runs/{run}/spans",
    "/api/runs/{run}/spans?limit=500", "/api/runs/{run}/events", "/api/runs/{run}/logs",
    "/api/runs/{run}/logs?q={miss}", "/api/runs/{run}/export",
    "/api/agents", "/api/agents?limit=500", "/api/agents?status=failed",
    "/api/agents?status=running", "/api/agents?status=lost", "/api/agents?name=builder",
    "/api/agents?name={miss}", "/api/agents?run_id={run}", "/api/agents?q=build",
    "/api/agents?q={agent}", "/api/agents?q={miss}",
    "/api/agents/{agent}", "/api/agents/{agent}/telemetry", "/api/agents/{agent}/logs",
    "/api/traces", "/api/traces?limit=500", "/api/traces?q=workflow", "/api/traces?q={short}",
    "/api/traces?q={run}", "/api/traces?q={miss}", "/api/traces?service=release-agents",
    "/api/traces?service={miss}", "/api/traces?status=error", "/api/traces?status=ok",
    "/api/traces?from=2020-01-01T00:00:00Z&to=2020-01-02T00:00:00Z",
    "/api/traces/{long}", "/api/traces/{short}",
    "/api/logs", "/api/logs?q=wrote", "/api/logs?q=order+{number}", "/api/logs?q={miss}",
    "/api/logs?severity=17", "/api/logs?severity=21", "/api/logs?run_id={run}",
    "/api/logs?agent_id={agent}", "/api/logs?trace_id={long}",
    "/api/usage", "/api/usage?by=phase", "/api/usage?by=agent", "/api/usage?by=model",
    "/api/usage?by=day", "/api/usage?by=model&run_id={run}",
    "/api/usage?from=2020-01-01T00:00:00Z&to=2020-01-02T00:00:00Z",
    "/api/metrics", "/api/metrics?name=otelagents.tokens", "/api/metrics?name={miss}",
    "/api/events", "/api/events?after=100000&limit=500", "/api/events?run_id={run}",
    "/api/admin/runtime/status", "/api/admin/runtime/events",
    "/api/admin/runtime/events?layer=dispatcher", "/api/admin/runtime/events?operation=HEARTBEAT",
    "/api/admin/runtime/events?reasonCode={miss}", "/api/admin/runtime/events?entityId={miss}",
    "/api/admin/runtime/events?taskId={task}",
    "/api/admin/runtime/tasks", "/api/admin/runtime/tasks?status=DONE",
    "/api/admin/runtime/tasks?status=FAILED", "/api/admin/runtime/tasks?stuck=true",
    "/api/admin/runtime/tasks?queue={miss}", "/api/admin/runtime/tasks?q={miss}",
    "/api/admin/runtime/verify", "/healthz", "/readyz", "/openapi.json",
)  # fmt: skip
_PAGES: Final = (
    "/runs", "/runs?q=order+{number}", "/runs?q={miss}", "/runs?status=failed", "/runs/{run}",
    "/runs/{run}?spans=1", "/runs/{run}?tab=agents", "/runs/{run}?tab=cost",
    "/runs/{run}?tab=events", "/runs/{run}?tab=logs", "/runs/{run}?tab=spans",
    "/agents", "/agents?q={miss}", "/agents?status=lost", "/agents/{agent}",
    "/traces", "/traces?q={miss}", "/traces?status=error", "/traces/{long}", "/traces/{short}",
    "/live", "/admin/runtime", "/admin/runtime?stuck=1", "/login",
)  # fmt: skip


def _case(path: str, ids: dict[str, list[str]]) -> Case:
    values: dict[str, Iterator[str]] = {name: itertools.cycle(some) for name, some in ids.items()}
    values["miss"] = itertools.repeat(_MISS)
    values["number"] = (str(number) for number in itertools.cycle(range(1, 400, 7)))
    used = [name for name in values if f"{{{name}}}" in path]
    if not used:
        return Case(path, itertools.repeat(path))
    given = (
        path.format(**{name: quote(next(values[name]), safe="") for name in used})
        for _ in itertools.count()
    )
    return Case(path, given)


def ask(port: int, asked: list[Case], requests: int, cpu: Callable[[], float]) -> None:
    """Ask every question so many times, one request at a time; `cpu` tells the server's seconds."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for case in asked:
        report.progress(f"asking {case.name}")
        begun, used = time.perf_counter(), cpu()
        cursor = ""
        while len(case.times) < requests:
            if time.perf_counter() - begun > _SECONDS and len(case.times) >= _FEWEST:
                break
            path = next(case.paths)
            if cursor:
                path += f"{'&' if '?' in path else '?'}cursor={cursor}"
            sent = time.perf_counter()
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
            case.times.append(time.perf_counter() - sent)
            case.bytes = max(case.bytes, len(body))
            if answer.status != HTTPStatus.OK:
                case.wrong = f"{path}: {answer.status} {body[:150]!r}"
                break
            if case.follows:
                cursor = json.loads(body)["data"]["next_cursor"] or ""
        case.cpu = cpu() - used
    connection.close()
    report.progress("")


def unasked(port: int, asked: list[Case]) -> list[str]:
    """Return the paths of the API's own document that no question is about."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/openapi.json")
    document = json.load(connection.getresponse())
    connection.close()
    names = [case.name.partition("?")[0] for case in asked]
    found = []
    for path, methods in document["paths"].items():
        # The runtime's endpoints have two addresses.
        plain = path.replace("/admin/ai/", "/admin/")
        pattern = re.compile(re.sub(r"\{[^}]*\}", "[^/]+", plain) + "$")
        if "get" in methods and not any(pattern.match(name) for name in names):
            found.append(path)
    return found
