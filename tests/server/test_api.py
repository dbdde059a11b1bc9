"""The API over a real server: every endpoint answers in the shape that the document says."""

from __future__ import annotations

import time
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from otel_agents.server.app import bare_app
from otel_agents.server.guard import Guard
from otel_agents.signals import new_id
from otel_agents.store import Batch

from .kit import ADMIN, ODD_RUN, OPEN, TRACE, alive, event, fill, raw, told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Running, Serving

QUOTED = "feature%2Flogin%252F%3Fx%3D1%26..%2F%25"
IDS = {
    "run_id": "run-1", "agent_id": "run-1-plan-agent", "trace_id": TRACE, "wait_id": "wait-1",
}  # fmt: skip


def readable(running: Running) -> list[APIRoute]:
    app = bare_app(running.store, Guard(OPEN, "127.0.0.1"))
    return [
        route
        for route in app.routes
        if isinstance(route, APIRoute) and route.methods == {"GET"} and route.response_model
    ]


def test_every_answer_has_the_shape_of_the_document(open_server: Running) -> None:
    """Each endpoint that reads answers 200 with exactly the fields that its model has."""
    routes = readable(open_server)
    for route in routes:
        path = route.path_format.format(**IDS)
        answer = open_server.client.get(path)
        assert answer.status_code == 200, (path, answer.text)
        TypeAdapter(route.response_model).validate_json(answer.content, strict=True)
    assert len(routes) > 20


def test_lists_are_not_empty_here(open_server: Running) -> None:
    """The shapes are held by rows: every list of the filled store has some."""
    alive(open_server.store)
    for path in (
        "/api/runs", "/api/runs/run-1/spans", "/api/runs/run-1/events", "/api/runs/run-1/logs",
        "/api/agents", "/api/agents/run-1-plan-agent/logs", "/api/traces", "/api/logs",
        "/api/usage", "/api/metrics", "/api/events", "/api/admin/runtime/events",
        "/api/admin/runtime/tasks", "/api/hitl",
    ):  # fmt: skip
        assert open_server.client.get(path).json()["data"]["items"], path


def test_filters_filter(serving: Serving) -> None:
    """Each filter leaves what it names and nothing else."""
    fresh = serving()
    fill(fresh.store)
    client = fresh.client

    def ids(path: str, key: str) -> set[str]:
        return {item[key] for item in client.get(path).json()["data"]["items"]}

    assert ids("/api/runs?status=failed", "run_id") == {"run-2"}
    assert ids("/api/runs?workflow=press", "run_id") == {"run-2", "run-3"}
    assert ids("/api/runs?q=login", "run_id") == {ODD_RUN}
    assert ids(f"/api/runs?from={time.time() - 120:.0f}", "run_id") == {"run-2", "run-3"}
    assert ids(f"/api/runs?to={time.time() - 450:.0f}", "run_id") == {"run-1"}
    assert ids("/api/agents?status=failed", "id") == {"a2"}
    assert ids("/api/admin/runtime/events?entityId=tool-1&layer=tool_runtime", "entity_id") == {
        "tool-1"
    }
    assert ids("/api/admin/ai/runtime/tasks?stuck=true", "task_id") == {"t-1"}
    assert ids("/api/traces?status=ok", "trace_id") == set()
    assert ids("/api/traces?status=error", "trace_id") == {TRACE}


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("/api/runs?status=sideways", "status"),
        ("/api/runs?statsu=failed", "statsu"),
        ("/api/runs?limit=0", "limit"),
        ("/api/runs?limit=501", "limit"),
        ("/api/runs?limit=1&limit=2", "limit"),
        ("/api/runs?cursor=bogus", "cursor"),
        ("/api/runs?from=yesterday", "from"),
        ("/api/runs?to=2026-13-01T00:00:00Z", "to"),
        ("/api/runs?q=a%00b", "q"),
        ("/api/runs/run-1?verbose=1", "verbose"),
        ("/api/events?after=-1", "after"),
        ("/api/usage?by=colour", "by"),
        ("/api/logs?severity=99", "severity"),
        ("/api/traces/not-hex", "trace_id"),
        ("/api/admin/runtime/events?layer=cake", "layer"),
        ("/api/admin/runtime/events?reason_code=x", "reason_code"),
        ("/api/admin/runtime/tasks?stuck=perhaps", "stuck"),
    ],
)
def test_what_cannot_be_used_is_named(kept_server: Running, query: str, name: str) -> None:
    """A wrong parameter is 400 invalid_input, and the message begins with its name."""
    answer = kept_server.client.get(query)
    error = answer.json()["error"]

    assert (answer.status_code, error["code"]) == (400, "invalid_input")
    assert error["message"].startswith(f"{name}: ")
    assert error["details"] == {"parameter": name}


@pytest.mark.parametrize(
    "path",
    [
        "/api/runs/none", "/api/runs/none/report", "/api/runs/none/spans", "/api/runs/none/events",
        "/api/runs/none/export", "/api/agents/none", "/api/agents/none/telemetry",
        f"/api/traces/{'0' * 31}1", "/api/nothing",
    ],
)  # fmt: skip
def test_what_is_not_there_is_not_found(kept_server: Running, path: str) -> None:
    """An unknown id and an unknown address are 404 not_found, in the envelope."""
    answer = kept_server.client.get(path)

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_an_id_is_taken_as_it_was_given(open_server: Running) -> None:
    """Slashes, percent signs and dots in a run's id reach the store decoded once."""
    for suffix in ("", "/events", "/report", "/spans"):
        answer = raw(open_server.url, "GET", f"/api/runs/{QUOTED}{suffix}")
        assert answer.status == 200, suffix
    found = raw(open_server.url, "GET", f"/api/runs/{QUOTED}").envelope["data"]

    assert found["run_id"] == ODD_RUN


