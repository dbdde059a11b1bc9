"""A program's own functions, of every shape that a `[[wrap]]` table can name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace


class Refused(Exception):
    """An error of the program's own, with arguments of its own."""


def order(order_id: str, how: str = "ok") -> dict[str, str]:
    """Return, or raise with a cause."""
    if how == "error":
        try:
            {}["no such order"]
        except KeyError as error:
            raise Refused(order_id, 7) from error
    return {"id": order_id}


def checked(order_id: str) -> SimpleNamespace:
    """Return something whose fields a table names."""
    return SimpleNamespace(passed=True, note=order_id)


async def ship(order_id: str, how: str = "ok") -> str:
    """Return, raise, or wait to be cancelled."""
    await asyncio.sleep(0)
    if how == "error":
        raise Refused(order_id)
    if how == "wait":
        await asyncio.Event().wait()
    return order_id


def pages(count: int, how: str = "ok") -> Iterator[int]:
    """Yield some, with what was sent in, and return."""
    for page in range(count):
        try:
            said = yield page
        except KeyError:
            said = "thrown"
        if said:
            yield said
    if how == "error":
        raise Refused(count)
    return "the end"


async def events(count: int, how: str = "ok") -> AsyncIterator[int]:
    """Yield some."""
    for event in range(count):
        await asyncio.sleep(0)
        yield event
    if how == "error":
        raise Refused(count)


class Desk:
    """Something with methods."""

    name = "front"

    def serve(self, guest: str) -> str:
        """Return who was served where."""
        return f"{guest} at {self.name}"

    @classmethod
    def opened(cls, name: str) -> str:
        """Return a name."""
        return f"{cls.__name__} {name}"

    @staticmethod
    def closed(name: str) -> str:
        """Return a name."""
        return name


class Late(Desk):
    """Inherits what is wrapped."""
