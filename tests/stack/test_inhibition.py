"""What follows from a fault that is known is held back in the real Alertmanager."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.stack.hurry import in_alertmanager, on_console, program

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Backends
    from stack import Stack

    from tests.stack.faulty import Shown

pytestmark = pytest.mark.xdist_group("stack")


def test_a_dead_worker_holds_the_alert_on_its_queue_back_until_it_is_back(
    backends: Backends, hurried: Stack, shown: Shown, tmp_path: Path
) -> None:
    """Killed by -9 it is missed; its queue's backlog is inhibited, another queue's is not."""
    missed = {"worker_type": "indexer", "queue": "indexing"}
    backlog = "OtelAgentsQueueBacklogAge"

    def state(queue: str) -> str:
        found = in_alertmanager(hurried, backlog, queue=queue)
        return "" if found is None else found["status"]["state"]

    def fires() -> bool:
        found = on_console(hurried, "OtelAgentsWorkerMissingHeartbeat", **missed)
        return found is not None and found["status"] == "firing"

    # A worker counts as missed after a minute.
    assert backends.eventually(fires)
    assert backends.eventually(lambda: state("indexing") == "suppressed"), state("indexing")
    assert state("printing") == "active"
    held = in_alertmanager(hurried, backlog, queue="indexing")
    assert held is not None
    assert held["status"]["inhibitedBy"]

    with program(backends, tmp_path, "back_at_work.py", "indexer", "indexer-1"):
        pass
    assert backends.eventually(lambda: not fires())
    assert backends.eventually(lambda: state("indexing") == "active")
