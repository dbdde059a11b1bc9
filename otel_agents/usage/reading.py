"""Read counts out of whatever a provider's client hands over: dicts, JSON or SDK objects."""

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from otel_agents.usage.record import Usage, metered

_LARGEST = 2**53
"""The largest integer that JSON carries exactly everywhere; nothing above it counts tokens."""


def decoded(payload: object) -> object:
    """Decode JSON text or bytes; hand anything else back as it is.

    Raises:
        msgspec.DecodeError: The text is not JSON.

    """
    if isinstance(payload, (str, bytes, bytearray, memoryview)):
        return msgspec.json.decode(payload)
    return payload


def get(node: object, name: str) -> Any:
    """Return an item of a mapping or an attribute of an object, None when it has none."""
    if type(node) is dict:
        return node.get(name)
    if issubclass(type(node), dict):
        return dict.get(cast("dict[str, Any]", node), name)
    # By the class, here and below: to look at what an object says it is would be to call it.
    if issubclass(type(node), Mapping):
        return cast("Mapping[str, Any]", node).get(name)
    return getattr(node, name, None)


def has(node: object, name: str) -> bool:
    """Tell whether a mapping has the item, or an object the attribute, be it None."""
    if issubclass(type(node), dict):
        return dict.__contains__(cast("dict[str, Any]", node), name)
    if issubclass(type(node), Mapping):
        return name in cast("Mapping[str, Any]", node)
    return hasattr(node, name)


def items(node: object) -> list[Any] | tuple[Any, ...]:
    """Return a list or tuple as it is, and an empty one for anything else."""
    return cast("list[Any]", node) if issubclass(type(node), (list, tuple)) else ()


def count(value: object) -> int | None:
    """Return a token count, or None when the value cannot be one.

    Whole numbers from 0 to 2**53 can, floats among them; booleans, text and NaN cannot.
    """
    kind = type(value)
    if kind is int:
        number = cast("int", value)
    elif issubclass(kind, float):
        exact: Any = float.__float__(cast("Any", value))
        number = int(exact) if exact.is_integer() else -1
    elif issubclass(kind, int) and kind is not bool:
        number = int.__int__(cast("int", value))
    else:
        return None
    return number if 0 <= number <= _LARGEST else None


class Counts:
    """The counts of one usage node, and whether all that were there could be read."""

    __slots__ = ("_node", "readable")

    def __init__(self, node: object) -> None:
        self._node = node
        self.readable = True

    def get(self, *path: str) -> int | None:
        """Return the count at a path of field names; None when it is absent or no count."""
        node = self._node
        for name in path:
            node = get(node, name)
            if node is None:
                return None
        number = count(node)
        if number is None:
            self.readable = False
        return number

    def usage(
        self,
        *,
        input_tokens: int | None,
        output_tokens: int | None,
        cache_read_tokens: int | None = None,
        cache_write_tokens: int | None = None,
        reasoning_tokens: int | None = None,
        extras: dict[str, int | float] | None = None,
    ) -> Usage:
        """Build the usage of one request; incomplete when a total is absent or unreadable."""
        usage = Usage(
            input_tokens=input_tokens or 0,
            output_tokens=output_tokens or 0,
            cache_read_tokens=cache_read_tokens or 0,
            cache_write_tokens=cache_write_tokens or 0,
            reasoning_tokens=reasoning_tokens or 0,
            requests=1,
            complete=self.readable and input_tokens is not None and output_tokens is not None,
        )
        return metered(usage, extras) if extras else usage
