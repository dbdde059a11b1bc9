"""Functions of other libraries, replaced and put back.

`wrapt` serves users' own targets, whose shapes are unknown; here the shapes are known and the
calls are hot, so a plain function stands in the original's place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_MARK: Final = "__otelagents_original__"


class Seams:
    """What was replaced, so that it can be put back exactly."""

    def __init__(self) -> None:
        self._replaced: list[tuple[Any, str, Any, bool]] = []

    @property
    def names(self) -> list[str]:
        """What is replaced now, as `module.Class.name`."""
        return [
            f"{owner.__module__}.{owner.__qualname__}.{name}" for owner, name, *_ in self._replaced
        ]

    def replace(
        self, owner: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]
    ) -> None:
        """Replace a function by what `make` makes of it; a second time does nothing.

        Raises AttributeError where the owner has no such function.
        """
        mine = name in vars(owner)
        original = vars(owner)[name] if mine else getattr(owner, name)
        if hasattr(original, _MARK):
            return
        replacement = make(original)
        setattr(replacement, _MARK, original)
        setattr(owner, name, replacement)
        self._replaced.append((owner, name, original, mine))

    def each_new_subclass(self, owner: Any, act: Callable[[type], None]) -> None:
        """Call `act` with every class that is derived from `owner` from now on."""
        mine = "__init_subclass__" in vars(owner)
        original = vars(owner).get("__init_subclass__")

        def init_subclass(cls: Any, /, **kwargs: Any) -> None:
            if isinstance(original, classmethod):
                original.__func__(cls, **kwargs)
            else:
                super(owner, cls).__init_subclass__(**kwargs)
            act(cls)

        owner.__init_subclass__ = classmethod(init_subclass)
        self._replaced.append((owner, "__init_subclass__", original, mine))

    def restore(self) -> None:
        """Put every original back, the last replaced first."""
        while self._replaced:
            owner, name, original, mine = self._replaced.pop()
            if mine:
                setattr(owner, name, original)
            else:
                delattr(owner, name)
