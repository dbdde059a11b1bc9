"""A module of targets that are awkward, each in its way."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

from shop_parts import assemble, part  # a function of another module, by a name of this one

LIMIT = 3


class Base:
    """A step that others build on."""

    def run(self, order: str) -> str:
        """Return what was run, and by whom."""
        return f"base {order}"


class Mixin(Base):
    """Another step, in between where both are bases."""

    def run(self, order: str) -> str:
        """Return what was run, and by whom."""
        return f"mixin {order}"


class Child(Base):
    """Inherits its step."""


class Grandchild(Child, Mixin):
    """Has its step from Mixin, since that comes before Base."""


class Closed(type):
    """A class of classes that cannot be changed."""

    def __setattr__(cls, name: str, value: Any) -> None:
        """Refuse."""
        message = "closed"
        raise TypeError(message)


class Sealed(metaclass=Closed):
    """A class that cannot be changed."""

    def run(self) -> None:
        """Do nothing."""


class Stamp:
    """An object that is called."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __call__(self, order: str) -> str:
        """Return the order with a stamp on it."""
        return f"{order}, {self.text}"


stamp = Stamp("paid")


class Pipeline:
    """Steps of all kinds."""

    stamped = Stamp("paid")
    limits = {"most": LIMIT}  # noqa: RUF012 - the shape is what matters

    def __init__(self, name: str = "books") -> None:
        self.name = name

    def run(self, order: Any, *, run_id: str | None = None) -> Any:
        """Return the order, after checking it."""
        self.check(order)
        return order

    def check(self, order: Any) -> Any:
        """Return the order."""
        return order

    def drop(self, order: Any) -> str:
        """Say that the order was dropped."""
        return "dropped"

    @property
    def title(self) -> str:
        """Its name, as a title."""
        return self.name.title()

    @functools.lru_cache  # noqa: B019 - the shape is what matters
    def cached(self, order: str) -> str:
        """Return the order, once."""
        return order

    @functools.singledispatchmethod
    def dispatched(self, order: Any) -> Any:
        """Return the order."""
        return order

    @dispatched.register
    def _(self, order: int) -> int:
        return -order

    twice = functools.partialmethod(run, run_id="two")

    async def stream(self, order: str) -> Any:
        """Give the order."""
        yield order

    @contextlib.contextmanager
    def open(self) -> Iterator[str]:
        """Give the name for a while."""
        yield self.name


def register(handler: Any) -> Any:
    """Return a handler."""
    return handler


__all__ = ["LIMIT", "Base", "Pipeline", "assemble", "part", "register"]
