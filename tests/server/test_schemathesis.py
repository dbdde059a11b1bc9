"""The OpenAPI document against a running server: each answer is one that the document promises."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any, Final, cast

import pytest
import schemathesis
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from otel_agents.server.app import bare_app
from otel_agents.server.guard import Guard
from otel_agents.server.openapi import document
from otel_agents.server.serve import Options, Server
from otel_agents.server.tokens import Guesses

from .kit import ADMIN, TOKENS, TRACE, fill

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_agents.store import Store

KNOWN: Final = {
    "run_id": "run-1", "agent_id": "run-1-plan-agent", "trace_id": TRACE, "wait_id": "wait-1",
}  # fmt: skip
HEADERS: Final = {"Authorization": f"Bearer {ADMIN}"}


def described() -> dict[str, Any]:
    """Return the document; no store is asked for it."""
    app = bare_app(cast("Store", None), Guard(TOKENS, "127.0.0.1"))
    return document(app, guarded=True)


SCHEMA: Final = schemathesis.openapi.from_dict(described())
OPERATIONS: Final = [found.ok() for found in SCHEMA.get_all_operations()]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Store]]:
    """Serve a filled store with tokens; give the address and the store."""
    store = f"sqlite:///{tmp_path_factory.mktemp('document')}/x.db"
    server = Server(Options("127.0.0.1", 0, 0, 0, store), TOKENS, None)
    addresses = server.start()
    assert server.store is not None
    fill(server.store)
    # Many wrong tokens are a part of this: to the guard an hour passes between any two.
    server.guard.guesses = Guesses(count(0, 3600).__next__)
    yield addresses.console, server.store
    server.stop()


def test_the_document_is_whole() -> None:
    """Every operation and parameter says what it is, and errors have their envelope."""
    assert len(OPERATIONS) > 25
    for path, methods in described()["paths"].items():
        for operation in methods.values():
            assert operation["summary"], path
            assert operation["description"], path
            for parameter in operation.get("parameters", ()):
                schema = parameter["schema"]
                assert parameter.get("description") or schema.get("description"), (path, parameter)
                assert schema.get("title"), (path, parameter)
            for status, answer in operation["responses"].items():
                if status >= "400":
                    (content,) = answer["content"].values()
                    assert content["schema"] == {"$ref": "#/components/schemas/Failed"}


def check(operation: Any, mode: GenerationMode, address: str) -> set[int]:
    """Send requests that the document allows, or does not; hold the answers to it.

    Returns the statuses seen.
    """
    seen: set[int] = set()

    @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode), known=st.booleans())
    def keep(case: schemathesis.Case, known: bool) -> None:
        # What is null or empty is left out when a query is written, and then there is no mistake.
        assume(not any(value in (None, [], {}) for value in case.query.values()))
        if known and mode is GenerationMode.POSITIVE:
            # No made-up id is one of ours, and no made-up text is a cursor.
            for name in case.path_parameters:
                case.path_parameters[name] = "run-2" if case.method == "DELETE" else KNOWN[name]
            if "wait_id" in case.path_parameters and case.method == "POST":
                # "answered" alone says nothing; what is said first counts.
                case.body = {**case.body, "decision": "approved"}
            case.query.pop("cursor", None)
        answer = case.call_and_validate(
            base_url=address, headers=HEADERS, excluded_checks=[positive_data_acceptance]
        )
        seen.add(answer.status_code)

    keep()
    return seen


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda found: found.label)
def test_the_document_is_kept(
    served: tuple[str, Store], operation: Any, mode: GenerationMode
) -> None:
    """No request makes the server fail, or answer as it does not say; wrong ones are refused."""
    if mode is GenerationMode.NEGATIVE and not (
        operation.query or operation.path_parameters or operation.body
    ):
        pytest.skip("there is nothing to get wrong")
    seen = check(operation, mode, served[0])

    assert 429 not in seen
    if mode is GenerationMode.POSITIVE:
        assert 200 in seen


def test_a_broken_promise_is_found(
    served: tuple[str, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check above can fail: an answer of another shape is told."""
    operation = next(one for one in OPERATIONS if one.label == "GET /api/usage")
    monkeypatch.setattr(served[1], "usage", lambda **_: {"items": [{"key": 1}]})
    with pytest.raises(schemathesis.errors.FailureGroup, match="schema"):
        check(operation, GenerationMode.POSITIVE, served[0])
