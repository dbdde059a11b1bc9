"""With the spool on, no backend changes a program, holds up its end, or loses what it told."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from .kit import SECRET, Account
from .program import AGENTS, RUNS

if TYPE_CHECKING:
    from collections.abc import Callable

# One worker runs them all: their programs are begun together.
pytestmark = pytest.mark.xdist_group("backends")

# A property, not a benchmark: 2 s are promised, the SDK's own exporters take 10 to 30.
_EXIT_SECONDS: Final = 8.0
_MOST_GROWN: Final = 64.0  # MiB
_SPANS: Final = AGENTS * RUNS * 5
HTTP: Final = "http/protobuf"


class Case(NamedTuple):
    """A beast met by a program; `zero_code` is one started with `opentelemetry-instrument`."""

    beast: str
    protocol: str
    zero_code: bool = False
    tls: bool = False

    @property
    def name(self) -> str:
        """What a test's id shows."""
        return f"{self.protocol.partition('/')[0]}-{self.beast}"


def cases(protocol: str, *beasts: str, tls: bool = False) -> list[Case]:
    """Return cases; the kinds of program take turns."""
    return [
        Case(beast, protocol, zero_code=number % 3 == 0, tls=tls)
        for number, beast in enumerate(beasts)
    ]


# All that these backends got, they refused for now: everything has to come later, and once.
LATER: Final = [
    *cases(HTTP, "refused", "backlog", "blackhole", "slow-read", "503", "503-retry", "flaky"),
    *cases(HTTP, "429-seconds", "429-date", "429-huge", "429-garbage", "dns", "close-each"),
    *cases(HTTP, "tls-self-signed", "tls-wrong-host", "tls-expired", "plain", tls=True),
    *cases("grpc", "refused", "backlog", "blackhole", "hang", "unavailable", "unavailable-retry"),
    *cases("grpc", "unavailable-huge", "exhausted-retry", "flaky", "dns"),
    *cases("grpc", "tls-self-signed", "tls-wrong-host", "plain", tls=True),
]
# These ask for a pause that is longer than the program lives.
_PAUSED: Final = {
    *("503-retry", "429-seconds", "429-date", "429-huge"),
    *("unavailable-retry", "unavailable-huge", "exhausted-retry"),
}
# These have taken what they got, and then answered so that a client cannot always know it.
TAKEN: Final = [
    *cases(HTTP, "slow-answer", "huge-reply", "gzip-bomb", "endless-headers", "endless-continue"),
    *cases(HTTP, "endless-body", "garbage", "html", "reset"),
    *cases("grpc", "huge-reply", "gzip-bomb", "garbage", "reset"),
]
# Of these the client knows from the answer's status that they have taken it.
_SURE: Final = {
    *("http-huge-reply", "http-gzip-bomb", "http-garbage", "http-html"),
    "grpc-garbage",  # a huge reply comes too late where the machine is busy: see test_sender.py
}
# These said no for good: to all that they got, or to a half.
REFUSED: Final = [
    *cases(HTTP, "400", "401", "404", "501", "redirect-301", "redirect-307", "redirect-308"),
    *cases("grpc", "unimplemented", "invalid", "unauthenticated", "exhausted"),
]
POISON: Final = cases(HTTP, "poison")
PARTIAL: Final = [*cases(HTTP, "partial"), *cases("grpc", "partial")]
HEALTHY: Final = [
    *cases(HTTP, "healthy"),
    Case("healthy", HTTP, tls=True),
    *cases("grpc", "healthy"),
    *cases(HTTP, "cookies"),
    Case("healthy", "grpc", tls=True),
]
ALL: Final = [*HEALTHY, *LATER, *TAKEN, *REFUSED, *POISON, *PARTIAL]


def of(chosen: list[Case]) -> pytest.MarkDecorator:
    """Run a test for these cases."""
    return pytest.mark.parametrize(
        "case", chosen, ids=[f"{one.name}{'-tls' * one.tls}" for one in chosen]
    )


@of(ALL)
def test_the_program_is_as_without_telemetry(
    accounts: Callable[[Case], Account], case: Case
) -> None:
    """A program says the same and exits with the same code, whatever its backend does."""
    found = accounts(case)

    assert found.ended.output == f"ready\nsold {AGENTS * RUNS}\ndone\n"
    assert found.ended.code == 3
    assert "Traceback" not in found.ended.errors


@of(ALL)
def test_the_program_ends_soon(accounts: Callable[[Case], Account], case: Case) -> None:
    """From its last line on, a program is not held up as the SDK's exporters do."""
    assert accounts(case).ended.exit_seconds < _EXIT_SECONDS


@of(ALL)
def test_no_reply_grows_the_program(accounts: Callable[[Case], Account], case: Case) -> None:
    """A reply of 512 MiB, or one without an end, costs a program little memory."""
    assert accounts(case).ended.grown_mib < _MOST_GROWN


@of(ALL)
def test_the_account_is_exact(accounts: Callable[[Case], Account], case: Case) -> None:
    """What was told is delivered or counted as dropped, each span and record of it."""
    found = accounts(case)

    assert len(found.told["traces"]) == _SPANS
    for signal in ("traces", "logs"):
        dropped = sum(count for key, count in found.dropped.items() if key[0] == signal)
        missing = found.told[signal] - found.taken(signal)
        assert found.taken(signal) <= found.told[signal]
        assert len(missing) == dropped
        assert missing <= set(found.seen.refused[signal])
    assert found.drain_code == 0
    assert found.status["waiting"] == {"traces": 0, "metrics": 0, "logs": 0}
    assert not found.status["segments"]


