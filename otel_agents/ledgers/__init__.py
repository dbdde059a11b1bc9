"""The budgets of a process: what its open scopes may spend, and what they have spent.

`keeping.py` holds the ledgers of all scopes, `ledger.py` is one of them, `telling.py` tells of what
is nearly or wholly spent, and `gauges.py` shows how they stand.
"""

from otel_agents.ledgers.keeping import Ledgers

__all__ = ["Ledgers"]
