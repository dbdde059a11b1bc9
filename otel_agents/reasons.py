"""Why a runtime event is told: one table of codes, of which the docs and filters are made.

A code says what happened; the layer and the operation say where. One code can stand in more than
one place: a tool call can fail, and so can a task.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Reason(NamedTuple):
    """One kind of runtime event: its code, layer and operation (row E1's words), its meaning."""

    code: str
    layer: str
    operation: str
    brief: str


def _of(layer: str, operation: str, **codes: str) -> dict[str, Reason]:
    return {code: Reason(code, layer, operation, brief) for code, brief in codes.items()}


FALLBACKS: Final = _of(
    "provider_runtime", "FALLBACK", FELL_BACK="A call failed and another model was asked instead."
)
PROVIDER_RETRIES: Final = _of(
    "provider_runtime", "RETRY",
    RATE_LIMITED="Sent again after the provider answered 429.",
    SERVER_ERROR="Sent again after the provider answered 5xx.",
    TIMEOUT="Sent again after no answer came in time.",
    CONNECTION="Sent again after the connection failed or broke off.",
    REFUSED="Sent again after the provider answered another 4xx.",
    ERROR="Asked again after the call failed for another reason.",
)  # fmt: skip
ROUTES: Final = _of(
    "model_adapter", "CALL",
    ROUTE="An agent was answered by this provider and model for the first time in a process.",
)  # fmt: skip
MODEL_RETRIES: Final = _of(
    "model_adapter", "RETRY",
    OUTPUT_INVALID="Asked again since the output did not fit its schema.",
    MODEL_RETRY="Asked again since the program refused the output.",
)  # fmt: skip
TOOL_CALLS: Final = _of(
    "tool_runtime", "TOOL_CALL",
    FAILED="A tool call failed.",
    RETRY="A tool call was given back to the model, to be made again.",
)  # fmt: skip
TOOL_LOOPS: Final = _of(
    "tool_runtime", "TOOL_LOOP",
    REPEATED="An agent called a tool with the same arguments three times or more.",
)  # fmt: skip
EXECUTION_RETRIES: Final = _of(
    "execution", "RETRY", ATTEMPT_REPEATED="An agent was started again for the same task."
)
BREAKERS: Final = _of(
    "execution", "BREAKER",
    OPENED="A breaker opened: calls are refused.",
    HALF_OPENED="A breaker lets trial calls through.",
    CLOSED="A breaker closed: calls go through.",
)  # fmt: skip
TASKS: Final = _of(
    "dispatcher", "TASK",
    QUEUED="A task waits in its queue.",
    LEASED="A task was leased, or its lease renewed.",
    STARTED="Work on a task began.",
    IN_REVIEW="A task waits for a review.",
    DONE="A task was done.",
    SKIPPED="A task was left out.",
    FAILED="A task failed.",
)  # fmt: skip
WORKERS: Final = _of(
    "worker", "HEARTBEAT",
    STARTED="A worker started.",
    IDLE="A worker has no task any more.",
    DEGRADED="A worker says that it is degraded, or one of its breakers opened.",
    STOPPED="A worker stopped.",
)  # fmt: skip

_GROUPS: Final = (
    FALLBACKS, PROVIDER_RETRIES, ROUTES, MODEL_RETRIES, TOOL_CALLS, TOOL_LOOPS, EXECUTION_RETRIES,
    BREAKERS, TASKS, WORKERS,
)  # fmt: skip
# Every code with the places it can come from.
REASON_CODES: Final[dict[str, tuple[Reason, ...]]] = {
    code: tuple(group[code] for group in _GROUPS if code in group)
    for codes in _GROUPS
    for code in codes
}
