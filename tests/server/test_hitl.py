"""Waits for humans on a real server: the list, answers, and who may give them."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import pytest
from websockets.sync.client import connect

from otel_agents.server import hitl
from otel_agents.server.guard import RefusedError
from otel_agents.server.hitl import ANSWERS, MOST_BYTES, Pace
from otel_agents.store import Batch
from otel_agents.store.waits import MOST_TEXT
from otel_agents.vocabulary import ANSWERED_BY, DECISION, WAIT_ID
from tests.store.waiting import run, told

from .kit import ADMIN, INGEST, OPEN, TOKENS, VIEWER, alive, fill

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Running, Serving

PATH = "/api/hitl"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def say(server: Running, wait_id: str, body: Any, token: str = ADMIN, **headers: str) -> Any:
    """Answer a wait; return the answer to that."""
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return server.client.post(
        f"{PATH}/{wait_id}", content=content, headers={**bearer(token), **headers}
    )


def listed(server: Running, token: str = VIEWER, **asked: Any) -> list[dict[str, Any]]:
    """Return the waits of the list."""
    answer = server.client.get(PATH, params=asked, headers=bearer(token))
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]["items"]
    return found


@pytest.fixture
def waiting(serving: Serving) -> Running:
    """Return a server with tokens where one run waits."""
    server = serving(TOKENS)
    fill(server.store, Batch(signals=[run(), told("start", id="go"), told("start", "s2")]))
    return server


def test_waits_are_listed_on_each_database(open_server: Running) -> None:
    """Those that are open; a status or `all` shows others, and a page leads to the next."""
    alive(open_server.store)
    ask = open_server.client.get
    (wait,) = ask(PATH).json()["data"]["items"]
    assert (wait["id"], wait["run_id"], wait["status"]) == ("wait-1", "run-3", "open")
    assert ask(f"{PATH}/wait-1").json()["data"]["id"] == "wait-1"
    assert ask(PATH, params={"status": "closed"}).json()["data"]["items"] == []
    assert ask(PATH, params={"status": "open", "run_id": "run-1"}).json()["data"]["items"] == []
    assert ask("/api/alerts/count").json()["data"]["waiting"] == 1
    fill(open_server.store, Batch(signals=[told("start", run="run-3", id="w2")]))
    first = ask(PATH, params={"limit": 1, "status": "all"}).json()["data"]
    rest = ask(PATH, params={"cursor": first["next_cursor"], "status": "all"}).json()["data"]
    assert [one["id"] for one in first["items"] + rest["items"]] == ["w2", "wait-1"]
    for wrong in ({"status": "gone"}, {"nonsense": "1"}, {"cursor": "x"}):
        assert ask(PATH, params=wrong).status_code == 400
    assert ask(f"{PATH}/none").status_code == 404


def test_an_answer_is_seen_everywhere(waiting: Running) -> None:
    """By the list, the live feed and the run; whoever comes second is told in one sentence."""
    address = waiting.url.replace("http", "ws", 1)
    with connect(
        f"{address}/ws?since=3", additional_headers=bearer(VIEWER), open_timeout=20
    ) as socket:
        answer = say(waiting, "go", {"decision": "approved", "answer": "use sk-0123456789abcdef01"})
        heard = msgspec.json.decode(socket.recv(timeout=90))
    assert answer.status_code == 200
    item = answer.json()["data"]
    assert (item["status"], item["decision"], item["answer"], item["answered_by"]) == (
        "answered", "approved", "use [redacted]", "api",
    )  # fmt: skip
    assert (heard["type"], heard["payload"]["name"]) == ("human", "human.answered")
    assert heard["payload"]["attributes"] == {
        WAIT_ID.key: "go", DECISION.key: "approved", ANSWERED_BY.key: "api",
        "otelagents.human.answer": "use [redacted]",
    }  # fmt: skip
    again = say(waiting, "go", {"decision": "rejected"})
    assert again.status_code == 409
    assert again.json()["error"] == {
        "code": "invalid_input", "message": "The wait was approved already by api.", "details": {},
    }  # fmt: skip
    assert [one["id"] for one in listed(waiting)] == ["s2"]
    assert [one["id"] for one in listed(waiting, status="answered")] == ["go"]


def test_of_many_answers_at_once_one_counts(waiting: Running) -> None:
    """The others are told 409, and one event says what was answered."""
    found: list[int] = []
    ready = threading.Barrier(6)

    def answer(number: int) -> None:
        ready.wait()
        with httpx.Client(base_url=waiting.url, trust_env=False, timeout=20) as client:
            said = {"decision": "answered", "answer": f"{number}"}
            found.append(client.post(f"{PATH}/go", json=said, headers=bearer(ADMIN)).status_code)

    threads = [threading.Thread(target=answer, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [200] + [409] * 5
    assert sum(one["type"] == "human" for one in waiting.store.feed(0)) == 1


@pytest.mark.parametrize("token", [VIEWER, INGEST])
def test_only_an_admin_answers(waiting: Running, token: str) -> None:
    """A viewer reads, and a sender not even that."""
    assert say(waiting, "go", {"decision": "approved"}, token).status_code == 403
    reads = waiting.client.get(PATH, headers=bearer(token)).status_code
    assert reads == (200 if token == VIEWER else 403)
    assert listed(waiting)[0]["status"] == "open"


def test_an_open_server_takes_no_answer(serving: Serving) -> None:
    """Any page of a browser could give one: it says what to set."""
    server = serving(OPEN, full=True)
    alive(server.store)
    for headers in ({}, bearer("any"), {"Origin": server.url}):
        answer = server.client.post(
            f"{PATH}/wait-1", json={"decision": "approved"}, headers=headers
        )
        assert answer.status_code == 403
    assert server.client.get(f"{PATH}/wait-1").json()["data"]["status"] == "open"


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b"{", b"\xff", b'{"decision": "maybe"}', b'{"answer": "x"}',
        b'{"decision": "approved", "by": "me"}', b'{"decision": "approved", "answer": 5}',
        b'{"decision": "answered"}', b'{"decision": "answered", "answer": " "}',
        b"[" * 9999, msgspec.json.encode({"decision": "approved", "answer": "x" * (MOST_TEXT + 1)}),
    ],
    ids=lambda body: body[:30],
)  # fmt: skip
def test_what_is_no_answer_is_refused(waiting: Running, body: bytes) -> None:
    """With 400, and the wait stays open."""
    answer = say(waiting, "go", body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_input"
    assert {one["status"] for one in listed(waiting)} == {"open"}


def test_an_answer_has_a_size(waiting: Running) -> None:
    """The longest text is taken whole; a body that is longer than any is not read to its end."""
    assert say(waiting, "go", b" " * (MOST_BYTES + 1)).status_code == 413
    text = "é" * MOST_TEXT
    answer = say(waiting, "go", {"decision": "answered", "answer": text})
    assert answer.json()["data"]["answer"] == text


def test_answers_have_a_pace(waiting: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that gives too many is told when to come back."""
    monkeypatch.setattr(hitl, "ANSWERS", 3)
    found = [say(waiting, "none", {"decision": "approved"}) for _ in range(4)]
    assert [one.status_code for one in found] == [404, 404, 404, 429]
    assert int(found[-1].headers["retry-after"]) >= 1


