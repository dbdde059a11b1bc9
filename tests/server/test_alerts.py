"""Alertmanager's webhook on a real server, and the list of what it told of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from otel_agents.errors import UnavailableError
from otel_agents.server import alerts
from tests.scraping import samples, value

from .kit import ADMIN, INGEST, OPEN, TOKENS, VIEWER

if TYPE_CHECKING:
    from .conftest import Running, Serving


def ago(seconds: float) -> str:
    """Return a time as Alertmanager writes it, to the nanosecond and in its own zone."""
    moment = datetime.now(UTC) - timedelta(seconds=seconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f123+00:00")


def alert(name: str = "OtelAgentsRunStuck", **more: Any) -> dict[str, Any]:
    """Return an alert of a notification, with all that Alertmanager sends."""
    labels = {"alertname": name, "severity": "critical", **more.pop("labels", {})}
    return {
        "status": "firing", "labels": labels,
        "annotations": {"summary": "A run is stuck.", "description": "For 20 minutes."},
        "startsAt": ago(60), "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://127.0.0.1:9090/graph?g0.expr=up", "fingerprint": f"fp-{name}",
        **more,
    }  # fmt: skip


def notification(*found: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a notification, with all that Alertmanager sends."""
    return {
        "version": "4", "groupKey": '{}:{alertname="x"}', "truncatedAlerts": 0,
        "status": "firing", "receiver": "console", "groupLabels": {"alertname": "x"},
        "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://127.0.0.1:9093",
        "alerts": list(found), **more,
    }  # fmt: skip


def send(server: Running, body: Any, token: str | None = None, **headers: str) -> Any:
    """Send a notification; return the answer."""
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return server.client.post("/api/alerts", content=content, headers=headers)


def listed(server: Running, **asked: Any) -> list[dict[str, Any]]:
    """Return the alerts of the list."""
    found: list[dict[str, Any]] = server.client.get("/api/alerts", params=asked).json()["data"][
        "items"
    ]
    return found


def test_an_alert_is_taken_listed_and_resolved(open_server: Running) -> None:
    """On each database, with the times of the alert, and unknown fields left aside."""
    begun = ago(60)
    firing = alert(startsAt=begun, labels={"workflow": "shop"})
    answer = send(open_server, notification(firing, alert("Other"), future="?"))
    assert answer.status_code == 200
    assert answer.json()["data"] == {"received": 2, "changed": 2}
    stuck = next(one for one in listed(open_server) if one["name"] == "OtelAgentsRunStuck")
    assert stuck["starts_at"][:23] == begun[:23]
    assert (stuck["status"], stuck["severity"], stuck["ends_at"]) == ("firing", "critical", None)
    assert stuck["labels"]["workflow"] == "shop"
    assert stuck["annotations"]["summary"] == "A run is stuck."
    assert stuck["external_url"] == "http://127.0.0.1:9093"
    over = {**firing, "status": "resolved", "endsAt": ago(1)}
    assert send(open_server, notification(over)).json()["data"]["changed"] == 1
    assert send(open_server, notification(firing)).json()["data"]["changed"] == 0
    assert [one["name"] for one in listed(open_server, status="firing")] == ["Other"]
    assert [one["name"] for one in listed(open_server, status="resolved")] == [stuck["name"]]


def test_who_may_send_and_who_may_read(serving: Serving) -> None:
    """Ingest and admin send, viewer and admin read; a wrong token is told so."""
    server = serving(TOKENS)
    found = {
        who: send(server, notification(), token).status_code
        for who, token in (
            ("ingest", INGEST), ("admin", ADMIN), ("viewer", VIEWER), ("wrong", "x"), ("none", None)
        )
    }  # fmt: skip
    assert found == {"ingest": 200, "admin": 200, "viewer": 403, "wrong": 401, "none": 403}
    reads = {
        token: server.client.get(
            "/api/alerts", headers={"Authorization": f"Bearer {token}"}
        ).status_code
        for token in (VIEWER, ADMIN, INGEST)
    }
    assert reads == {VIEWER: 200, ADMIN: 200, INGEST: 403}
    assert server.client.get("/api/alerts").status_code == 401


