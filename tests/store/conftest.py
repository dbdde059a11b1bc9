"""The store's tests run on the databases of `tests.databases`."""

from tests.databases import database_url, postgresql, store, stores

__all__ = ["database_url", "postgresql", "store", "stores"]
