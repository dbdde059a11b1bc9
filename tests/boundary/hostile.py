"""Objects that must not be touched: every special method and attribute of theirs is counted."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

touched: Final[Counter[str]] = Counter()
"""How often each method of a hostile object was called, by its name."""


class Touched(Exception):
    """Raised by every method of a hostile object; a worse one would sleep or fill the memory."""


def _method(name: str) -> Any:
    def method(*_args: Any, **_kwargs: Any) -> Any:
        touched[name] += 1
        raise Touched(name)

    return method


_NAMES: Final = (
    "__repr__", "__str__", "__format__", "__bytes__", "__bool__", "__len__", "__iter__", "__next__",
    "__contains__", "__getitem__", "__eq__", "__ne__", "__lt__", "__gt__", "__le__", "__ge__",
    "__hash__", "__int__", "__float__", "__index__", "__call__", "__enter__", "__exit__",
    "__aenter__", "__aexit__", "__await__", "__aiter__", "__anext__", "__add__", "__radd__",
    "__mod__", "__rmod__", "__copy__", "__deepcopy__", "__reduce__", "__reduce_ex__", "__sizeof__",
    "__dir__", "__getattr__", "__fspath__", "__instancecheck__", "__length_hint__", "__reversed__",
    "__round__", "__trunc__", "__neg__", "__abs__", "__set_name__",
)  # fmt: skip
_body: Final[dict[str, Any]] = {name: _method(name) for name in _NAMES}
_attributes: Final[dict[str, Any]] = {
    **_body,
    "__getattribute__": _method("__getattribute__"),
    "__class__": property(_method("__class__")),
}

Hostile: Final[Any] = type("Hostile", (), dict(_attributes))
HostileText: Final[Any] = type(
    "HostileText", (str,), {**_attributes, "encode": _method("encode"), "split": _method("split")}
)
HostileInt: Final[Any] = type("HostileInt", (int,), dict(_attributes))
HostileFloat: Final[Any] = type("HostileFloat", (float,), dict(_attributes))
HostileList: Final[Any] = type("HostileList", (list,), dict(_attributes))
HostileDict: Final[Any] = type(
    "HostileDict",
    (dict,),
    {**_attributes, **{name: _method(name) for name in ("get", "items", "keys", "values")}},
)
HostileError: Final[Any] = type("HostileError", (Exception,), dict(_attributes))

# Logging and asyncio look at what these are, with and without us; so they let them.
Mild: Final[Any] = type("Mild", (), _body)
MildError: Final[Any] = type("MildError", (Exception,), _body)

ARGUMENTS: Final[dict[str, Any]] = {
    "object": Hostile(),
    "text": HostileText("sk-none"),
    "int": HostileInt(3),
    "float": HostileFloat(0.5),
    "list": HostileList([1, 2]),
    "dict": HostileDict(a=1),
    "error": HostileError("no"),
    "in a list": [Hostile()],
    "in a dict": {"a": Hostile()},
    "class": Hostile,
}
