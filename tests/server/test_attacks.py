"""Attacks on the API and the console's port, each beside a request that is let through."""

from __future__ import annotations

import re
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import httpx
import pytest

from otel_agents.server import protocols
from otel_agents.server.gate import HEADERS, LONGEST_URL
from otel_agents.store import Batch

from .kit import ADMIN, INGEST, VIEWER, fill, raw, told, trace_request

if TYPE_CHECKING:
    from .conftest import Running, Serving

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE")


def filters(running: Running) -> list[tuple[str, str]]:
    """Return every list and its text parameters, from the document."""
    found = []
    document = running.client.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        if "{" not in path:
            for parameter in methods.get("get", {}).get("parameters", ()):
                if parameter["name"] not in {"limit", "after", "severity", "stuck"}:
                    found.append((path, parameter["name"]))
    assert len(found) > 40
    return found


INJECTIONS: Final = (
    "' OR 1=1 --", '" OR ""="', "'; DROP TABLE runs; --", "%' UNION SELECT token FROM settings --",
    "1) OR (1=1", "\\'; DELETE FROM runs; --", "$1", "?1", ":name", "%(x)s",
)  # fmt: skip


def test_sql_in_filters_is_text(kept_server: Running) -> None:
    """Attack 22: nothing in a filter or cursor is more than a text that nothing matches."""
    client = kept_server.client

    def ids() -> list[str]:
        return [run["run_id"] for run in client.get("/api/runs").json()["data"]["items"]]

    before = ids()
    for path, name in filters(kept_server):
        for text in INJECTIONS:
            answer = client.get(path, params={name: text})
            assert answer.status_code in {200, 400}, (path, name, text, answer.text)
            if answer.status_code == 200 and name not in {"from", "to"}:
                data = answer.json()["data"]
                found = data["counts"]["events"] if "counts" in data else len(data["items"])
                assert found == 0, (path, name, text)

    assert ids() == before
    assert client.get("/api/runs", params={"q": "run-1"}).json()["data"]["items"]


def test_sql_in_a_token_is_a_wrong_token(guarded: Running) -> None:
    """Attack 22, in Authorization: it is a wrong token like any other."""
    for text in INJECTIONS:
        answer = guarded.client.get("/api/runs", headers={"Authorization": f"Bearer {text}"})
        assert answer.status_code == 401
    good = guarded.client.get("/api/runs", headers={"Authorization": f"Bearer {VIEWER}"})
    assert good.status_code == 200


@pytest.mark.parametrize("text", ["%", "_", "%_" * 400, "*", "[a-z]*", "(a+)+$", "!%", "\\%"])
def test_patterns_in_a_search_are_text(kept_server: Running, text: str) -> None:
    """Attack 23: what a database or a regular expression takes for a pattern is text."""
    odd = {"%": 1}  # the id of one run holds a percent sign
    answer = kept_server.client.get("/api/runs", params={"q": text})

    assert answer.status_code == 200
    assert len(answer.json()["data"]["items"]) == odd.get(text, 0)


def test_pages_are_bounded(open_server: Running) -> None:
    """Attack 24: no parameter makes an answer longer than 500 rows."""
    fill(open_server.store, Batch(signals=[s for n in range(60) for s in told(f"many-{n}", n)]))

    def ask(query: str) -> httpx.Response:
        return open_server.client.get(f"/api/runs?{query}")

    assert ask("limit=1000000000").status_code == 400
    assert ask("offset=1000000000000").status_code == 400
    assert len(ask("from=0&to=253402300799").json()["data"]["items"]) == 50
    assert len(ask("limit=500").json()["data"]["items"]) == 64


TRAVERSALS: Final = (
    "..", "../..", "../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e", "%2e%2e%2f%2e%2e",
    "..%252f..%252fetc%252fpasswd", "..\\..\\windows", "..%5c..", "%00", "run-1%00.txt",
    "/etc/passwd", "%2fetc%2fpasswd", "file:%2f%2f%2fetc%2fpasswd", "....//", "~root",
)  # fmt: skip


@pytest.mark.parametrize("text", TRAVERSALS)
@pytest.mark.parametrize(
    "base", ["/api/runs/", "/api/agents/", "/api/traces/", "/static/", "/runs/", "STATIC/"]
)
def test_paths_lead_nowhere(kept_server: Running, base: str, text: str) -> None:
    """Attack 25: an id is looked up and nothing is opened, and static files stay in their place."""
    if base == "STATIC/":
        page = kept_server.client.get("/login").text
        found = re.search(r"/static/\w+/", page)
        assert found is not None
        base = found[0]
        assert raw(kept_server.url, "GET", base + "vendor/htmx.min.js").status == 200
    answer = raw(kept_server.url, "GET", base + text)

    assert answer.status in {400, 404}
    assert b"root:" not in answer.body


