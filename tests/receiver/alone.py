"""A receiver in a process of its own, so that what a request costs it can be measured."""

from __future__ import annotations

import sys
import threading
from typing import Any

from otel_agents.store.batch import Batch
from tests.receiver.kit import grpc_receiver, http_receiver


class Forgetting:
    """A store that takes all and keeps nothing."""

    def submit(self, batch: Batch, done: Any) -> None:
        done(None)


def main() -> None:
    """Serve until the standard input ends; the ports are told on the standard output."""
    store = Forgetting()
    with http_receiver(store) as over_http, grpc_receiver(store) as over_grpc:
        print(over_http.port, over_grpc.port, threading.active_count(), flush=True)  # noqa: T201
        sys.stdin.read()


if __name__ == "__main__":
    main()
