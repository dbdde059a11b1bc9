"""Tokens, sessions, guesses, hosts and origins, each by itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from otel_agents.errors import SettingsError
from otel_agents.server.guard import Guard
from otel_agents.server.origins import Hosts, is_foreign, is_own, same_origin
from otel_agents.server.tokens import GUESSES, Guesses, Sessions, Tokens
from otel_agents.settings import Settings

from .kit import ADMIN, OPEN, TOKENS

KEY = b"k" * 64


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@given(st.text())
def test_only_a_token_itself_is_that_token(text: str) -> None:
    """Any other text is none, whatever characters it holds."""
    tokens = Tokens({"admin": ADMIN, "viewer": "x"})

    assert tokens.role(text) == {ADMIN: "admin", "x": "viewer"}.get(text)


def test_every_token_is_compared_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first match does not end the comparison: its time would tell which it was."""
    import hmac

    seen = []
    compare = hmac.compare_digest
    tokens = Tokens({"admin": "a", "viewer": "v", "ingest": "i"})
    monkeypatch.setattr(hmac, "compare_digest", lambda x, y: seen.append(1) or compare(x, y))
    for token in ("a", "i", "none"):
        seen.clear()
        tokens.role(token)
        assert len(seen) == 3


def test_a_session_ends_in_time() -> None:
    """A session is good until it expires, and not after."""
    clock = Clock()
    sessions = Sessions(KEY, clock)
    session = sessions.issue("viewer")

    assert sessions.role(session) == "viewer"
    clock.now += 12 * 3600 - 1
    assert sessions.role(session) == "viewer"
    clock.now += 2
    assert sessions.role(session) is None


def test_a_session_outlives_a_restart_but_not_its_tokens() -> None:
    """The key follows from the tokens: others make every session worthless."""
    session = Sessions(Tokens({"admin": "a"}).secret()).issue("admin")

    assert Sessions(Tokens({"admin": "a"}).secret()).role(session) == "admin"
    assert Sessions(Tokens({"admin": "b"}).secret()).role(session) is None


@given(st.text(max_size=80))
def test_what_is_not_signed_is_no_session(text: str) -> None:
    """No text that was not issued is a session, and none makes the check fail."""
    assert Sessions(KEY).role(text) is None
    assert Sessions(KEY).role(f"admin.99999999999.{text}") is None


def test_a_viewers_session_cannot_be_raised() -> None:
    """The role is signed too."""
    session = Sessions(KEY).issue("viewer")

    assert Sessions(KEY).role(session.replace("viewer", "admin")) is None


def test_guesses_are_forgotten_after_a_minute() -> None:
    """A client waits until its guesses are a minute old; others do not wait."""
    clock = Clock()
    guesses = Guesses(clock)
    for _ in range(GUESSES):
        assert guesses.wait("a") == 0
        guesses.wrong("a")

    assert guesses.wait("a") == 60
    assert guesses.wait("b") == 0
    clock.now += 61
    assert guesses.wait("a") == 0


def test_guesses_take_bounded_memory() -> None:
    """Clients without number leave a bounded table."""
    guesses = Guesses()
    for number in range(5000):
        guesses.wrong(str(number))

    assert len(guesses._wrong) == 1024


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:3010", "localhost.:3010", "127.0.0.1", "127.0.0.1:80", "127.8.8.8",
     "[::1]", "[::1]:3010"],
)  # fmt: skip
def test_a_loopback_server_answers_to_its_own_names(host: str) -> None:
    """The names and addresses of this machine as seen from itself."""
    assert Hosts("127.0.0.1").knows(host)


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "0.0.0.0", "10.0.0.1",  # noqa: S104
     "localhost:", "localhost:3010:1", "local host", "[::1", "::1", "[::2]", "a@localhost",
     "localhost/evil", "localhost,evil", "2130706433"],
)  # fmt: skip
def test_a_loopback_server_answers_to_nothing_else(host: str) -> None:
    """Any other name may be one that an attacker made lead here."""
    assert not Hosts("127.0.0.1").knows(host)


def test_a_bound_address_and_given_names_are_known() -> None:
    """One address answers to itself and what was named; all addresses to any name."""
    assert Hosts("10.0.0.5").knows("10.0.0.5:3010")
    assert not Hosts("10.0.0.5").knows("evil.example")
    assert Hosts("10.0.0.5", ["box.example"]).knows("box.example:3010")
    assert Hosts("0.0.0.0").knows("box.example")  # noqa: S104
    assert not Hosts("0.0.0.0", ["box.example"]).knows("evil.example")  # noqa: S104


@pytest.mark.parametrize(
    ("origin", "same"),
    [
        ("http://localhost:3010", True),
        ("https://LOCALHOST:3010", True),
        ("http://localhost", False),
        ("http://localhost:3011", False),
        ("http://localhost.evil.example:3010", False),
        ("http://localhost:3010.evil.example", False),
        ("http://localhost:3010@evil.example", False),
        ("null", False),
        ("", False),
        ("file://localhost:3010", False),
    ],
)
def test_an_origin_is_ours_or_foreign(origin: str, same: bool) -> None:
    """Host and port have to be the same, wholly."""
    assert same_origin(origin, "localhost:3010") is same


def test_what_a_browser_says_of_a_page() -> None:
    """Nothing said is neither ours nor foreign."""
    ours = {"host": "a:1", "origin": "http://a:1"}

    assert (is_own(Headers(ours)), is_foreign(Headers(ours))) == (True, False)
    assert (is_own(Headers({"host": "a:1"})), is_foreign(Headers({"host": "a:1"}))) == (
        False, False,
    )  # fmt: skip
    crossed = {**ours, "sec-fetch-site": "cross-site"}
    assert (is_own(Headers(crossed)), is_foreign(Headers(crossed))) == (False, True)


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::", "192.168.1.4", "box.example"])  # noqa: S104
def test_others_are_not_let_in_without_a_token(host: str) -> None:
    """An address that others can reach needs a token; the message says which to set."""
    with pytest.raises(SettingsError, match="OTEL_AGENTS_TOKEN"):
        Guard(OPEN, host)
    assert not Guard(TOKENS, host).open


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.53"])
def test_loopback_needs_no_token(host: str) -> None:
    """This machine's own addresses are open without one."""
    assert Guard(OPEN, host).open


def test_who_may_send() -> None:
    """Telemetry is taken with the ingest or the admin's token, and from any program without."""
    guard = Guard(TOKENS, "127.0.0.1")

    def sends(token: str) -> bool:
        return guard.may_send({"authorization": f"Bearer {token}"})

    assert sends(TOKENS.ingest_token or "")
    assert sends(TOKENS.token or "")
    assert not sends(TOKENS.viewer_token or "")
    assert not sends("a-guess")
    assert not guard.may_send({})
    opened = Guard(Settings(), "127.0.0.1")
    assert opened.may_send({})
    assert opened.may_send({"host": "127.0.0.1:4318"})
    assert not opened.may_send({"host": "evil.example"})
    assert not opened.may_send({"host": "127.0.0.1:4318", "origin": "http://evil.example"})
