"""The shapes of the admin API's answers."""

# pydantic reads the annotations when the classes are made.

from typing import Any, Literal

from otel_agents.server.schemas import Count, Shape, TaskStatus, Time
from otel_agents.server.schemas_alerts import Alert

WorkerStatus = Literal["RUNNING", "IDLE", "DEGRADED", "STOPPED"]


class RuntimeEvent(Shape):
    """A row of `ai_runtime_events`."""

    id: str
    layer: str
    operation: str
    reason_code: str
    entity_id: str
    task_id: str | None
    persona_id: str | None
    worker_id: str | None
    run_id: str | None
    metadata: dict[str, Any]
    occurred_at: Time
    created_at: Time


class Worker(Shape):
    """A worker as of its last heartbeat; `stale` is one that should have been heard of."""

    worker_id: str
    agent_type: str | None
    status: WorkerStatus
    circuit_open: bool
    circuit_reason: str | None
    last_heartbeat: Time | None
    age_seconds: float | None
    stale: bool
    current_task_id: str | None
    metadata: dict[str, Any]
    updated_at: Time


class Breaker(Shape):
    """A circuit breaker."""

    name: str
    state: Literal["closed", "half_open", "open"]
    reason: str | None
    worker_id: str | None
    changed_at: Time
    open: bool


class Route(Shape):
    """A model that is in use, and where."""

    provider: str | None
    model: str | None
    last_used_at: Time


class Queue(Shape):
    """How many tasks are in each state."""

    PENDING: Count
    RUNNING: Count
    IN_REVIEW: Count
    DONE: Count
    SKIPPED: Count
    FAILED: Count


class Degraded(Shape):
    """What is not well."""

    workers: list[str]
    breakers: list[str]
    stuck_tasks: Count
    any: bool


class RuntimeStatus(Shape):
    """The state of workers, breakers and queues."""

    overall: Literal["healthy", "degraded", "unhealthy"]
    workers: list[Worker]
    breakers: list[Breaker]
    queue: Queue
    stuck: Count
    degraded: Degraded
    routes: list[Route]
    last_event: RuntimeEvent | None
    running_runs: Count


class Task(Shape):
    """A task; it is stuck where its lease ran out."""

    task_id: str
    name: str | None
    queue: str | None
    feature: str | None
    status: TaskStatus
    stuck: bool
    error: Any
    skip_reason: str | None
    lease_owner: str | None
    lease_acquired_at: Time | None
    lease_expires_at: Time | None
    run_id: str | None
    agent_id: str | None
    persona_id: str | None
    worker_id: str | None
    created_at: Time
    updated_at: Time
    latest_event: RuntimeEvent | None


class Verdict(Shape):
    """Whether the runtime is healthy, and what is not; alerts that fire are listed beside."""

    healthy: bool
    problems: list[str]
    workers: list[Worker]
    breakers: list[Breaker]
    routes: list[Route]
    queue: Queue
    stuck: Count
    events: list[RuntimeEvent]
    alerts: list[Alert]
