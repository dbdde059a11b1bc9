"""Who may do what: a matrix over the application's own table of routes, so none is left out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.testclient import TestClient

from otel_agents.server.app import bare_app
from otel_agents.server.gate import Gate
from otel_agents.server.guard import Guard
from otel_agents.server.tokens import Guesses
from otel_agents.store import open_store

from .kit import ADMIN, INGEST, OPEN, TOKENS, TRACE, VIEWER, fill

if TYPE_CHECKING:
    from pathlib import Path

    from otel_agents.settings import Settings

CREDENTIALS: Final = {
    "none": None, "wrong": "a-guess", "viewer": VIEWER, "ingest": INGEST, "admin": ADMIN,
}  # fmt: skip
CHANGING: Final = ("POST", "PUT", "PATCH", "DELETE")
PUBLIC: Final = {"/healthz", "/readyz", "/login"}
SIGNING: Final = {"/login", "/logout"}
SENT: Final = ("POST", "/api/alerts")
REFUSED: Final = {401, 403, 421, 429}
# Requests that no browser sends: it names the page that does.
PLAIN: Final[tuple[dict[str, str], ...]] = ({}, {"Content-Type": "text/plain"})


class Guarded(NamedTuple):
    """An application with its gate, a client of it, and its guard."""

    client: TestClient
    guard: Guard
    routes: list[BaseRoute]

    def ask(self, method: str, path: str, token: str | None, **headers: str) -> int:
        """Return the status of a request."""
        self.guard.guesses = Guesses()  # many wrong tokens are the point here
        self.client.cookies.clear()
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return self.client.request(
            method, path, headers=headers, follow_redirects=False
        ).status_code


def made(settings: Settings, directory: Path) -> Iterator[Guarded]:
    store = open_store(f"sqlite:///{directory}/matrix.db")
    fill(store)
    guard = Guard(settings, "127.0.0.1")
    app = bare_app(store, guard)
    client = TestClient(
        Gate(app, guard), base_url="http://127.0.0.1:3010", raise_server_exceptions=False
    )
    yield Guarded(client, guard, list(app.routes))
    store.close()


@pytest.fixture(scope="module")
def with_tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    yield from made(TOKENS, tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    yield from made(OPEN, tmp_path_factory.mktemp("open"))


def table(routes: list[BaseRoute]) -> list[tuple[str, str]]:
    """Return every method and path, with ids that are there, or not for what deletes."""
    found = []
    for route in routes:
        if isinstance(route, Mount):
            found.append(("GET", f"{route.path}/vendor/htmx.min.js"))
        elif isinstance(route, Route):
            for method in sorted(route.methods or ()):
                run = "none" if method == "DELETE" else "run-1"
                path = route.path_format.format(
                    run_id=run,
                    agent_id="run-1-plan-agent",
                    trace_id=TRACE,
                    name="X",
                    wait_id="wait-1",
                )
                found.append((method, path))
        else:
            assert isinstance(route, WebSocketRoute), f"{route} is not in the matrix"
            assert route.path == "/ws"  # test_live has its own
    return found


def expected(method: str, path: str, who: str, *, tokens: bool) -> set[int] | None:
    """Return the statuses of a refusal that is due, or None where the request is let in."""
    if (method, path) == SENT and (not tokens or who == "ingest"):
        return None
    if method not in {"GET", "HEAD"}:
        if not tokens or who == "none":
            return {403}
        if path in SIGNING:
            return None
        return None if who == "admin" else {401} if who == "wrong" else {403}
    if not tokens or path in PUBLIC or path.startswith("/static/"):
        return None
    if who in {"none", "wrong"}:
        return {401}
    if who == "ingest":
        return {403}
    if who == "viewer" and path.startswith(("/admin", "/api/admin")):
        return {403}
    return None


@pytest.mark.parametrize("who", CREDENTIALS)
@pytest.mark.parametrize("tokens", [True, False], ids=["tokens", "open"])
def test_each_route_lets_in_whom_it_should(
    with_tokens: Guarded, without: Guarded, tokens: bool, who: str
) -> None:
    """Every route, with every kind of credential, on a server with tokens and on an open one."""
    server = with_tokens if tokens else without
    rows = table(server.routes)
    wrong = []
    for method, path in rows:
        status = server.ask(method, path, CREDENTIALS[who])
        due = expected(method, path, who, tokens=tokens)
        if due is not None:
            right = status in due
        else:
            # `POST /login` with no form is let in, and then says that there is no token in it.
            right = status < 500 and (status not in REFUSED or path in SIGNING)
        if not right:
            wrong.append((method, path, status, due))

    assert wrong == []
    assert len(rows) > 40


@pytest.mark.parametrize("tokens", [True, False], ids=["tokens", "open"])
@pytest.mark.parametrize("method", CHANGING)
def test_nothing_changes_without_a_token(
    with_tokens: Guarded, without: Guarded, tokens: bool, method: str
) -> None:
    """A form, a script of a foreign page, or a plain request without Origin: each is 403."""
    server = with_tokens if tokens else without
    shapes = (
        *PLAIN,
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:3010"},
    )
    paths = sorted({path for _, path in table(server.routes)} | {"/ws", "/nothing"})
    found = {
        (path, str(shape)): status
        for path in paths
        for shape in shapes
        if (status := server.ask(method, path, None, **shape)) != 403
    }

    # To an open server every program on this machine may send, and no page of a browser.
    let_in = {} if tokens or method != SENT[0] else {(SENT[1], str(shape)): 400 for shape in PLAIN}
    assert found == let_in


def test_a_foreign_page_cannot_borrow_a_token(with_tokens: Guarded) -> None:
    """Even a request that bears the admin's token is refused if a foreign page sent it."""
    path = "/api/runs/run-2"

    assert with_tokens.ask("DELETE", path, ADMIN, Origin="http://evil.example") == 403
    assert with_tokens.ask("DELETE", path, ADMIN, Origin="http://127.0.0.1:3010") == 200