def test_deleting_decodes_once(guarded: Running) -> None:
    """Attack 26: an id encoded twice is another id, and its run is the only one to go."""
    fill(guarded.store, Batch(signals=[*told("a/b", 5), *told("a%2Fb", 5)]))
    headers = {"Authorization": f"Bearer {ADMIN}"}

    def delete(target: str) -> int:
        return raw(guarded.url, "DELETE", f"/api/runs/{target}", headers).status

    def left() -> set[str]:
        items = guarded.client.get("/api/runs", headers=headers).json()["data"]["items"]
        return {item["run_id"] for item in items} & {"a/b", "a%2Fb"}

    assert delete("a%25252Fb") == 404
    assert delete("..%2Fruns%2Fa%2Fb") == 404
    assert left() == {"a/b", "a%2Fb"}
    assert delete("a%252Fb") == 200
    assert left() == {"a/b"}
    assert delete("a%2Fb") == 200
    assert left() == set()


@pytest.mark.parametrize("method", METHODS)
def test_a_rebound_name_reaches_nothing(kept_server: Running, method: str) -> None:
    """Attack 27: whatever the method and path, another host's name is refused with 421."""
    for host in ("evil.example", "localhost.evil.example:3010", "0.0.0.0", "[::2]", "a b"):  # noqa: S104
        for path in ("/", "/api/runs", "/healthz", "/login", "/static/x", "/nothing"):
            answer = raw(kept_server.url, method, path, {"Host": host})
            assert answer.status in {400, 421}, (host, path)
    assert raw(kept_server.url, "GET", "/healthz").status == 200
    assert raw(kept_server.url, "GET", "/healthz", {"Host": "localhost:1"}).status == 200


def test_nothing_is_shared_with_other_origins(kept_server: Running) -> None:
    """Attack 33: no answer has a CORS header, to no request and at no listener."""
    own = {"Origin": kept_server.url}
    foreign = {"Origin": "http://evil.example"}
    preflight = {**foreign, "Access-Control-Request-Method": "POST"}
    for headers in (own, foreign, preflight, {"Origin": "null"}):
        for method, url in (
            ("GET", f"{kept_server.url}/api/runs"),
            ("OPTIONS", f"{kept_server.url}/api/runs"),
            ("DELETE", f"{kept_server.url}/api/runs/run-1"),
            ("OPTIONS", f"{kept_server.addresses.otlp_http}/v1/traces"),
            ("POST", f"{kept_server.addresses.otlp_http}/v1/traces"),
        ):
            answer = httpx.request(method, url, headers=headers, trust_env=False)
            shared = [name for name in answer.headers if name.startswith("access-control")]
            assert shared == []


def test_only_the_client_module_is_shared_with_pages_from_disk(kept_server: Running) -> None:
    """Attack 33: it holds no data, a page opened from disk may import it, and no site may."""
    for origin, shared in (("null", "null"), ("http://evil.example", None), (None, None)):
        headers = {} if origin is None else {"Origin": origin}
        for path, allowed in (("/static/feed.js", shared), ("/runs", None)):
            answer = httpx.get(f"{kept_server.url}{path}", headers=headers, trust_env=False)
            assert answer.status_code == 200
            assert answer.headers.get("access-control-allow-origin") == allowed


def test_every_answer_has_safe_headers(kept_server: Running) -> None:
    """Pages, files, API, errors and what is no HTTP at all bear the same policy."""
    for method, target, headers in (
        ("GET", "/api/runs", {}),
        ("GET", "/runs", {"Accept": "text/html"}),
        ("GET", "/nothing", {"Accept": "text/html"}),
        ("GET", "/nothing", {}),
        ("DELETE", "/api/runs/run-1", {}),
        ("GET", "/healthz", {"Host": "evil.example"}),
        ("GET", "/" + "a" * LONGEST_URL, {}),
        ("GET", "/" + "a" * 100_000, {}),
        ("GET", "/api/runs/run-1/export", {}),
    ):
        answer = raw(kept_server.url, method, target, headers)
        found = {name: answer.headers.get(name) for name in HEADERS}
        assert found == HEADERS, (method, target[:20], answer.status)
    policy = HEADERS["content-security-policy"]
    assert "unsafe" not in policy
    assert "*" not in policy