@of(HEALTHY)
def test_the_token_goes_to_the_backend(accounts: Callable[[Case], Account], case: Case) -> None:
    """The headers that `OTEL_EXPORTER_OTLP_HEADERS` names stand on each request."""
    found = accounts(case)

    assert {one["token"] for one in found.seen.requests} == {f"Bearer {SECRET}"}


@of([*HEALTHY, *LATER])
def test_what_was_refused_for_now_comes_later_and_once(
    accounts: Callable[[Case], Account], case: Case
) -> None:
    """Nothing is dropped and nothing comes twice where a backend was away, or said `later`."""
    found = accounts(case)

    assert not found.dropped
    assert {signal: found.seen.again(signal) for signal in found.seen.taken} == {
        "traces": set(), "metrics": set(), "logs": set()
    }  # fmt: skip
    assert any(point.startswith("shop.orders") for point in found.taken("metrics"))


@of([one for one in LATER if one.beast not in {"flaky", "close-each"}])
def test_what_could_not_be_sent_waits(accounts: Callable[[Case], Account], case: Case) -> None:
    """While a backend is away, all that a program told waits in its spool."""
    found = accounts(case)

    assert found.waited["traces"] == _SPANS
    assert found.waited["logs"] == len(found.told["logs"])
    assert found.waited["metrics"] > 0
    assert found.drained["sent"] == found.waited
    assert found.met > 0 or case.beast in {"refused", "backlog", "dns"} or case.tls


@of([one for one in LATER if one.beast in _PAUSED])
def test_a_backend_is_left_alone_for_as_long_as_it_asks(
    accounts: Callable[[Case], Account], case: Case
) -> None:
    """After a Retry-After, or a RetryInfo, that is longer than the program, no request comes."""
    requests = accounts(case).seen.requests
    met = Counter(one["signal"] for one in requests if one["beast"] == case.beast)

    # Before a program's first scope its metrics are the SDK's to send.
    assert met - Counter({"metrics": 1}) <= Counter(["logs", "metrics", "traces"])
    assert met["logs"] == met["traces"] == 1


@of([one for one in LATER if one.beast in {"503", "unavailable", "429-garbage"}])
def test_a_backend_that_asks_for_nothing_is_not_pressed(
    accounts: Callable[[Case], Account], case: Case
) -> None:
    """Between two requests that a backend cannot take, there is the better part of a second."""
    requests = accounts(case).seen.requests

    for signal in ("traces", "metrics", "logs"):
        at = [one["at"] for one in requests if one["beast"] == case.beast
              and one["signal"] == signal]  # fmt: skip
        assert at
        assert all(later - earlier > 0.7 for earlier, later in itertools.pairwise(at))


@of(TAKEN)
def test_what_was_taken_is_not_counted_as_dropped(
    accounts: Callable[[Case], Account], case: Case
) -> None:
    """Where a backend took a request and answered badly, nothing is called lost."""
    found = accounts(case)

    assert not found.dropped
    assert any(request["beast"] != "healthy" for request in found.seen.requests)


@of([one for one in TAKEN if one.name in _SURE])
def test_a_success_with_a_bad_body_is_not_sent_again(
    accounts: Callable[[Case], Account], case: Case
) -> None:
    """A success is one whatever follows its status."""
    found = accounts(case)

    assert not found.seen.again("traces") | found.seen.again("logs")


@of(REFUSED)
def test_what_was_refused_for_good_is_counted(
    accounts: Callable[[Case], Account], case: Case
) -> None:
    """What a backend will never take is dropped, and the spool says how much, and why."""
    found = accounts(case)

    assert {reason for _, reason in found.dropped} == {"refused"}
    assert found.dropped["traces", "refused"] > 0


@of([one for one in HEALTHY if one.beast == "cookies"])
def test_no_cookie_is_kept(accounts: Callable[[Case], Account], case: Case) -> None:
    """A backend's cookies, which no server would take back, do not end what it gets."""
    requests = accounts(case).seen.requests
    met = [one["signal"] for one in requests if one["beast"] == case.beast]

    assert met.count("traces") > 1


@of(POISON)
def test_one_bad_item_costs_no_other(accounts: Callable[[Case], Account], case: Case) -> None:
    """Of a batch that is refused for one span's sake, the others are delivered."""
    found = accounts(case)

    assert dict(found.dropped) == {("traces", "refused"): 1}
    assert not found.seen.again("traces")


@of(PARTIAL)
def test_what_was_rejected_is_counted(accounts: Callable[[Case], Account], case: Case) -> None:
    """What a backend rejects of a request that it takes is counted from its answer."""
    found = accounts(case)

    assert {reason for _, reason in found.dropped} == {"rejected"}
    assert found.dropped["traces", "rejected"] == len(found.seen.refused["traces"])


@of([one for one in REFUSED if one.beast.startswith("redirect")])
def test_no_redirect_is_followed(accounts: Callable[[Case], Account], case: Case) -> None:
    """Where a redirect leads to, nobody sees a request, nor a token in its headers."""
    found = accounts(case)

    assert found.canary == []
    assert SECRET not in str(found.status) + found.ended.errors
