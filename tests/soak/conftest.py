"""Stores for what programs tell of; see `tests/databases.py`."""

from tests.databases import stores

__all__ = ["stores"]
