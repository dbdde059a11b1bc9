"""The place where failures of ours end waits for nobody who cannot come back."""

from __future__ import annotations

import os
import threading

import pytest

from otel_agents.boundary import boundary, caught
from tests.forking import Forked

PATIENCE = 60.0


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> str:
    """A place of failures that are not raised, and told to nobody."""
    monkeypatch.setattr(boundary, "strict", False)
    monkeypatch.setattr(boundary, "warn", lambda *_: None)
    monkeypatch.setattr(boundary, "counts", {})
    return "here"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_does_not_wait_for_a_thread_of_its_parent(place: str) -> None:
    """One that was telling of a failure in the moment of the fork."""
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        with boundary._lock:
            held.set()
            assert go.wait(PATIENCE)

    def child() -> None:
        caught(place, ValueError("its own"))
        assert boundary.counts == {place: 1}

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    try:
        assert held.wait(PATIENCE)
        Forked(child, 10).end()
    finally:
        go.set()
        thread.join(PATIENCE)


def test_a_failure_in_a_signal_handler_does_not_wait_for_the_one_it_interrupts(place: str) -> None:
    """Both are of one thread."""
    done = threading.Event()

    def interrupted() -> None:
        with boundary._lock:
            caught(place, ValueError("the handler's"))
        done.set()

    threading.Thread(target=interrupted, daemon=True).start()

    assert done.wait(10)
    assert boundary.counts == {place: 1}