def test_the_pace_forgets() -> None:
    """What was long ago counts no more, and the clients remembered are bounded."""
    now = [0.0]
    pace = Pace(lambda: now[0])
    for _ in range(ANSWERS):
        pace.check("a")
    with pytest.raises(RefusedError) as refused:
        pace.check("a")
    assert refused.value.retry_after == 60
    pace.check("b")
    now[0] = 60.5
    pace.check("a")
    for number in range(3000):
        pace.check(f"c{number}")
    assert len(pace._given) <= 1024


@pytest.mark.parametrize("wait_id", ["a/b", "a%2Fb", "..", "é ☃", "?x=1#y", "<script>"])
def test_any_text_is_an_id(waiting: Running, wait_id: str) -> None:
    """It is shown and answered as one, encoded in the address."""
    from urllib.parse import quote

    fill(waiting.store, Batch(signals=[told("start", "odd", id=wait_id)]))
    address = quote(wait_id, safe="").replace(".", "%2E") if wait_id == ".." else quote(wait_id, "")
    found = waiting.client.get(f"{PATH}/{address}", headers=bearer(VIEWER))
    assert found.json()["data"]["id"] == wait_id
    assert say(waiting, address, {"decision": "approved"}).json()["data"]["status"] == "answered"


# ---------------------------------------------------------------------- the console's form


