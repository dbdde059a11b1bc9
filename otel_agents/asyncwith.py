"""`async with` for what a plain `with` does as well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType


class AsyncWith:
    """Enters and leaves an `async with` as its subclass does a `with`; neither may block."""

    __slots__ = ()

    def __enter__(self) -> Self:
        """Enter; a subclass says what that is."""
        raise NotImplementedError

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave; a subclass says what that is."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        """Enter as a `with` does."""
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave as a `with` does."""
        self.__exit__(kind, error, traceback)
