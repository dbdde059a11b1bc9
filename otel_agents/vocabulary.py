"""Every name this project puts on the wire, spelled once.

Attributes, metrics, scope kinds, outcomes and the words each surface uses for them.
Dashboards, alerts, reference docs and tests are made from these tables.
`gen_ai.*`, `error.type` and `service.*` follow the OpenTelemetry semantic conventions
(core v1.44.0 and the GenAI conventions of October 2026); `otelagents.*` is ours.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from otel_agents import reasons, words

NAMESPACE: Final = words.NAMESPACE
LABELS: Final = words.LABELS
LONG_BUCKETS: Final = words.LONG_BUCKETS
Attribute = words.Attribute
Instrument = words.Instrument
Metric = words.Metric
metric = words.metric
_own = words.own
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/gen-ai-dev/1.42.0-dev"

Outcome = Literal["success", "failure", "error", "timeout", "cancellation", "skip"]
OUTCOMES: Final[tuple[Outcome, ...]] = (
    "success", "failure", "error", "timeout", "cancellation", "skip",
)  # fmt: skip

# How each surface says an outcome. Runs, phases and agents also have states that are no outcome.
SAYS: Final[dict[str, dict[Outcome, str]]] = {
    "run": {
        "success": "succeeded", "failure": "failed", "error": "failed",
        "timeout": "failed", "cancellation": "canceled", "skip": "canceled",
    },
    "phase": {
        "success": "completed", "failure": "failed", "error": "failed",
        "timeout": "failed", "cancellation": "cancelled", "skip": "skipped",
    },
    "agent": {
        "success": "completed", "failure": "failed", "error": "failed",
        "timeout": "failed", "cancellation": "cancelled", "skip": "cancelled",
    },
    "task": {
        "success": "DONE", "failure": "FAILED", "error": "FAILED",
        "timeout": "FAILED", "cancellation": "FAILED", "skip": "SKIPPED",
    },
    "event": {
        "success": "success", "failure": "failed", "error": "failed",
        "timeout": "failed", "cancellation": "failed", "skip": "failed",
    },
}  # fmt: skip
# An outcome that makes a span's status ERROR. A cancelled or skipped scope did nothing wrong.
ERROR_OUTCOMES: Final = frozenset({"failure", "error", "timeout"})


# The words of runtime events, and the states of the workers, tasks and breakers they tell of.
LAYERS: Final = (
    "provider_runtime", "tool_runtime", "model_adapter", "execution", "dispatcher", "worker",
)  # fmt: skip
OPERATIONS: Final = (
    "CALL", "FALLBACK", "RETRY", "TOOL_CALL", "TOOL_LOOP", "TASK", "HEARTBEAT", "BREAKER",
)  # fmt: skip
# The events that a program tells of by name, and what agents and budgets in them came to.
EVENT_TYPES: Final = (
    "task_queued", "agent_started", "agent_completed", "validation_complete", "hitl_escalated",
    "budget_warning", "budget_exceeded",
)  # fmt: skip
CRITIC_DECISION: Final = "critic_decision"
WORKER_STATES: Final = ("RUNNING", "IDLE", "DEGRADED", "STOPPED")
TASK_STATES: Final = ("PENDING", "RUNNING", "IN_REVIEW", "DONE", "SKIPPED", "FAILED")
BREAKER_STATES: Final = ("closed", "half_open", "open")
# Every code of a runtime event, with the layers and operations it comes from and what it means.
REASON_CODES: Final = reasons.REASON_CODES


# Where we are: these stand on every span and log record inside a scope.
RUN_ID: Final = _own("run.id", str, "The run, one execution of a workflow.")
WORKFLOW: Final = _own("workflow.name", str, "The workflow that the run executes.")
WORK_ORDER_ID: Final = _own("work_order.id", str, "The order the run works on.")
CORRELATION_ID: Final = _own("correlation.id", str, "Joins runs of one cause; the run id if unset.")
PLAN_ID: Final = _own("plan.id", str, "The plan the run follows.")
ITERATION: Final = _own("iteration.number", int, "The iteration of the run.")
PHASE: Final = _own("phase.name", str, "The phase of the iteration or run.")
AGENT_RUN_ID: Final = _own("agent.run.id", str, "One attempt of an agent.")
AGENT_PARENT_RUN_ID: Final = _own("agent.parent.run.id", str, "The attempt that called this agent.")
TASK_ID: Final = _own("task.id", str, "The task being worked on.")
WORKER_ID: Final = _own("worker.id", str, "The worker that does the work.")

# What a scope adds to its own span.
RESULT: Final = _own("result", str, "How the scope ended: one of the outcomes.")
ITERATION_MAX: Final = _own("iteration.max", int, "The most iterations the run may take.")
PHASE_NUMBER: Final = _own("phase.number", int, "The position of the phase, from 1.")
AGENT_ATTEMPT: Final = _own("agent.attempt", int, "Which try of this agent at this task, from 1.")
AGENT_TOOLS: Final = _own("agent.tools", list, "The tools the agent may call.")
GATE_NAME: Final = _own("gate.name", str, "The gate that was checked.")
RUN_GOAL: Final = _own("run.goal", str, "What the run is to reach, cut to 100 characters.")
RUN_STRATEGY: Final = _own("run.strategy", str, "How the run means to reach its goal.")
TASK_FEATURE: Final = _own("task.feature", str, "The feature the task belongs to.")
TASK_STATE: Final = _own("task.state", str, "The state of the task in its queue.")
LEASE_OWNER: Final = _own("task.lease.owner", str, "Who holds the task.")
PERSONA_ID: Final = _own("task.persona.id", str, "The persona the task is meant for.")
PASSED: Final = _own("passed", bool, "Whether a gate or validation was passed.")
DELIVERY_URL: Final = _own("delivery.url", str, "Where the delivered work is.")
DELIVERY_CI: Final = _own("delivery.ci_status", str, "What CI said of the delivered work.")
WORKER_TYPE: Final = _own("worker.type", str, "The kind of worker.")
WORKER_STATUS: Final = _own("worker.status", str, "RUNNING, IDLE, DEGRADED or STOPPED.")
WORKER_TASK: Final = _own("worker.current_task.id", str, "The task a worker is at, or empty.")
CIRCUIT_OPEN: Final = _own("worker.circuit.open", bool, "Whether the worker's breaker is open.")
CIRCUIT_REASON: Final = _own("worker.circuit.reason", str, "Why the worker's breaker is open.")
TASK_QUEUE: Final = _own("task.queue", str, "The queue that the task stands in.")
LEASE_ACQUIRED: Final = _own("task.lease.acquired_at", float, "When it was leased, epoch seconds.")
LEASE_EXPIRES: Final = _own("task.lease.expires_at", float, "When the lease ends, epoch seconds.")
BREAKER_STATE: Final = _own("breaker.state", str, "closed, half_open or open.")
BREAKER_REASON: Final = _own("breaker.reason", str, "Why a breaker is in its state.")
RUNTIME_LAYER: Final = _own("runtime.layer", str, "The layer a runtime event comes from.")
RUNTIME_OPERATION: Final = _own("runtime.operation", str, "What the layer did.")
REASON_CODE: Final = _own("runtime.reason_code", str, "Why, as a code.")
ENTITY_ID: Final = _own("runtime.entity.id", str, "What it was done to: model, tool, task, worker.")
AGENT_EXIT_CODE: Final = _own("agent.exit_code", int, "The exit code of the agent's process.")
LOG_FILE: Final = _own("agent.log_file", str, "The file that holds the agent's log lines.")
EVENT_TYPE: Final = _own("event.type", str, "On signals: the domain event it was told as.")
EVENT_PAYLOAD: Final = _own("event.payload", dict, "On signals: what the program said of it.")
PROGRESS_DETAILS: Final = _own(
    "progress.details", dict, "On signals: what the caller of a progress emitter said besides."
)
TASK_ESTIMATE: Final = _own("task.estimated_cost", float, "What the task is thought to cost, USD.")
COST_REPORTED: Final = _own(
    "cost.reported", float, "USD the program reports, where its usage says otherwise."
)
COST_DIFFERENCE: Final = _own(
    "cost.difference", float, "USD reported by the program less those its usage comes to."
)
CHECKPOINT_ID: Final = _own("checkpoint.id", str, "The checkpoint taken before the scope began.")
CHECKPOINT_MESSAGE: Final = _own("checkpoint.message", str, "What the checkpoint was taken before.")
CHECKPOINT_FILES: Final = _own("checkpoint.files", int, "The files in a checkpoint.")
CHECKPOINT_BYTES: Final = _own("checkpoint.bytes", int, "The bytes of the files in a checkpoint.")
RESTORE_UNDO: Final = _own("restore.undo.id", str, "The checkpoint taken before a restore.")
RESTORE_CHANGED: Final = _own("restore.changed", int, "The files that a restore changed.")
RESTORE_REASON: Final = _own("restore.reason", str, "Why a restore was refused to an agent.")
WAIT_REASON: Final = _own("human.reason", str, "What a human is asked for.")
WAIT_ID: Final = _own("human.id", str, "The wait, as `otel-agents hitl resolve` takes it.")
WAIT_ATTEMPTS: Final = _own("human.attempts", int, "Attempts made before a human was asked.")
WAIT_ERROR: Final = _own("human.last_error", str, "What the last attempt failed with.")
WAIT_PRIORITY: Final = _own("human.priority", str, "How urgent the answer is, in your own words.")
WAIT_TOOL: Final = _own("human.tool", str, "The tool whose call a human has to approve or answer.")
WAIT_TOOL_CALL: Final = _own("human.tool.call.id", str, "The provider's id of that call.")
DECISION: Final = _own("human.decision", str, "What came of a wait: approved, rejected, answered.")
ANSWER: Final = _own("human.answer", str, "What the human said, redacted and cut.")
ANSWERED_BY: Final = _own("human.answered_by", str, "Where an answer came from: cli, console, api.")
WAITED: Final = _own(
    "wait.seconds", float,
    "Seconds in which a human was waited for: a part of the span, not of durations as metrics.",
)  # fmt: skip
BUDGET_USD: Final = _own("budget.usd.limit", float, "USD that may be spent in the scope.")
BUDGET_TOKENS: Final = _own("budget.tokens.limit", int, "Tokens that may be used in the scope.")
BUDGET_SECONDS: Final = _own(
    "budget.seconds.limit", float, "Seconds the scope may take, waits for a human left out."
)
BUDGET_USD_ENFORCED: Final = _own(
    "budget.usd.enforced.limit", float, "USD beyond which calls are refused, if not the limit."
)
BUDGET_TOKENS_ENFORCED: Final = _own(
    "budget.tokens.enforced.limit", int, "Tokens beyond which calls are refused, if not the limit."
)
BUDGET_SECONDS_ENFORCED: Final = _own(
    "budget.seconds.enforced.limit", float,
    "Seconds beyond which calls are refused, if not the limit.",
)  # fmt: skip
BUDGET_WARN_AT: Final = _own("budget.warn_at", float, "The share of a limit that is warned at.")
BUDGET_ENFORCED: Final = _own("budget.enforced", bool, "Whether model calls beyond it are refused.")
BUDGET_ENFORCED_UNITS: Final = _own(
    "budget.enforced.units", list, "The units whose limits are enforced: USD, token, second."
)
BUDGET_USD_SPENT: Final = _own("budget.usd.spent", float, "USD spent of the scope's budget.")
BUDGET_TOKENS_SPENT: Final = _own("budget.tokens.spent", int, "Tokens used of the scope's budget.")
BUDGET_SECONDS_SPENT: Final = _own(
    "budget.seconds.spent", float, "Seconds taken of the scope's budget."
)
BUDGET_STATE: Final = _own("budget.state", str, "How a budget stands: within, warning, exceeded.")
SIGNAL: Final = _own("signal", str, "On log records: the whole signal, as JSON.")
PROGRESS_DONE: Final = _own("progress.done", int, "Units of work done so far.")
PROGRESS_TOTAL: Final = _own("progress.total", int, "Units of work in all.")
COVERED_BY: Final = _own(
    "usage.covered_by",
    str,
    "The other instrumentation whose span carries `gen_ai.usage.*` instead.",
)
ATTEMPTS: Final = _own("model.attempts", int, "HTTP requests the model call took, if over one.")

# Roll-ups on agent, phase, iteration and run. They stand under keys of our own, so that a sum of
# `gen_ai.usage.*` over all spans is the bill.
USAGE_COMPLETE: Final = _own("usage.complete", bool, "False: some billed usage was not seen.")
TOTAL_INPUT: Final = _own("usage.total.input_tokens", int, "Input tokens, cached ones included.")
TOTAL_OUTPUT: Final = _own("usage.total.output_tokens", int, "Output tokens, reasoning included.")
TOTAL_CACHE_READ: Final = _own(
    "usage.total.cache_read_tokens", int, "Input tokens read from cache."
)
TOTAL_CACHE_WRITE: Final = _own("usage.total.cache_write_tokens", int, "Input tokens put in cache.")
TOTAL_REASONING: Final = _own("usage.total.reasoning_tokens", int, "Output tokens of reasoning.")
TOTAL_REQUESTS: Final = _own("usage.total.requests", int, "Model calls.")
TOTAL_TOOL_CALLS: Final = _own("usage.total.tool_calls", int, "Tool calls.")
COST_TOTAL: Final = _own("cost.total", float, "USD; absent where a price is unknown.")
UNPRICED: Final = _own("usage.unpriced_tokens", int, "Tokens of models whose price is unknown.")

# The conventions' own.
ERROR_TYPE: Final = Attribute("error.type", str, "What went wrong, as a class or code.")
OPERATION: Final = Attribute("gen_ai.operation.name", str, "The kind of GenAI operation.")
PROVIDER: Final = Attribute("gen_ai.provider.name", str, "The provider, in the conventions' words.")
REQUEST_MODEL: Final = Attribute("gen_ai.request.model", str, "The model asked for.")
RESPONSE_MODEL: Final = Attribute("gen_ai.response.model", str, "The model that answered.")
RESPONSE_ID: Final = Attribute("gen_ai.response.id", str, "The provider's id of the answer.")
FINISH_REASONS: Final = Attribute("gen_ai.response.finish_reasons", list, "Why the model stopped.")
TIME_TO_FIRST_CHUNK: Final = Attribute(
    "gen_ai.response.time_to_first_chunk", float, "Seconds to the first chunk with content."
)
REQUEST_STREAM: Final = Attribute("gen_ai.request.stream", bool, "The answer was streamed.")
INPUT_TOKENS: Final = Attribute("gen_ai.usage.input_tokens", int, "With cached tokens.")
OUTPUT_TOKENS: Final = Attribute("gen_ai.usage.output_tokens", int, "With reasoning tokens.")
CACHE_READ: Final = Attribute("gen_ai.usage.cache_read.input_tokens", int, "Read from cache.")
CACHE_WRITE: Final = Attribute("gen_ai.usage.cache_write.input_tokens", int, "Put in cache.")
REASONING: Final = Attribute("gen_ai.usage.reasoning.output_tokens", int, "Spent on reasoning.")
AGENT_NAME: Final = Attribute("gen_ai.agent.name", str, "The agent's name.")
WORKFLOW_NAME: Final = Attribute("gen_ai.workflow.name", str, "The workflow's name.")
CONVERSATION_ID: Final = Attribute("gen_ai.conversation.id", str, "The conversation, if real.")
TOOL_NAME: Final = Attribute("gen_ai.tool.name", str, "The tool's name.")
TOOL_CALL_ID: Final = Attribute("gen_ai.tool.call.id", str, "The provider's id of the call.")
TOOL_TYPE: Final = Attribute("gen_ai.tool.type", str, "function, extension or datastore.")
TOOL_ARGUMENTS: Final = Attribute("gen_ai.tool.call.arguments", str, "Only where capture is on.")
TOOL_RESULT: Final = Attribute("gen_ai.tool.call.result", str, "Only where capture is on.")
INPUT_MESSAGES: Final = Attribute("gen_ai.input.messages", str, "Only where capture is on.")
SYSTEM_INSTRUCTIONS: Final = Attribute(
    "gen_ai.system_instructions", str, "Only where capture is on."
)
OUTPUT_MESSAGES: Final = Attribute("gen_ai.output.messages", str, "Only where capture is on.")

ATTRIBUTES: Final[dict[str, Attribute]] = {
    value.key: value for value in list(globals().values()) if isinstance(value, words.Attribute)
}

TOKEN_TYPES: Final = ("input", "cache_read", "cache_write", "output")

RUNS_STARTED: Final = metric("runs.started", "counter", "{run}", "workflow", "Runs started.")
RUNS_COMPLETED: Final = metric(
    "runs.completed", "counter", "{run}", "workflow result", "Runs ended, by result."
)
RUN_ACTIVE: Final = metric("run.active", "updown", "{run}", "workflow", "Runs under way.")
RUN_DURATION: Final = metric(
    "run.duration", "histogram", "s", "workflow result", "How long runs took."
)
ITERATIONS: Final = metric(
    "iterations", "counter", "{iteration}", "workflow result", "Iterations ended."
)
ITERATION_DURATION: Final = metric(
    "iteration.duration", "histogram", "s", "workflow result", "How long iterations took."
)
PHASE_DURATION: Final = metric(
    "phase.duration", "histogram", "s", "workflow phase result", "How long phases took."
)
AGENT_DURATION: Final = metric(
    "agent.duration", "histogram", "s", "workflow phase agent result", "How long attempts took."
)
AGENT_ACTIVE: Final = metric(
    "agent.active", "updown", "{agent}", "workflow phase agent", "Agents at work."
)
AGENT_ATTEMPTS: Final = metric(
    "agent.attempts", "counter", "{attempt}", "workflow phase agent result", "Attempts ended."
)
AGENT_WAIT_DURATION: Final = metric(
    "agent.wait.duration", "histogram", "s", "workflow phase agent result",
    "How long attempts waited for a human, where they did.",
)  # fmt: skip
TASK_DURATION: Final = metric(
    "task.duration", "histogram", "s", "queue result", "How long tasks took."
)
QUEUE_SIZE: Final = metric(
    "queue.size", "gauge", "{task}", "queue state", "Open tasks that the process knows of."
)
QUEUE_OLDEST: Final = metric(
    "queue.oldest.age", "gauge", "s", "queue", "How long the oldest pending task has waited."
)
WORKER_COUNT: Final = metric(
    "worker.count", "updown", "{worker}", "worker_type state", "Workers at work or idle."
)
HEARTBEAT_AGE: Final = metric(
    "worker.heartbeat.age", "gauge", "s", "worker_type", "The oldest of the last heartbeats."
)
BREAKER_POSITION: Final = metric(
    "breaker.state", "gauge", "", "breaker", "0 closed, 1 half-open, 2 open."
)
TOKENS: Final = metric(
    "tokens", "counter", "{token}", "agent phase provider model type",
    "Tokens billed; the types are disjoint, their sum is the bill's.",
)  # fmt: skip
TOKENS_UNPRICED: Final = metric(
    "tokens.unpriced", "counter", "{token}", "agent provider model", "Tokens without a known price."
)
COST: Final = metric(
    "cost", "counter", "{USD}", "agent phase provider model result", "Money spent, where known."
)
MODEL_CALLS: Final = metric(
    "model.calls", "counter", "{call}", "agent model result",
    "Questions put to a model; asking again after an answer was refused is the same question.",
)  # fmt: skip
MODEL_ATTEMPTS: Final = metric(
    "model.attempts", "counter", "{attempt}", "agent model result", "Tries, retries included."
)
MODEL_ERRORS: Final = metric(
    "model.errors", "counter", "{error}", "agent provider model reason",
    "Tries that failed, by a runtime event's reason code: RATE_LIMITED, TIMEOUT and so on.",
)  # fmt: skip
TOOL_CALLS: Final = metric(
    "tool.calls", "counter", "{call}", "agent tool result", "Tool calls ended."
)
GATE_CHECKS: Final = metric("gate.checks", "counter", "{check}", "gate result", "Gates checked.")
VALIDATIONS: Final = metric(
    "validations", "counter", "{validation}", "name result", "Validations made."
)
CRITIC_DECISIONS: Final = metric(
    "critic.decisions", "counter", "{decision}", "name result", "What critics decided."
)
BUDGET_LIMIT: Final = metric("budget.limit", "gauge", "", "budget unit", "What may be spent.")
BUDGET_USAGE: Final = metric("budget.usage", "gauge", "", "budget unit", "What was spent.")
BUDGET_UTILIZATION: Final = metric(
    "budget.utilization", "gauge", "", "budget unit", "The share of the budget that was spent."
)
BUDGET_EVENTS: Final = metric(
    "budget.events", "counter", "{event}", "budget unit level",
    "Times a budget was nearly or wholly spent.",
)  # fmt: skip
DELIVERIES: Final = metric("deliveries", "counter", "{delivery}", "result", "Deliveries made.")
HITL_ESCALATIONS: Final = metric(
    "hitl.escalations", "counter", "{escalation}", "workflow", "Times a human was asked."
)
HITL_WAITING: Final = metric(
    "hitl.waiting", "updown", "{wait}", "workflow", "Waits for a human now."
)
HITL_WAIT_DURATION: Final = metric(
    "hitl.wait.duration", "histogram", "s", "workflow", "How long humans were waited for."
)
CHECKPOINTS: Final = metric(
    "checkpoints", "counter", "{checkpoint}", "result", "Checkpoints taken, or not."
)
RESTORES: Final = metric(
    "restores", "counter", "{restore}", "result",
    "Checkpoints that agents asked for: success restored, skip refused, failure tried in vain.",
)  # fmt: skip
INSTRUMENTATION_MISSING: Final = metric(
    "instrumentation.missing", "gauge", "{target}", "target",
    "1 for what the settings or an installed framework ask for and that could not be wrapped.",
)  # fmt: skip
TELEMETRY_DROPPED: Final = metric(
    "telemetry.dropped", "counter", "{item}", "sink reason", "Signals lost, and failures of ours."
)

# The six KPIs, as `state.kpis` counts them in a process; they have no labels.
KPI_METRICS: Final[dict[str, Metric]] = {
    # Prometheus keeps names in `_count` for histograms.
    name: metric(f"kpi.{name.replace('_retry_count', '_retries')}", "gauge", unit, "", brief)
    for name, unit, brief in (
        ("agent_utilization", "", "The share of the time in which an agent was active."),
        ("cost_per_feature", "{USD}", "Money spent for each feature that was completed."),
        ("average_retry_count", "{retry}", "Attempts repeated for each task."),
        ("critic_rejection_rate", "", "The share of the critics' decisions that reject."),
        ("validation_pass_rate", "", "The share of the validations that passed."),
        ("time_to_completion", "s", "From a task's queueing to its last successful end."),
    )
}

METRICS: Final[dict[str, Metric]] = {
    value.name: value
    for value in (*globals().values(), *KPI_METRICS.values())
    if isinstance(value, words.Metric)
}


class Kind(NamedTuple):
    """A kind of scope, as data: how its span is named and what it counts and emits.

    `span` is the span's name, `{}` standing for the scope's name; `unnamed` is used without one.
    `id_field` is the field of the scope that holds its id; `ids` maps fields to those of
    `signals.Ids`, and `name_slot` is the one its name goes to.
    `name_key` is the attribute of the scope's own span for its name.
    `fields` maps what a caller may set to an attribute of the scope's own span.
    """

    name: str
    span: str
    unnamed: str
    name_slot: str = ""
    name_key: Attribute | None = None
    id_field: str = ""
    operation: str = ""
    fields: dict[str, Attribute] = {}  # noqa: RUF012 - a table that nobody changes
    ids: dict[str, str] = {}  # noqa: RUF012 - a table that nobody changes
    started: Metric | None = None
    active: Metric | None = None
    ended: Metric | None = None
    duration: Metric | None = None
    starts: bool = True
    ends: bool = True
    judges: bool = False
    guarded: bool = False


# Fields of the kinds that can have a budget, and are saved before: those that are `guarded`.
_BUDGETED: Final[dict[str, Attribute]] = {
    "budget_usd": BUDGET_USD, "budget_tokens": BUDGET_TOKENS, "budget_seconds": BUDGET_SECONDS,
    "budget_warn_at": BUDGET_WARN_AT, "budget_enforce": BUDGET_ENFORCED,
}  # fmt: skip
# Fields that any scope takes.
ANY_FIELDS: Final[dict[str, Attribute]] = {"done": PROGRESS_DONE, "total": PROGRESS_TOTAL}

KINDS: Final[dict[str, Kind]] = {
    kind.name: kind
    for kind in (
        Kind(
            "run", "invoke_workflow {}", "invoke_workflow",
            name_slot="workflow", name_key=WORKFLOW_NAME, id_field="run_id",
            operation="invoke_workflow",
            ids={
                "run_id": "run_id", "work_order_id": "work_order_id",
                "correlation_id": "correlation_id", "plan_id": "plan_id",
            },
            fields={
                "goal": RUN_GOAL, "strategy": RUN_STRATEGY, "max_iterations": ITERATION_MAX,
                **_BUDGETED,
            },
            started=RUNS_STARTED, active=RUN_ACTIVE, ended=RUNS_COMPLETED, duration=RUN_DURATION,
            guarded=True,
        ),
        Kind(
            "iteration", "iteration", "iteration", ids={"number": "iteration"},
            fields={"max": ITERATION_MAX}, ended=ITERATIONS, duration=ITERATION_DURATION,
        ),
        Kind(
            "phase", "phase {}", "phase", name_slot="phase",
            fields={"number": PHASE_NUMBER, **_BUDGETED}, duration=PHASE_DURATION, guarded=True,
        ),
        Kind(
            "agent", "invoke_agent {}", "invoke_agent", name_slot="agent", name_key=AGENT_NAME,
            id_field="agent_id", operation="invoke_agent", ids={"agent_id": "agent_id"},
            fields={
                "model": REQUEST_MODEL, "attempt": AGENT_ATTEMPT, "exit_code": AGENT_EXIT_CODE,
                **_BUDGETED,
            },
            active=AGENT_ACTIVE, ended=AGENT_ATTEMPTS, duration=AGENT_DURATION, guarded=True,
        ),
        Kind(
            "task", "task {}", "task", name_slot="", id_field="task_id", ids={"task_id": "task_id"},
            fields={
                "feature": TASK_FEATURE, "state": TASK_STATE, "lease_owner": LEASE_OWNER,
                "persona_id": PERSONA_ID, "queue": TASK_QUEUE,
                "lease_acquired_at": LEASE_ACQUIRED, "lease_expires_at": LEASE_EXPIRES,
                **_BUDGETED,
            },
            duration=TASK_DURATION, guarded=True,
        ),
        Kind(
            "tool", "execute_tool {}", "execute_tool", name_key=TOOL_NAME,
            operation="execute_tool", ended=TOOL_CALLS, starts=False, ends=False,
        ),
        Kind(
            "model", "chat {}", "chat", name_key=REQUEST_MODEL, operation="chat",
            fields={"provider": PROVIDER}, starts=False, ends=False,
        ),
        Kind(
            "gate", "gate {}", "gate", name_key=GATE_NAME, fields={"passed": PASSED},
            ended=GATE_CHECKS, starts=False, judges=True,
        ),
        Kind(
            "validation", "validation {}", "validation", fields={"passed": PASSED},
            ended=VALIDATIONS, starts=False, judges=True,
        ),
        Kind(
            "delivery", "delivery", "delivery",
            fields={"success": PASSED, "url": DELIVERY_URL, "ci_status": DELIVERY_CI},
            ended=DELIVERIES, judges=True,
        ),
        Kind(
            "worker", "worker {}", "worker", id_field="worker_id", ids={"worker_id": "worker_id"},
            fields={"agent_type": WORKER_TYPE},
        ),
        Kind(
            "human", "human {}", "human", name_key=WAIT_REASON,
            fields={
                "attempts": WAIT_ATTEMPTS, "last_error": WAIT_ERROR, "priority": WAIT_PRIORITY,
            },
            started=HITL_ESCALATIONS, active=HITL_WAITING, duration=HITL_WAIT_DURATION,
        ),
        Kind(
            "restore", "restore", "restore",
            fields={
                "checkpoint_id": CHECKPOINT_ID, "undo_id": RESTORE_UNDO,
                "changed": RESTORE_CHANGED,
            },
            ended=RESTORES,
        ),
    )
}  # fmt: skip
