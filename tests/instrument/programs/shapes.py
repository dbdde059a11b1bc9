"""One piece of work in every shape a callable can have, for the tests of targets.

All of it does what its order says: it succeeds, fails or is cancelled while it works.
"""

import asyncio
import functools
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any


class Receipt:
    """What work returns."""

    url = "file:///receipt"


class Order:
    """What is to be done, and how it is to end: `ok`, `error` or `cancel`."""

    def __init__(self, how: str = "ok", note: Callable[[], Any] = lambda: None) -> None:
        self.id = "o-17"
        self.how = how
        self.note = note
        self.receipt = Receipt()
        self.error = ValueError("no such passage")
        self.started = asyncio.Event()


def work(order: Order, lines: int = 2) -> Receipt:
    """Work at once."""
    order.note()
    if order.how == "error":
        raise order.error
    if order.how == "cancel":
        raise KeyboardInterrupt
    return order.receipt


async def work_async(order: Order, lines: int = 2) -> Receipt:
    """Work for a while."""
    await asyncio.sleep(0)
    order.note()
    if order.how == "error":
        raise order.error
    if order.how == "cancel":
        order.started.set()
        await asyncio.Event().wait()
    return order.receipt


def work_lines(order: Order, lines: int = 2) -> Generator[int, str, Receipt]:
    """Work line by line; who reads cancels by closing."""
    for number in range(lines):
        order.note()
        yield number
    if order.how == "error":
        raise order.error
    return order.receipt


async def work_lines_async(order: Order, lines: int = 2) -> AsyncGenerator[int, str]:
    """Work line by line, for a while."""
    for number in range(lines):
        await asyncio.sleep(0)
        order.note()
        yield number
    if order.how == "error":
        raise order.error
    if order.how == "cancel":
        order.started.set()
        await asyncio.Event().wait()


class Desk:
    """The same as methods."""

    name = "desk"

    def work(self, order: Order, lines: int = 2) -> Receipt:
        """Work at once."""
        return work(order, lines)

    async def work_async(self, order: Order, lines: int = 2) -> Receipt:
        """Work for a while."""
        return await work_async(order, lines)

    def work_lines(self, order: Order, lines: int = 2) -> Generator[int, str, Receipt]:
        """Work line by line."""
        return (yield from work_lines(order, lines))

    async def work_lines_async(self, order: Order, lines: int = 2) -> AsyncGenerator[int, str]:
        """Work line by line, for a while."""
        async for number in work_lines_async(order, lines):
            yield number

    class Drawer:
        """A class in a class."""

        name = "drawer"

        async def work_async(self, order: Order, lines: int = 2) -> Receipt:
            """Work for a while."""
            return await work_async(order, lines)


class Branch(Desk):
    """Inherits all of it."""

    name = "branch"


class Office:
    """The same as classmethods and staticmethods."""

    name = "office"

    @classmethod
    def work(cls, order: Order, lines: int = 2) -> Receipt:
        """Work at once."""
        return work(order, lines)

    @classmethod
    async def work_async(cls, order: Order, lines: int = 2) -> Receipt:
        """Work for a while."""
        return await work_async(order, lines)

    @classmethod
    def work_lines(cls, order: Order, lines: int = 2) -> Generator[int, str, Receipt]:
        """Work line by line."""
        return (yield from work_lines(order, lines))

    @classmethod
    async def work_lines_async(cls, order: Order, lines: int = 2) -> AsyncGenerator[int, str]:
        """Work line by line, for a while."""
        async for number in work_lines_async(order, lines):
            yield number

    @staticmethod
    def static(order: Order, lines: int = 2) -> Receipt:
        """Work at once."""
        return work(order, lines)

    @staticmethod
    async def static_async(order: Order, lines: int = 2) -> Receipt:
        """Work for a while."""
        return await work_async(order, lines)

    @staticmethod
    def static_lines(order: Order, lines: int = 2) -> Generator[int, str, Receipt]:
        """Work line by line."""
        return (yield from work_lines(order, lines))

    @staticmethod
    async def static_lines_async(order: Order, lines: int = 2) -> AsyncGenerator[int, str]:
        """Work line by line, for a while."""
        async for number in work_lines_async(order, lines):
            yield number


class Clerk:
    """An object that is called."""

    name = "clerk"

    def __call__(self, order: Order, lines: int = 2) -> Receipt:
        """Work at once."""
        return work(order, lines)


class AsyncClerk:
    """An object that is called and awaited."""

    name = "other clerk"

    async def __call__(self, order: Order, lines: int = 2) -> Receipt:
        """Work for a while."""
        return await work_async(order, lines)


clerk = Clerk()
async_clerk = AsyncClerk()
desk = Desk()
bound = desk.work_async
partial = functools.partial(work, lines=2)


def hidden(function: Callable[..., Any]) -> Callable[..., Any]:
    """Hide the shape of a function, as a decorator without `functools.wraps` does."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return call


hidden_async = hidden(work_async)
hidden_lines_async = hidden(work_lines_async)