def test_no_page_of_a_browser_can_send_to_an_open_server(serving: Serving) -> None:
    """A program on this machine can; a foreign page, or a name that leads here, cannot."""
    server = serving(OPEN)
    port = server.client.base_url.port
    assert send(server, notification()).status_code == 200
    for headers in (
        {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://127.0.0.1:1"},
    ):  # fmt: skip
        assert send(server, notification(), **headers).status_code == 403
    assert send(server, notification(), Host=f"evil.example:{port}").status_code == 421
    assert server.client.put("/api/alerts").status_code == 403


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, notification(version="3"),
        {"alerts": []}, notification({"status": "firing"}), notification(alert(status="pending")),
        notification(alert(fingerprint="")), notification(alert(labels={"n": 1})),
        notification(alert(startsAt="yesterday")), notification(alert(startsAt=None)),
        notification(alert(annotations=["a"])), notification("text"), {"version": "4"},
        b'{"version": "4", "alerts": [], "externalURL": "\\ud800"}',
    ],
)  # fmt: skip
def test_what_is_no_notification_is_refused_in_a_sentence(serving: Serving, body: Any) -> None:
    """400, and nothing of it is stored."""
    server = serving()
    answer = send(server, body)
    assert answer.status_code == 400
    problem = answer.json()["error"]
    assert problem["details"] == {"parameter": "body"}
    assert problem["message"].startswith("This is no notification of Alertmanager's webhook")
    assert "\n" not in problem["message"]
    assert listed(server) == []


def test_a_query_that_is_not_there_is_refused(serving: Serving) -> None:
    """On both methods, as everywhere."""
    server = serving()
    assert server.client.get("/api/alerts?state=firing").status_code == 400
    assert server.client.get("/api/alerts?status=open").status_code == 400
    assert server.client.post("/api/alerts?x=1", content=b"{}").status_code == 400


def test_a_body_without_end_is_not_read(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """413, with and without a length; one just short enough is taken."""
    monkeypatch.setattr(alerts, "MOST_BYTES", 3000)
    server = serving()
    long = notification(alert(annotations={"summary": "x" * 3000}))
    assert send(server, long).status_code == 413
    content = msgspec.json.encode(long)
    chunks = (content[start : start + 500] for start in range(0, len(content), 500))
    assert server.client.post("/api/alerts", content=chunks).status_code == 413
    assert send(server, notification(alert())).status_code == 200


def test_long_texts_and_many_labels_are_cut(serving: Serving) -> None:
    """What a sender can store of one alert is bounded; so is what a page shows."""
    server = serving()
    labels = {f"l{number}": "v" * 5000 for number in range(200)}
    send(server, notification(alert(labels=labels, annotations={"summary": "s" * 50_000})))
    (found,) = listed(server)
    assert len(found["labels"]) <= 64
    assert max(map(len, found["labels"].values())) <= 1000
    assert len(found["annotations"]["summary"]) <= 8000


def test_times_that_cannot_be_are_bounded(serving: Serving) -> None:
    """One before the epoch or in the far future; a clock that is ahead blocks nothing."""
    server = serving()
    for number, moment in enumerate(
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00")
    ):
        found = alert(f"A{number}", startsAt=moment, endsAt=moment, status="resolved")
        assert send(server, notification(found)).status_code in {200, 400}
    send(server, notification(alert("Ahead", startsAt=ago(-3600))))
    over = alert("Ahead", status="resolved", startsAt=ago(-3600), endsAt=ago(-3000))
    assert send(server, notification(over)).json()["data"]["changed"] == 1


def test_a_store_that_cannot_be_written_is_told_apart(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503, which makes Alertmanager try again; 400 would make it give up."""
    server = serving()

    def away(*_: Any) -> int:
        message = "The store cannot be used: it is full."
        raise UnavailableError(message)

    with monkeypatch.context() as patched:
        patched.setattr(type(server.store), "keep_alerts", away)
        answer = send(server, notification(alert()))
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert send(server, notification(alert())).status_code == 200


def test_firing_alerts_are_counted_for_prometheus(serving: Serving) -> None:
    """By severity, those of Alertmanager's usual words at 0 too."""
    server = serving()

    def counted() -> dict[str, float]:
        found = samples(server.client.get("/metrics").text)
        return {
            dict(labels)["severity"]: number
            for (name, labels), number in found.items()
            if name == "otelagents_server_alerts"
        }

    assert counted() == {"critical": 0, "warning": 0, "info": 0}
    odd = alert("Odd", labels={"severity": "page"})
    send(server, notification(alert("A"), alert("B"), odd))
    assert counted() == {"critical": 2, "warning": 0, "info": 0, "page": 1}
    over = alert("A", status="resolved", endsAt=ago(0))
    send(server, notification(over))
    assert counted()["critical"] == 1
    assert value(samples(server.client.get("/metrics").text), "otelagents_server_alerts") == 2
