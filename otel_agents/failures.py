"""What an exception means for the scope it leaves: an outcome, a type, what may be told of it."""

from __future__ import annotations

import asyncio
import os
from typing import Final

from otel_agents.errors import BudgetExceeded
from otel_agents.signals import Failure
from otel_agents.values import plain, redact
from otel_agents.vocabulary import Outcome  # noqa: TC001

# Other libraries' classes that say so by their name: agents' own cancellation, clients' timeouts.
_BY_NAME: Final[dict[str, Outcome]] = {
    "RunCancelled": "cancellation",
    "ModelRequestTimeout": "timeout",
    "ModelTimeoutError": "timeout",
    "APITimeoutError": "timeout",
    "TimeoutException": "timeout",
}
_CANCELLED: Final = (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt)


def outcome_of(error: BaseException | None) -> Outcome:
    """Return how a scope ended, from the exception that left it."""
    if error is None:
        return "success"
    # By the class and what is built in: an exception of the host's can raise when looked at.
    of = type(error)
    if issubclass(of, _CANCELLED):
        return "cancellation"
    if issubclass(of, TimeoutError):
        return "timeout"
    if issubclass(of, SystemExit):
        code = SystemExit.__getattribute__(error, "code")
        if code is None or (type(code) is int and code == 0):
            return "success"
    named = (_BY_NAME.get(kind.__name__) for kind in of.__mro__)
    return next((outcome for outcome in named if outcome is not None), "error")


def error_type_of(error: BaseException) -> str:
    """Return an exception's class as the conventions' `error.type`: qualified, unless built in."""
    kind = type(error)
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def failure_of(
    error: BaseException | None, outcome: Outcome, *, message: bool, said: str = ""
) -> Failure:
    """Return what a signal says of an exception: what was `said` on purpose, or else its text.

    The text only where `message` allows: it can quote a prompt. That of a spent budget is our own,
    and always there. Without an exception the outcome is all there is to say beside what was
    `said`.
    """
    if error is None:
        return Failure(type=outcome, message=said)
    where = ""
    traceback = BaseException.__getattribute__(error, "__traceback__")
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is not None:
        code = traceback.tb_frame.f_code
        where = f"{os.path.basename(code.co_filename)}:{traceback.tb_lineno} in {code.co_name}"  # noqa: PTH119
    text = said
    if type(error) is BudgetExceeded and not said:
        text = str(redact("", plain(str(error))))
    elif message and not said:
        given = BaseException.__getattribute__(error, "args")
        text = str(redact("", plain(given[0] if given else "")))
    return Failure(type=error_type_of(error), message=text, where=where)
