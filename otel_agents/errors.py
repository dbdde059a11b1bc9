"""The errors a caller can meet, and the exit codes they end a command with.

    OtelAgentsError
    ├── SettingsError      bad settings file, value or [[wrap]] table        (exit 2)
    ├── InvalidInputError  a filter, cursor, address or option that cannot be (exit 2)
    ├── EventError         an event of no known type, or with a wrong payload (exit 2)
    ├── BudgetExceeded     a model call that an enforced budget does not allow (exit 1)
    ├── AlreadyAnsweredError a wait with an answer, or nobody who waits      (exit 1)
    ├── CheckpointError    a checkpoint or restore that cannot be made       (exit 1)
    ├── NotFoundError      no such run, agent, file or workspace             (exit 4)
    ├── UnauthorizedError  the server asks for another token                 (exit 2)
    └── UnavailableError   a server, end point or extra that is not there    (exit 1)

Inside a host program none of them is raised by telemetry: they reach the callers of the
command line and of the few functions that say so, `emit_event` among them, and `BudgetExceeded`
the agents of a budget that is set to enforce.
"""

from __future__ import annotations

from typing import ClassVar


class OtelAgentsError(Exception):
    """The root of the tree; `code` is the envelope's `error.code`."""

    code: ClassVar[str] = "internal"
    exit_code: ClassVar[int] = 1


class SettingsError(OtelAgentsError, ValueError):
    """A setting that cannot be used; the message names it and says what to do."""

    code = "invalid_input"
    exit_code = 2


class InvalidInputError(OtelAgentsError, ValueError):
    """A filter, cursor or option that cannot be used; `parameter` is its name."""

    code = "invalid_input"
    exit_code = 2

    def __init__(self, message: str, *, parameter: str = "") -> None:
        super().__init__(message)
        self.parameter = parameter


class EventError(OtelAgentsError, ValueError):
    """An event that is none: the message names the type and the field, and says what it takes.

    `type` is the type as it was given, `field` the field of the payload, "" for the type itself.
    """

    code = "invalid_input"
    exit_code = 2

    def __init__(self, message: str, *, type: str = "", field: str = "") -> None:  # noqa: A002
        super().__init__(message)
        self.type = type
        self.field = field


class BudgetExceeded(OtelAgentsError):  # noqa: N818 - the public name
    """A budget that enforces is spent: the model call was not made, or its stream was ended.

    `budget` is what it is for (`run`, `agent planner`), `unit` USD, token or second, `limit` what
    may be spent of it and `spent` what was.
    """

    code = "invalid_input"

    def __init__(self, budget: str, unit: str, limit: float, spent: float) -> None:
        super().__init__(budget, unit, limit, spent)
        self.budget = budget
        self.unit = unit
        self.limit = limit
        self.spent = spent

    def __str__(self) -> str:
        unit = self.unit if self.unit == "USD" else f"{self.unit}s"
        digits = ",.0f" if self.unit == "token" else ".6g"
        amount, of = (f"{one:{digits}} {unit}" for one in (self.spent, self.limit))
        return f"The budget of {self.budget} is spent: {amount} of {of}."


class AlreadyAnsweredError(OtelAgentsError):
    """The wait has an answer, or nobody waits for one any more."""

    code = "invalid_input"


class CheckpointError(OtelAgentsError):
    """A checkpoint or restore that cannot be made here; the message says why and what to do."""

    code = "invalid_input"


class NotFoundError(OtelAgentsError, LookupError):
    """The run, agent, file or workspace asked about does not exist."""

    code = "not_found"
    exit_code = 4


class UnavailableError(OtelAgentsError):
    """A server, end point or optional part that is needed is not there."""

    code = "unavailable"
    exit_code = 1


class UnauthorizedError(OtelAgentsError):
    """The server wants a token, or one that may do more."""

    code = "unauthorized"
    exit_code = 2
