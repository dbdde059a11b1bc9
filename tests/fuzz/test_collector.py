"""Our receiver beside the real collector: what one takes the other takes, but for a list."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.fuzz.collector import DEPARTURES, Both, both, departure, program, requests

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.xdist_group("chaos")

REQUESTS = 400
_SPAN = '{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"%s","spanId":"%s","%s":%s}]}]}]}'
_IDS = ("5b" * 16, "0a" * 8)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """Give the collector and our receiver; skipped without it, and a failure where `CI` is set."""
    found = program()
    if found is None:
        reason = "the collector is missing: run deploy/native/install collector"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with both(found, tmp_path_factory.mktemp("collector")) as running:
        yield running


def test_what_the_collector_takes_we_take(asked: Both) -> None:
    """Of some hundred requests, good and changed, each has the same class and number of items.

    Where it has not, one of the documented departures is why.
    """
    seen: Counter[str | None] = Counter()
    for data in requests(REQUESTS):
        ours, theirs = asked.ask(data)
        why = departure(data, ours, theirs)
        assert why is not None, (data, ours, theirs)
        seen[why] += 1

    assert seen[""] > REQUESTS * 3 // 4
    assert len(seen) > 5


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (_SPAN % (*_IDS, "kind", '"SPAN_KIND_SERVER"'), "a name for a number"),
        (_SPAN % (*_IDS, "flags", '" 1"') + " ", ""),
        (_SPAN % (*_IDS, "name", '"a"') + " trailing", "something behind the JSON"),
        (_SPAN % (*_IDS, "", '"a"'), "an empty key"),
        (_SPAN % ("00", _IDS[1], "name", '"a"'), "an id of a wrong length"),
        (_SPAN % (*_IDS, "links", "[null]"), "null in a list"),
        ("", "no body at all"),
        ("{}", ""),
        ("[]", ""),
    ],
    ids=str,
)
def test_where_we_depart_from_it_is_known(asked: Both, data: str, name: str) -> None:
    """The collector departs from the specification here; we do as that says, or say why not."""
    given = b"traces json\n" + data.encode()
    ours, theirs = asked.ask(given)

    found = departure(given, ours, theirs)
    assert found is not None, (ours, theirs)
    assert found.startswith(name)
    assert bool(found) == bool(name)


def test_every_departure_has_a_name_of_its_own() -> None:
    """A list that says the same twice hides a difference."""
    names = [(one.name, one.ours, one.theirs) for one in DEPARTURES]

    assert len(set(names)) == len(names)
