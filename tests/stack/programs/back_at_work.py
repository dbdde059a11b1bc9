"""Be the worker of an id again, and stop as one should: `back_at_work.py TYPE ID`."""

from __future__ import annotations

import sys

from otel_agents import Worker


def main() -> None:
    """Start and stop."""
    with Worker(sys.argv[1], sys.argv[2]):
        pass


if __name__ == "__main__":
    main()
