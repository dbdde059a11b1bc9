"""What a progress emitter is told, read: how something went, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_agents.failures import error_type_of, outcome_of
from otel_agents.kept import LISTS, fields_of, single
from otel_agents.values import plain, redact
from otel_agents.vocabulary import ERROR_OUTCOMES

if TYPE_CHECKING:
    from otel_agents.vocabulary import Outcome

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


class Verdict(NamedTuple):
    """How a run ended by what its caller said: outcome, why, and the class where it is an error."""

    outcome: Outcome
    reason: str = ""
    type: str = ""


def text_of(value: Any) -> str:
    """Return why something ended, from text, an exception, or an object that holds either."""
    if issubclass(type(value), BaseException):
        given = BaseException.__getattribute__(value, "args")
        value = given[0] if given else ""
    fields = fields_of(value)
    texts = (single(one, str) for one in [*map(fields.get, _REASONS), value])
    found = next((text for text in texts if text), "")
    return str(redact("", found))


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
    value = None if type(value) in LISTS else plain(value)
    if isinstance(value, bool):
        return "success" if value else "failure"
    return _WORDS.get(value.strip().lower()) if isinstance(value, str) else None


def truth_of(value: Any) -> bool:
    """Return whether something passed or succeeded; what does not say so did not."""
    outcome = _outcome(value)
    return outcome == "success" if outcome is not None else bool(single(value, bool))


def number_of(value: Any) -> float | None:
    """Return a finite number that is not negative, or None."""
    found = single(value, float)
    return found if found is not None and 0 <= found < float("inf") else None
