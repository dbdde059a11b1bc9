"""The shapes of the API's answers, for the OpenAPI document and the tests that hold us to it.

Answers are not built from these classes: the store gives plain data, which is sent as it is.
Times are RFC 3339 in UTC, durations seconds unless the name says `_ms`, costs USD.
"""

# FastAPI and pydantic read the annotations when the classes are made.

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T")

RunStatus = Literal["running", "waiting", "succeeded", "failed", "canceled", "lost"]
AgentStatus = Literal["starting", "running", "completed", "failed", "cancelled", "lost"]
PhaseStatus = Literal["pending", "running", "completed", "failed", "cancelled", "skipped"]
TaskStatus = Literal["PENDING", "RUNNING", "IN_REVIEW", "DONE", "SKIPPED", "FAILED"]

Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Count = Annotated[int, Field(ge=0)]
# A price that is not known is no price, and a sum with one in it neither.
Usd = Annotated[float | None, Field(description="USD; null where a price is not known.")]


class Shape(BaseModel):
    """A shape without room for what is not written down."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class Meta(Shape):
    """When an answer was given, and to which request."""

    timestamp: Time
    request_id: str


class Problem(Shape):
    """What went wrong."""

    code: Literal["not_found", "invalid_input", "unauthorized", "unavailable", "internal"]
    message: str
    details: dict[str, Any]


class Failed(Shape):
    """The envelope of an error."""

    data: None
    error: Problem
    meta: Meta


class Answered(Shape, Generic[T]):
    """The envelope of an answer."""

    data: T
    error: None
    meta: Meta


class Listed(Shape, Generic[T]):
    """One page of a list; `next_cursor` leads to the next one, and is null on the last."""

    items: list[T]
    next_cursor: str | None


class Usage(Shape):
    """Tokens, requests and tool calls; `complete` is false where some may never be known."""

    input_tokens: Count
    output_tokens: Count
    cache_read_tokens: Count
    cache_write_tokens: Count
    reasoning_tokens: Count
    total_tokens: Count
    requests: Count
    tool_calls: Count
    complete: bool


class Failure(Shape):
    """An error that was reported by the program."""

    type: str
    message: str


class RunSummary(Shape):
    """What a run is and what it came to."""

    run_id: str
    workflow: str | None
    status: RunStatus
    percent: Annotated[float | None, Field(ge=0, le=100)]
    started_at: Time
    updated_at: Time
    ended_at: Time | None
    duration_seconds: float | None
    work_order_id: str | None
    correlation_id: str | None
    plan_id: str | None
    goal: str | None
    phase: str | None
    iteration: int | None
    max_iterations: int | None
    usage: Usage
    cost_usd: Usd
    unpriced_tokens: Count
    error: Failure | None


class RunRow(RunSummary):
    """A run in a list."""

    agents: Annotated[dict[str, int], Field(description="Attempts of agents by status.")]


class Phase(Shape):
    """A phase of a run, all its passes taken together."""

    name: str
    status: PhaseStatus
    percent: float | None
    started_at: Time | None
    ended_at: Time | None
    duration_seconds: float | None
    iterations: Count
    agents: dict[str, int]
    usage: Usage
    cost_usd: Usd
    waiting_seconds: float | None


class RunAgent(Shape):
    """An attempt of an agent, as a run shows it."""

    id: str
    name: str
    phase: str | None
    status: AgentStatus
    attempt: int
    parent_id: str | None
    usage: Usage
    cost_usd: Usd
    waiting_seconds: float | None
    error: Failure | None


class RunAgents(Shape):
    """The attempts of a run's agents."""

    by_status: dict[str, int]
    items: list[RunAgent]


class Scope(Shape):
    """A row of the waterfall; `start_ms` counts from the start of the run."""

    id: str
    parent_id: str | None
    kind: str
    name: str
    phase: str | None
    iteration: int | None
    agent_id: str | None
    attempt: int | None
    status: str
    result: str | None
    started_at: Time
    ended_at: Time | None
    start_ms: float
    duration_ms: float | None
    usage: Usage | None
    cost_usd: Usd
    error: Failure | None
    trace_id: str | None
    span_id: str | None


class Check(Shape):
    """A gate, validation, delivery or wait for a human, each time it came up."""

    kind: str
    name: str
    phase: str | None
    outcomes: list[str | None]
    detail: str | None
    seconds: float
    error: Failure | None


class Share(Shape):
    """A part of a run's usage and cost."""

    key: str
    provider: str | None = None
    usage: Usage
    cost_usd: Usd
    unpriced_tokens: Count