def test_an_unknown_path_is_guarded_too(with_tokens: Guarded) -> None:
    """What is not in the table is refused before it is looked for."""
    assert with_tokens.ask("GET", "/api/future", None) == 401
    assert with_tokens.ask("GET", "/admin/future", VIEWER) == 403
    assert with_tokens.ask("GET", "/api/future", VIEWER) == 404


def test_an_encoded_path_is_guarded_as_what_it_is(with_tokens: Guarded) -> None:
    """Spelling a path with percent signs changes neither where it leads nor who may go there."""
    for path in ("/api/%61dmin/runtime/status", "/%61pi/admin/runtime/status"):
        assert with_tokens.ask("GET", path, VIEWER) == 403
        assert with_tokens.ask("GET", path, ADMIN) == 200


def test_a_person_is_sent_to_sign_in(with_tokens: Guarded) -> None:
    """A page without a session leads to the sign-in page, and an API call does not."""
    client = with_tokens.client
    client.cookies.clear()
    headers = {"Accept": "text/html"}
    page = client.get("/runs?status=failed", headers=headers, follow_redirects=False)

    assert page.status_code == 303
    assert page.headers["location"] == "/login?next=%2Fruns%3Fstatus%3Dfailed"
    assert client.get("/api/runs", headers=headers, follow_redirects=False).status_code == 401


SIGNED: Final = {"Origin": "http://127.0.0.1:3010"}


def test_a_session_reads_and_ends(with_tokens: Guarded) -> None:
    """Signing in gives a cookie that reads, is no token, and is worthless after signing out."""
    client = with_tokens.client
    client.cookies.clear()
    form = {"token": VIEWER, "next": "/agents"}
    answer = client.post("/login", data=form, headers=SIGNED, follow_redirects=False)
    cookie = answer.headers["set-cookie"]
    session = client.cookies["otel_agents_session"]

    assert (answer.status_code, answer.headers["location"]) == (303, "/agents")
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert VIEWER not in cookie
    assert client.get("/api/runs").status_code == 200
    assert client.get("/api/admin/runtime/status").status_code == 403
    assert client.delete("/api/runs/run-2", headers=SIGNED).status_code == 403
    assert client.post("/logout", headers=SIGNED, follow_redirects=False).status_code == 303
    assert "otel_agents_session" not in client.cookies
    client.cookies["otel_agents_session"] = session
    assert client.get("/api/runs").status_code == 401


def test_an_admins_session_changes_from_our_own_pages_only(with_tokens: Guarded) -> None:
    """A cookie alone deletes nothing: the browser has to say that the page is ours."""
    client = with_tokens.client
    client.cookies.clear()
    client.post("/login", data={"token": ADMIN}, headers=SIGNED, follow_redirects=False)

    assert client.delete("/api/runs/run-3").status_code == 403
    assert client.delete("/api/runs/run-3", headers={"Origin": "null"}).status_code == 403
    own = {"Sec-Fetch-Site": "same-origin"}
    assert client.delete("/api/runs/run-3", headers=own).status_code == 200
    client.cookies.clear()


@pytest.mark.parametrize("token", ["a-guess", "", INGEST])
def test_signing_in_needs_a_token_that_reads(with_tokens: Guarded, token: str) -> None:
    """A wrong token, none, and one that may only send give no session."""
    client = with_tokens.client
    client.cookies.clear()
    answer = client.post("/login", data={"token": token}, headers=SIGNED, follow_redirects=False)

    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "path", ["//evil.example", "/\\evil.example", "https://evil.example", "runs", "/a\r\nb"]
)
def test_signing_in_leads_nowhere_else(with_tokens: Guarded, path: str) -> None:
    """Where to go after signing in is a path of this server, or the runs."""
    client = with_tokens.client
    form = {"token": VIEWER, "next": path}
    answer = client.post("/login", data=form, headers=SIGNED, follow_redirects=False)

    assert answer.headers["location"] == "/runs"
    client.cookies.clear()


def test_guessing_is_slowed_down(with_tokens: Guarded) -> None:
    """After twenty wrong tokens in a minute no token of that client is looked at."""
    guard, client = with_tokens.guard, with_tokens.client
    client.cookies.clear()
    guard.guesses = Guesses()

    def ask(token: str) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        return client.get("/api/runs", headers=headers).status_code

    assert [ask(f"guess-{number}") for number in range(21)] == [401] * 20 + [429]
    assert ask(ADMIN) == 429
    guard.guesses = Guesses()
    assert ask(ADMIN) == 200
