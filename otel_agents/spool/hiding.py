"""Secrets in keys with values: a look that never misses one, and hiding them in a message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otel_agents.values import REDACTED, may_hold

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_agents.values import Rules

# What is remembered as clean: half a megabyte at the most.
_MAX_SEEN: Final = 2048
_TOO_LONG: Final = 65  # characters
_MAX_KEYS: Final = 1000
_FIGURES: Final = frozenset({bool, int, float})  # no secrets, whatever their key
_TEXTLESS: Final = frozenset({bytes, type(None)})
_FIELDS_OF_FIGURES: Final = frozenset({"bool_value", "int_value", "double_value"})


class Known(dict[tuple[str, Any], bool]):
    """What is known of keys with values under the rules of a moment; others begin with nothing.

    `known[key, value]` is whether there is no secret in it for sure: of a text or a tuple of them
    it is said, other values of which it is not known may hold one. It raises TypeError for a value
    without a hash, as a list or a mapping. Short texts are remembered, so what repeats is asked of
    the dictionary alone.
    """

    __slots__ = ("_harmless", "parts", "redact", "rules")

    def __init__(self, current: Rules) -> None:
        super().__init__()
        self.rules = current
        self.redact = current.redact
        self._harmless: set[str] = set()
        # By their ids resources and scopes, each with what goes in its place.
        self.parts: dict[int, tuple[Any, Any]] = {}

    def __missing__(self, item: tuple[str, Any]) -> bool:
        key, value = item
        kind = type(value)
        if kind in _FIGURES:
            return True
        if key not in self._harmless and not self._is_harmless(key):
            return False
        if kind is str:
            if (self.rules.patterns or may_hold(value.lower())) and self.redact("", value) != value:
                return False
            size = len(value)
        elif kind is tuple:
            if not all([self["", one] for one in value]):  # noqa: C419 - each is remembered
                return False
            texts = [one for one in value if type(one) is str]
            size = len(value) + sum(map(len, texts)) if len(texts) == len(value) else _TOO_LONG
        else:
            return kind in _TEXTLESS
        # Of other values `1`, `1.0` and `True` are one key of a dictionary.
        if size < _TOO_LONG:
            if len(self) >= _MAX_SEEN:
                self.clear()
            self[item] = True
        return True

    def _is_harmless(self, key: str) -> bool:
        """Return whether a key is not the name of a secret."""
        if key in self._harmless:
            return True
        if self.redact(key, None) is not None:
            return False
        if len(self._harmless) >= _MAX_KEYS:
            self._harmless.clear()
        self._harmless.add(key)
        return True

    # ------------------------------------------------------------------ hiding

    def hide(self, pairs: Iterable[Any]) -> bool:
        """Hide secrets in `KeyValue`s; return whether there were any."""
        return any([self.hide_value(pair.key, pair.value) for pair in pairs])  # noqa: C419 - each

    def hide_value(self, key: str, value: Any) -> bool:
        """Hide secrets in an `AnyValue`; return whether there were any."""
        kind = value.WhichOneof("value")
        if kind in _FIELDS_OF_FIGURES:
            return False
        if not self._is_harmless(key):
            value.string_value = REDACTED
            return True
        if kind == "string_value":
            text: str = value.string_value
            if self[key, text]:
                return False
            value.string_value = self.redact("", text)
            return True
        if kind == "array_value":
            values = value.array_value.values
            return any([self.hide_value("", one) for one in values])  # noqa: C419 - each
        return kind == "kvlist_value" and self.hide(value.kvlist_value.values)