def test_ingest_sends_and_reads_nothing(guarded: Running) -> None:
    """Attack 35: the ingest token is for OTLP alone, and no other token but the admin's sends."""
    body = trace_request("sent").SerializeToString()

    def send(token: str | None) -> int:
        headers = {"Content-Type": "application/x-protobuf"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        url = f"{guarded.addresses.otlp_http}/v1/traces"
        return httpx.post(url, content=body, headers=headers, trust_env=False).status_code

    assert [send(token) for token in (None, "a-guess", VIEWER)] == [401, 401, 401]
    assert [send(token) for token in (INGEST, ADMIN)] == [200, 200]
    headers = {"Authorization": f"Bearer {INGEST}"}
    assert guarded.client.get("/api/runs", headers=headers).status_code == 403


def test_guessing_is_slowed_down_where_telemetry_comes_in(guarded: Running) -> None:
    """Attack 35: after twenty wrong tokens the receiver answers 429, and the console goes on."""
    url = f"{guarded.addresses.otlp_http}/v1/traces"

    def guess(token: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        return httpx.post(url, content=b"{}", headers=headers, trust_env=False)

    assert [guess(str(number)).status_code for number in range(20)] == [401] * 20
    late = guess(INGEST)
    assert late.status_code == 429
    assert int(late.headers["retry-after"]) > 0
    good = guarded.client.get("/api/runs", headers={"Authorization": f"Bearer {VIEWER}"})
    assert good.status_code == 200


def spoken(running: Running, data: bytes) -> bytes:
    """Send bytes as they are; return what comes back until the server hangs up."""
    address = httpx.URL(running.url)
    with socket.create_connection((address.host, address.port or 80), timeout=20) as made:
        found = b""
        try:
            made.sendall(data)
            while chunk := made.recv(1 << 16):
                found += chunk
        except (ConnectionResetError, BrokenPipeError):
            pass
        return found


@pytest.mark.parametrize(
    "target",
    [b"//", b"http://[", b"*", b"/%", b"/%zz", b"/%ff%fe", b"/api/runs/%ff", b"http://evil.example/",
     b"/api/runs?%ff=%00", b"/api/runs?&&&=&=", b"/\x01", b"/a b", b"\xff\xfe", b""],
)  # fmt: skip
def test_malformed_targets_are_refused(
    kept_server: Running, monkeypatch: pytest.MonkeyPatch, target: bytes
) -> None:
    """Attack 36: no request line ends the process, or makes it fail."""
    monkeypatch.setattr(protocols, "HEAD_SECONDS", 0.5)
    host = kept_server.url.removeprefix("http://").encode()
    answer = spoken(
        kept_server,
        b"GET " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n",
    )

    assert re.match(rb"HTTP/1\.1 (400|404|405|421) ", answer), answer[:200]
    assert kept_server.client.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    "data",
    [
        b"GET /" + b"a" * (1 << 20) + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X-A: b\r\n" * 10_000 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"b" * (1 << 20) + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=["long target", "many headers", "long header", "two hosts", "no host", "two lengths",
         "negative length", "tls", "http2"],
)  # fmt: skip
def test_what_is_too_much_or_no_http_is_refused(
    kept_server: Running, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    """Attack 36: such a request is 400, or the connection is closed, and the next one is served."""
    monkeypatch.setattr(protocols, "HEAD_SECONDS", 0.5)
    answer = spoken(kept_server, data)

    assert answer == b"" or re.match(rb"HTTP/1\.1 4(00|14|21|31) ", answer), answer[:200]
    assert kept_server.client.get("/healthz").status_code == 200


def test_half_a_request_is_not_waited_for(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack 7: who does not finish the head of a request is cut off; others are served."""
    monkeypatch.setattr(protocols, "HEAD_SECONDS", 0.3)
    running = serving()
    address = httpx.URL(running.url)
    halves: list[Any] = []
    for _ in range(20):
        half = socket.create_connection((address.host, address.port or 80), timeout=20)
        half.sendall(b"GET / HTTP/1.1\r\nHost: local")
        halves.append(half)

    assert running.client.get("/healthz").status_code == 200
    for half in halves:
        with suppress(ConnectionResetError):
            assert half.recv(100) == b""
        half.close()


def test_an_oversized_form_is_refused(guarded: Running) -> None:
    """The sign-in form takes a token, and not a body without end."""
    signed = {"Origin": guarded.url}
    answer = guarded.client.post("/login", data={"token": "x" * 20_000}, headers=signed)

    assert answer.status_code == 413
    good = guarded.client.post("/login", data={"token": VIEWER}, headers=signed)
    assert good.status_code == 303


def test_a_long_id_is_not_found(open_server: Running) -> None:
    """An id of thousands of characters is one that is not there."""
    answer = open_server.client.get("/api/runs/" + quote("é" * 2000))

    assert answer.status_code == 404