class Budget(Shape):
    """A limit of a run or of a part of it; `percent` goes on above 100."""

    scope: str
    name: str | None
    unit: Annotated[str, Field(description="USD, token, second, or a unit of the program's own.")]
    limit: float
    spent: float
    percent: float | None
    state: Literal["within", "warning", "exceeded"]
    enforced: bool


class RunWait(Shape):
    """A human who is waited for now; `id` is what the wait is answered by.

    `decision` is what was said already: the program has not taken it yet.
    """

    id: str
    reason: str | None
    asked_at: Time
    priority: str | None
    phase: str | None
    agent: str | None
    tool: str | None
    decision: str | None


class Run(RunSummary):
    """A run in full; of its duration humans were waited for `waiting_seconds`."""

    eta_seconds: float | None
    phases: list[Phase]
    agents: RunAgents
    scopes: list[Scope]
    checks: list[Check]
    tasks: dict[str, int]
    by_phase: list[Share]
    by_agent: list[Share]
    by_model: list[Share]
    trace_ids: list[str]
    budgets: list[Budget]
    waiting_seconds: float | None
    waits: list[RunWait]


class Agent(Shape):
    """An attempt of an agent."""

    id: str
    name: str
    type: str | None
    run_id: str | None
    workflow: str | None
    phase: str | None
    iteration: int | None
    task_id: str | None
    status: AgentStatus
    attempt: int
    parent_id: str | None
    plan_id: str | None
    pid: int | None
    host: str | None
    exit_code: int | None
    log_file: str | None
    checkpoint_id: str | None
    provider: str | None
    model: str | None
    started_at: Time
    updated_at: Time
    ended_at: Time | None
    duration_seconds: float | None
    usage: Usage
    cost_usd: Usd
    unpriced_tokens: Count
    error: Failure | None


class ModelShare(Shape):
    """What one model was used for."""

    provider: str | None
    model: str | None
    usage: Usage
    cost_usd: Usd
    unpriced_tokens: Count


class Cache(Shape):
    """How far the provider's prompt cache carried."""

    read_tokens: Count
    write_tokens: Count
    hit_ratio: Annotated[float | None, Field(ge=0, le=1)]
    saved_usd: float | None


class Telemetry(Shape):
    """The tokens, cost and cache of one agent's attempt."""

    agent_id: str
    usage: Usage
    cost_usd: Usd
    unpriced_tokens: Count
    by_model: list[ModelShare]
    cache: Cache


class Report(BaseModel):
    """The reading that `otel-agents status --server` renders: its parts are not promised."""

    model_config = ConfigDict(extra="allow")

    id: str
    status: RunStatus


Ratio = Annotated[float | None, Field(ge=0, le=1)]


class KpiValues(Shape):
    """The six KPIs; null where there is nothing to count, or a price is not known."""

    agent_utilization: Ratio
    cost_per_feature: Annotated[float | None, Field(ge=0, description="USD.")]
    average_retry_count: Annotated[float | None, Field(ge=0)]
    critic_rejection_rate: Ratio
    validation_pass_rate: Ratio
    time_to_completion: Annotated[float | None, Field(ge=0, description="Seconds.")]


class KpiTrends(Shape):
    """Each KPI in each of the last 24 hours, or five minutes of the last hour, the oldest first.

    Of a run there is none.
    """

    agent_utilization: list[Ratio]
    cost_per_feature: list[float | None]
    average_retry_count: list[float | None]
    critic_rejection_rate: list[Ratio]
    validation_pass_rate: list[Ratio]
    time_to_completion: list[float | None]


class KpiCounts(Shape):
    """What the KPIs are made of."""

    events: Count
    agents_started: Count
    agents_completed: Count
    agents_active: Count
    active_seconds: Annotated[float, Field(ge=0)]
    window_seconds: Annotated[float, Field(ge=0)]
    total_cost_usd: Annotated[float, Field(ge=0)]
    unpriced_agents: Count
    features_completed: Count
    tasks: Count
    retries: Count
    critic_decisions: Count
    critic_rejections: Count
    validations: Count
    validations_passed: Count
    tasks_completed: Count
    completion_seconds: Annotated[float, Field(ge=0)]


class Kpis(Shape):
    """The KPIs of a window of time, or of a run."""

    window: Literal["1h", "24h", "run"]
    kpis: KpiValues
    counts: KpiCounts
    trend: KpiTrends


class Deleted(Shape):
    """What was deleted with a run."""

    signals: Count
    spans: Count
    logs: Count


class Alive(Shape):
    """The process answers; `otlp_http` is where it takes telemetry."""

    service: Literal["otel-agents"]
    status: Literal["alive"]
    version: str
    otlp_http: str | None


class Ready(Shape):
    """The store takes what is sent."""

    status: Literal["ready"]
    waiting: Count
    behind_seconds: float