@contextmanager
def signed_in(server: Running, token: str) -> Iterator[httpx.Client]:
    """Give a client with a session."""
    with httpx.Client(base_url=server.url, trust_env=False, timeout=20) as client:
        own = {"Origin": server.url}
        assert client.post("/login", data={"token": token}, headers=own).status_code == 303
        yield client


def test_an_admins_session_answers_from_our_own_page(waiting: Running) -> None:
    """A form leads back to the page it was on; a foreign page, or none, answers nothing."""
    own = {"Origin": waiting.url}
    form = {"decision": "approved", "answer": "yes\r\nplease"}
    with signed_in(waiting, ADMIN) as client:
        for headers in ({}, {"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            assert client.post("/hitl/s1", data=form, headers=headers).status_code == 403
        done = client.post("/hitl/s1", data=form, headers=own)
        assert (done.status_code, done.headers["location"]) == (303, "/hitl")
        again = client.post("/hitl/s1", data=form, headers=own)
        assert again.status_code == 409
        assert "approved already by console" in again.text
        back = client.post("/hitl/s2", data={"decision": "rejected", "run": "//x/y"}, headers=own)
        assert (back.status_code, back.headers["location"]) == (303, "/runs/%2F%2Fx%2Fy")
    assert waiting.store.hitl.get("go")["answer"] == "yes\nplease"


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({}, 400), ({"decision": "maybe"}, 400), ({"decision": "answered"}, 400),
        ({"decision": "approved", "answer": "x" * (MOST_TEXT + 1)}, 400),
        ({"decision": "approved", "answer": "x" * MOST_BYTES}, 413),
        ({f"f{number}": "x" for number in range(99)}, 400),
    ],
    ids=lambda value: str(value)[:30],
)  # fmt: skip
def test_a_wrong_form_is_a_page_that_says_so(
    waiting: Running, form: dict[str, str], status: int
) -> None:
    """And the wait stays open."""
    with signed_in(waiting, ADMIN) as client:
        answer = client.post("/hitl/s1", data=form, headers={"Origin": waiting.url})
        assert (answer.status_code, answer.headers["content-type"]) == (
            status, "text/html; charset=utf-8",
        )  # fmt: skip
        assert (
            client.post(
                "/hitl/none", data={"decision": "approved"}, headers={"Origin": waiting.url}
            ).status_code
            == 404
        )
    assert waiting.store.hitl.waiting() == 2


def test_a_viewers_session_sees_the_command_and_no_form(waiting: Running) -> None:
    """On the page of waits and on the run's; a form it sends all the same is refused."""
    with signed_in(waiting, VIEWER) as client:
        for path in ("/hitl", "/runs/r1"):
            page = client.get(path).text
            assert "otel-agents hitl resolve go --approve --server" in page
            assert "<textarea" not in page
        form = {"decision": "approved"}
        answer = client.post("/hitl/s1", data=form, headers={"Origin": waiting.url})
        assert answer.status_code == 403
    with signed_in(waiting, ADMIN) as client:
        assert client.get("/hitl").text.count("<textarea") == 2
