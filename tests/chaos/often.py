"""`otel-agents serve` whose log is brought into its file every few commits, and not every thousand.

    python often.py full|normal serve …

So what a checkpoint does is seen within seconds. `normal` has it commit without a flush, as a
store does that need not survive a loss of power.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from otel_agents.cli.main import run
from otel_agents.store.database import Database

if TYPE_CHECKING:
    import sqlite3

PAGES = 200
_begin, _set_up = Database.__init__, Database._set_up


def normal(self: Database, url: str, *, durable: bool = True) -> None:
    """Make a database whose commits need not survive a power failure, whatever is asked for."""
    _begin(self, url, durable=False)


def often(self: Database, made: sqlite3.Connection) -> None:
    """Set a connection up, and have it bring the log in at so many pages."""
    _set_up(self, made)
    made.execute(f"PRAGMA wal_autocheckpoint={PAGES}")


if __name__ == "__main__":
    Database._set_up = often  # type: ignore[method-assign]
    if sys.argv[1] == "normal":
        Database.__init__ = normal  # type: ignore[method-assign]
    sys.exit(run(sys.argv[2:]))