def test_a_report_can_be_read_back(open_server: Running) -> None:
    """What `status --server` gets decodes to the reading that the store made."""
    from otel_agents.state.report import RunReport

    answer = open_server.client.get("/api/runs/run-1/report")
    found = msgspec.convert(answer.json()["data"], RunReport)

    assert found == open_server.store.report("run-1")
    latest = open_server.client.get("/api/runs/latest/report").json()["data"]
    assert latest["id"] == "run-3"


def test_an_export_is_a_file_of_lines(open_server: Running) -> None:
    """An export has a safe name, and its lines hold the run, its events, spans and logs."""
    answer = open_server.client.get("/api/runs/run-1/export")
    lines = [msgspec.json.decode(line) for line in answer.content.splitlines()]
    kinds = {kind for line in lines for kind in line}

    assert kinds == {"run", "event", "span", "log"}
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert answer.headers["content-disposition"] == 'attachment; filename="run-1.jsonl"'
    odd = raw(open_server.url, "GET", f"/api/runs/{QUOTED}/export")
    name = odd.headers["content-disposition"].partition("=")[2]
    assert name == '"feature_login_2F_x_1.jsonl"'


def test_an_admin_deletes_a_run(guarded: Running) -> None:
    """A deleted run is gone with what belongs to it, and the others stay."""
    headers = {"Authorization": f"Bearer {ADMIN}"}
    before = guarded.client.get("/api/runs", headers=headers).json()["data"]["items"]
    answer = guarded.client.delete("/api/runs/run-1", headers=headers)
    after = guarded.client.get("/api/runs", headers=headers).json()["data"]["items"]

    assert answer.status_code == 200
    assert answer.json()["data"] == {"signals": 14, "spans": 3, "logs": 3}
    assert {run["run_id"] for run in before} - {run["run_id"] for run in after} == {"run-1"}
    again = guarded.client.delete("/api/runs/run-1", headers=headers)
    assert again.status_code == 404


def turn(running: Running, path: str, key: str, steps: Iterator[tuple[int, int]]) -> list[str]:
    """Turn all pages, each of its own size, while rows are added between them."""
    found: list[str] = []
    query: dict[str, Any] = {}
    while True:
        limit, added = next(steps)
        data = running.client.get(path, params={**query, "limit": limit}).json()["data"]
        found += [item[key] for item in data["items"]]
        if data["next_cursor"] is None:
            return found
        query = {"cursor": data["next_cursor"]}
        signals = [signal for _ in range(added) for signal in (*told(new_id(), 0), event(1))]
        fill(running.store, Batch(signals=signals))


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    steps=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), min_size=1, max_size=5),
    where=st.sampled_from(
        [("/api/runs", "run_id"), ("/api/agents", "id"), ("/api/admin/runtime/events", "id")]
    ),
)
def test_pages_are_stable_while_rows_come_in(
    open_server: Running, steps: list[tuple[int, int]], where: tuple[str, str]
) -> None:
    """Whoever turns pages sees each row of the first moment once, whatever is added meanwhile."""
    path, key = where
    page = open_server.client.get(path, params={"limit": 500}).json()["data"]["items"]
    before = [item[key] for item in page]
    # In the end the pages grow, so that they are all turned.
    found = turn(open_server, path, key, chain(steps, repeat((100, 1))))

    # What is added and began earlier than the page that is shown comes on a later one.
    assert [one for one in found if one in set(before)] == before
    assert len(set(found)) == len(found)
    assert len(before) > 2


def test_a_failure_tells_nothing_of_itself(
    open_server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unforeseen error is 500 internal, without its message."""

    def fail(**_: object) -> None:
        message = "the password is hunter2"
        raise RuntimeError(message)

    monkeypatch.setattr(open_server.store, "runs", fail)
    answer = open_server.client.get("/api/runs")

    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    assert "hunter2" not in answer.text
    assert open_server.client.get("/api/agents").status_code == 200


def test_a_store_that_is_busy_says_when_to_come_back(
    open_server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the store that will pass is 503 unavailable with Retry-After."""
    from otel_agents.errors import UnavailableError

    def fail(**_: object) -> None:
        message = "the database is gone"
        raise UnavailableError(message)

    monkeypatch.setattr(open_server.store, "runs", fail)
    answer = open_server.client.get("/api/runs")

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"] == "1"


def test_ready_says_what_is_wrong(open_server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """/readyz is 503 with the problem while the store is behind; /healthz stays 200."""
    assert open_server.client.get("/readyz").status_code == 200
    state = {**open_server.store.health(), "behind_seconds": 7.2}
    monkeypatch.setattr(open_server.store, "health", lambda: state)
    answer = open_server.client.get("/readyz")

    assert answer.status_code == 503
    assert answer.json()["error"]["message"] == "The store is 7 s behind."
    assert open_server.client.get("/healthz").status_code == 200


def test_ready_tells_strangers_no_details(
    guarded: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a token /readyz says that something is wrong, but not what."""
    state = {**guarded.store.health(), "problem": "disk /secret is full", "writable": False}
    monkeypatch.setattr(guarded.store, "health", lambda: state)
    stranger = guarded.client.get("/readyz")
    admin = guarded.client.get("/readyz", headers={"Authorization": f"Bearer {ADMIN}"})

    assert (stranger.status_code, admin.status_code) == (503, 503)
    assert "secret" not in stranger.text
    assert "disk /secret is full" in admin.text
