"""What a progress emitter is told, made safe to keep: plain, nested a little, redacted, bounded.

None of it is asked for its text or its items by methods of the host's: a foreign `__str__`, `get`
or `items` can raise, block or never end.
"""

from __future__ import annotations

from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_agents.failures import error_type_of, outcome_of
from otel_agents.values import MAX_ITEMS, REDACTED, coerce, cut, plain, readable, redact
from otel_agents.vocabulary import ERROR_OUTCOMES

if TYPE_CHECKING:
    from otel_agents.vocabulary import Outcome

MAX_DEPTH: Final = 4
MAX_FIELDS: Final = 1000  # of one dict that are looked at
MAX_VALUES: Final = 500  # of one argument, whatever its shape
MAX_TEXT: Final = 20_000  # characters of one argument in all
_MAX_KEY: Final = 200
_MARK: Final = "…"

_WORDS: Final[dict[str, Outcome]] = {
    **dict.fromkeys(
        ("success", "succeeded", "successful", "completed", "complete", "passed", "approved",
         "done", "ok", "true"),
        "success",
    ),
    **dict.fromkeys(("failure", "failed", "fail", "rejected", "false"), "failure"),
    "error": "error",
    **dict.fromkeys(("timeout", "timed_out"), "timeout"),
    **dict.fromkeys(("canceled", "cancelled", "cancellation", "aborted"), "cancellation"),
    **dict.fromkeys(("skip", "skipped"), "skip"),
}  # fmt: skip
_VERDICTS: Final = ("success", "succeeded", "passed", "status", "result", "outcome", "state")
_REASONS: Final = ("error", "reason", "message")


def fields_of(value: Any) -> dict[str, Any]:
    """Return the items of a dict, or the public fields of an object; none of anything else."""
    kind = type(value)
    if issubclass(kind, dict):
        found: Any = dict.copy(value)
    elif kind is MappingProxyType:
        found = dict(value)
    else:
        found = _attributes(value, kind) if readable(value) is None else {}
    return {
        cut(plain(key), _MAX_KEY): item
        for key, item in islice(found.items(), MAX_FIELDS)
        if issubclass(type(key), str) and not str.startswith(key, "_")
    }


def _attributes(value: Any, kind: type) -> dict[str, Any]:
    if issubclass(kind, BaseException | type):
        return {}
    found: dict[str, Any] = {}
    for owner in kind.__mro__:
        slots = owner.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else tuple(slots):
            try:
                found[name] = object.__getattribute__(value, name)
            except AttributeError:  # not set, or a name that Python has changed
                continue
    try:
        own = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return found
    return found | own if type(own) is dict else found


def kept(key: str, value: Any) -> Any:
    """Return an argument as JSON types: its fields where it has any, what is too much left away."""
    fields = fields_of(value)
    return _Keeper().keep(key, fields or value, MAX_DEPTH)


class _Keeper:
    """How much of one argument may still be kept."""

    def __init__(self) -> None:
        self.values = MAX_VALUES
        self.text = MAX_TEXT

    def keep(self, key: str, value: Any, depth: int) -> Any:
        kind = type(value)
        nested = issubclass(kind, dict) or kind is MappingProxyType
        if nested or kind in {list, tuple, set, frozenset}:
            if key and redact(key, None) == REDACTED:
                return REDACTED
            if not depth:
                return _MARK
            return self._dict(value, depth) if nested else self._list(value, depth)
        found = redact(key, plain(value))
        if isinstance(found, str):
            found = cut(found, max(len(_MARK) * 10, self.text)) if self.text > 0 else _MARK
            self.text -= len(found)
        return found

    def _dict(self, value: Any, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, item in fields_of(value).items():
            if self._spent(len(name)) or len(found) >= MAX_ITEMS:
                break
            found[name] = self.keep(name, item, depth - 1)
        return found

    def _list(self, value: Any, depth: int) -> list[Any]:
        found: list[Any] = []
        for item in list(value)[: MAX_ITEMS + 1]:
            if self._spent(0) or len(found) >= MAX_ITEMS:
                break
            found.append(self.keep("", item, depth - 1))
        return found

    def _spent(self, characters: int) -> bool:
        self.values -= 1
        self.text -= characters
        return self.values < 0 or self.text <= 0


class Verdict(NamedTuple):
    """How a run ended by what its caller said: outcome, why, and the class where it is an error."""

    outcome: Outcome
    reason: str = ""
    type: str = ""


def text_of(value: Any) -> str:
    """Return why something ended, from text, an exception, or an object that holds either."""
    if issubclass(type(value), BaseException):
        value = value.args[0] if type(value.args) is tuple and value.args else ""
    fields = fields_of(value)
    for name in _REASONS:
        if fields.get(name):
            value = fields[name]
            break
    found = coerce(value, str)
    return str(redact("", found)) if found else ""


def verdict_of(result: Any) -> Verdict:
    """Return what a result says; what says nothing of the kind is a success."""
    if issubclass(type(result), BaseException):
        return failed(result)
    outcome = _outcome(result)
    fields = fields_of(result)
    for name in _VERDICTS:
        if outcome is None and name in fields:
            outcome = _outcome(fields[name])
    if outcome is None or outcome == "success":
        return Verdict("success")
    return Verdict(outcome, text_of(result) if fields else "")


def is_word(result: Any) -> bool:
    """Return whether a result says how it ended and nothing besides."""
    return result is None or _outcome(result) is not None


def failed(error: Any) -> Verdict:
    """Return the verdict on something that failed; an exception says how."""
    if not issubclass(type(error), BaseException):
        return Verdict("failure", text_of(error))
    outcome = outcome_of(error)
    if outcome not in ERROR_OUTCOMES:
        outcome = "failure"
    return Verdict(outcome, text_of(error), error_type_of(error))


def _outcome(value: Any) -> Outcome | None:
    value = plain(value)
    if isinstance(value, bool):
        return "success" if value else "failure"
    return _WORDS.get(value.strip().lower()) if isinstance(value, str) else None


def truth_of(value: Any) -> bool:
    """Return whether something passed or succeeded; what does not say so did not."""
    outcome = _outcome(value)
    return outcome == "success" if outcome is not None else bool(coerce(value, bool))


def number_of(value: Any) -> float | None:
    """Return a finite number that is not negative, or None."""
    found = coerce(value, float)
    return found if found is not None and 0 <= found < float("inf") else None
