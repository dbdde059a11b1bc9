"""What stands in the place of a wrapped function, and passes for it wherever a program looks.

wrapt's wrapper is the function to `inspect`, as a method, classmethod or staticmethod. What it
refuses is added here: to be pickled (a function handed to a process pool), copied (a callback in a
record that is deep-copied) and held by a weak method (a receiver of signals).
"""

from __future__ import annotations

import copy
import types
from typing import TYPE_CHECKING, Any

import wrapt

if TYPE_CHECKING:
    _Bound = wrapt.BoundFunctionWrapper[..., Any]
    _Unbound = wrapt.FunctionWrapper[..., Any]
else:  # generic since wrapt 2
    _Bound = wrapt.BoundFunctionWrapper
    _Unbound = wrapt.FunctionWrapper


def _by_name(target: str) -> tuple[Any, ...]:
    """Return how a function is pickled: by a name that any program can resolve, also without us."""
    from pkgutil import resolve_name  # rarely needed, and a millisecond to import

    return resolve_name, (target,)


class BoundWrapper(_Bound):
    """A wrapped function as it is reached through an object or a class."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Return a method where one is made of function and object, as `WeakMethod` does."""
        if len(args) != 2 or kwargs:  # noqa: PLR2004 - wrapt itself passes more
            return super().__new__(cls)
        function, instance = args
        found = getattr(type(instance), getattr(function, "__name__", ""), None)
        ours = isinstance(found, BoundWrapper) and found.__wrapped__ is function
        callee: Any = found if ours else function
        return types.MethodType(callee, instance)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle as what it wraps would: a method by its object and name, a function by name."""
        instance = getattr(self.__wrapped__, "__self__", None)
        if instance is None:
            return _by_name(self._self_where())
        return getattr, (instance, self._self_where().rpartition(".")[2])

    def __copy__(self) -> Any:
        """Return itself, as functions do."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """Return a method of the copied object; a function is itself."""
        instance = getattr(self.__wrapped__, "__self__", None)
        if instance is None or isinstance(instance, type):
            return self
        return getattr(copy.deepcopy(instance, memo), self._self_where().rpartition(".")[2])

    def _self_where(self) -> str:
        return str(self._self_parent._self_target)  # noqa: SLF001 - wrapt names it so


class Wrapper(_Unbound):
    """A function that calls `around(wrapped, instance, args, kwargs)`.

    `target` is where it stands, as `module:qualified.name`; `mark` is kept for whoever asks.
    """

    __bound_function_wrapper__ = BoundWrapper

    def __init__(self, wrapped: Any, around: Any, target: str, mark: Any) -> None:
        super().__init__(wrapped, around)
        self._self_target = target
        self._self_mark = mark

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle a function by its name, and any other callable as itself."""
        if isinstance(self.__wrapped__, types.FunctionType):
            return _by_name(self._self_target)
        return self.__wrapped__.__reduce_ex__(protocol)

    def __copy__(self) -> Any:
        """Return itself where it is a function, as functions do."""
        plain = isinstance(self.__wrapped__, types.FunctionType)
        return self if plain else copy.copy(self.__wrapped__)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """Return itself where it is a function, as functions do."""
        plain = isinstance(self.__wrapped__, types.FunctionType)
        return self if plain else copy.deepcopy(self.__wrapped__, memo)
