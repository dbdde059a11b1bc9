-- Made by docs/schema.py from the migrations, up to 0003. Do not edit.
-- Times in columns that end in _ns are nanoseconds since the epoch.

-- SQLite

CREATE TABLE signals (
    seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    run_id TEXT DEFAULT '' NOT NULL,
    type TEXT DEFAULT '' NOT NULL,
    time_ns BIGINT DEFAULT '0' NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (id)
);

CREATE INDEX signals_run ON signals (run_id, seq);

CREATE INDEX signals_time ON signals (time_ns);

CREATE TABLE runs (
    run_id TEXT NOT NULL,
    dirty BOOLEAN DEFAULT 0 NOT NULL,
    folded BIGINT DEFAULT '0' NOT NULL,
    workflow TEXT DEFAULT '' NOT NULL,
    status TEXT DEFAULT '' NOT NULL,
    work_order_id TEXT DEFAULT '' NOT NULL,
    correlation_id TEXT DEFAULT '' NOT NULL,
    plan_id TEXT DEFAULT '' NOT NULL,
    goal TEXT DEFAULT '' NOT NULL,
    phase TEXT DEFAULT '' NOT NULL,
    iteration BIGINT,
    max_iterations BIGINT,
    share FLOAT,
    started_ns BIGINT DEFAULT '0' NOT NULL,
    updated_ns BIGINT DEFAULT '0' NOT NULL,
    ended_ns BIGINT,
    seconds FLOAT,
    agents JSON DEFAULT '{}' NOT NULL,
    input_tokens BIGINT DEFAULT '0' NOT NULL,
    output_tokens BIGINT DEFAULT '0' NOT NULL,
    cache_read_tokens BIGINT DEFAULT '0' NOT NULL,
    cache_write_tokens BIGINT DEFAULT '0' NOT NULL,
    reasoning_tokens BIGINT DEFAULT '0' NOT NULL,
    requests BIGINT DEFAULT '0' NOT NULL,
    tool_calls BIGINT DEFAULT '0' NOT NULL,
    complete BOOLEAN DEFAULT 1 NOT NULL,
    cost_usd FLOAT,
    unpriced_tokens BIGINT DEFAULT '0' NOT NULL,
    error_type TEXT,
    error_message TEXT,
    PRIMARY KEY (run_id)
);

CREATE INDEX runs_started ON runs (started_ns DESC, run_id);

CREATE INDEX runs_status ON runs (status, started_ns DESC);

CREATE INDEX runs_workflow ON runs (workflow, started_ns DESC);

CREATE INDEX runs_updated ON runs (updated_ns);

CREATE INDEX runs_dirty ON runs (run_id) WHERE dirty;

CREATE TABLE iterations (
    run_id TEXT NOT NULL,
    scope_id TEXT NOT NULL,
    number BIGINT,
    status TEXT DEFAULT '' NOT NULL,
    started_ns BIGINT DEFAULT '0' NOT NULL,
    ended_ns BIGINT,
    PRIMARY KEY (run_id, scope_id)
);

CREATE TABLE phases (
    run_id TEXT NOT NULL,
    name TEXT NOT NULL,
    status TEXT DEFAULT '' NOT NULL,
    started_ns BIGINT,
    ended_ns BIGINT,
    seconds FLOAT,
    iterations BIGINT DEFAULT '0' NOT NULL,
    input_tokens BIGINT DEFAULT '0' NOT NULL,
    output_tokens BIGINT DEFAULT '0' NOT NULL,
    cache_read_tokens BIGINT DEFAULT '0' NOT NULL,
    cache_write_tokens BIGINT DEFAULT '0' NOT NULL,
    reasoning_tokens BIGINT DEFAULT '0' NOT NULL,
    requests BIGINT DEFAULT '0' NOT NULL,
    tool_calls BIGINT DEFAULT '0' NOT NULL,
    complete BOOLEAN DEFAULT 1 NOT NULL,
    cost_usd FLOAT,
    unpriced_tokens BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (run_id, name)
);

CREATE TABLE agents (
    run_id TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    scope_id TEXT DEFAULT '' NOT NULL,
    name TEXT DEFAULT '' NOT NULL,
    type TEXT DEFAULT '' NOT NULL,
    workflow TEXT DEFAULT '' NOT NULL,
    phase TEXT DEFAULT '' NOT NULL,
    iteration BIGINT,
    task_id TEXT,
    status TEXT DEFAULT '' NOT NULL,
    attempt BIGINT DEFAULT '0' NOT NULL,
    parent_id TEXT,
    plan_id TEXT,
    pid BIGINT,
    host TEXT DEFAULT '' NOT NULL,
    exit_code BIGINT,
    log_file TEXT,
    checkpoint_id TEXT,
    provider TEXT DEFAULT '' NOT NULL,
    model TEXT DEFAULT '' NOT NULL,
    started_ns BIGINT DEFAULT '0' NOT NULL,
    updated_ns BIGINT DEFAULT '0' NOT NULL,
    ended_ns BIGINT,
    input_tokens BIGINT DEFAULT '0' NOT NULL,
    output_tokens BIGINT DEFAULT '0' NOT NULL,
    cache_read_tokens BIGINT DEFAULT '0' NOT NULL,
    cache_write_tokens BIGINT DEFAULT '0' NOT NULL,
    reasoning_tokens BIGINT DEFAULT '0' NOT NULL,
    requests BIGINT DEFAULT '0' NOT NULL,
    tool_calls BIGINT DEFAULT '0' NOT NULL,
    complete BOOLEAN DEFAULT 1 NOT NULL,
    cost_usd FLOAT,
    unpriced_tokens BIGINT DEFAULT '0' NOT NULL,
    error_type TEXT,
    error_message TEXT,
    PRIMARY KEY (run_id, agent_id)
);

CREATE INDEX agents_started ON agents (started_ns DESC, agent_id);

CREATE INDEX agents_id ON agents (agent_id, started_ns DESC);

CREATE INDEX agents_name ON agents (name, started_ns DESC);

CREATE INDEX agents_status ON agents (status, started_ns DESC);

CREATE TABLE telemetry (
    run_id TEXT NOT NULL,
    scope_id TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    workflow TEXT DEFAULT '' NOT NULL,
    phase TEXT DEFAULT '' NOT NULL,
    agent_id TEXT DEFAULT '' NOT NULL,
    agent TEXT DEFAULT '' NOT NULL,
    time_ns BIGINT DEFAULT '0' NOT NULL,
    input_tokens BIGINT DEFAULT '0' NOT NULL,
    output_tokens BIGINT DEFAULT '0' NOT NULL,
    cache_read_tokens BIGINT DEFAULT '0' NOT NULL,
    cache_write_tokens BIGINT DEFAULT '0' NOT NULL,
    reasoning_tokens BIGINT DEFAULT '0' NOT NULL,
    requests BIGINT DEFAULT '0' NOT NULL,
    tool_calls BIGINT DEFAULT '0' NOT NULL,
    complete BOOLEAN DEFAULT 1 NOT NULL,
    cost_usd FLOAT,
    unpriced_tokens BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (run_id, scope_id, provider, model)
);

CREATE INDEX telemetry_agent ON telemetry (agent_id);

CREATE INDEX telemetry_time ON telemetry (time_ns);

CREATE TABLE routes (
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    last_used_ns BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (provider, model)
);

CREATE TABLE ai_runtime_events (
    id TEXT DEFAULT (lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2) || '-a' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)))) NOT NULL,
    layer TEXT NOT NULL,
    operation TEXT NOT NULL,
    reason_code TEXT NOT NULL,
    entity_id TEXT NOT NULL,
    task_id TEXT,
    persona_id TEXT,
    worker_id TEXT,
    run_id TEXT,
    metadata JSON DEFAULT '{}' NOT NULL,
    occurred_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')) NOT NULL,
    created_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')) NOT NULL,
    PRIMARY KEY (id)
);

CREATE INDEX ai_runtime_events_occurred_at ON ai_runtime_events (occurred_at DESC, id DESC);

CREATE INDEX ai_runtime_events_layer_occurred_at ON ai_runtime_events (layer, occurred_at DESC, id DESC);

CREATE INDEX ai_runtime_events_reason_code_occurred_at ON ai_runtime_events (reason_code, occurred_at DESC, id DESC);

CREATE INDEX ai_runtime_events_entity_id_occurred_at ON ai_runtime_events (entity_id, occurred_at DESC, id DESC);

CREATE INDEX ai_runtime_events_task_id_occurred_at ON ai_runtime_events (task_id, occurred_at DESC, id DESC);

CREATE TABLE ai_worker_status (
    id TEXT DEFAULT (lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2) || '-a' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)))) NOT NULL,
    worker_id TEXT NOT NULL,
    agent_type TEXT NOT NULL,
    status TEXT NOT NULL,
    circuit_open BOOLEAN DEFAULT 0 NOT NULL,
    circuit_reason TEXT,
    last_heartbeat TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')) NOT NULL,
    current_task_id TEXT,
    metadata JSON DEFAULT '{}' NOT NULL,
    created_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')) NOT NULL,
    updated_at TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')) NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (worker_id)
);

CREATE INDEX ai_worker_status_status_updated_at ON ai_worker_status (status, updated_at DESC);

CREATE INDEX ai_worker_status_circuit_open_updated_at ON ai_worker_status (circuit_open, updated_at DESC);

CREATE TABLE facts (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    said JSON NOT NULL,
    updated_ns BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (kind, name)
);

CREATE TABLE breakers (
    name TEXT NOT NULL,
    state TEXT DEFAULT '' NOT NULL,
    reason TEXT DEFAULT '' NOT NULL,
    worker_id TEXT,
    changed_ns BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (name)
);

CREATE TABLE tasks (
    task_id TEXT NOT NULL,
    name TEXT DEFAULT '' NOT NULL,
    queue TEXT DEFAULT '' NOT NULL,
    feature TEXT DEFAULT '' NOT NULL,
    status TEXT DEFAULT '' NOT NULL,
    error TEXT,
    skip_reason TEXT,
    lease_owner TEXT,
    lease_acquired_ns BIGINT,
    lease_expires_ns BIGINT,
    run_id TEXT,
    agent_id TEXT,
    persona_id TEXT,
    worker_id TEXT,
    created_ns BIGINT DEFAULT '0' NOT NULL,
    updated_ns BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (task_id)
);

CREATE INDEX tasks_updated ON tasks (updated_ns DESC, task_id);

CREATE INDEX tasks_status ON tasks (status, updated_ns DESC);

CREATE TABLE blocks (
    id INTEGER NOT NULL,
    digest BLOB NOT NULL,
    received_ns BIGINT DEFAULT '0' NOT NULL,
    spans BIGINT DEFAULT '0' NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (digest)
);

CREATE INDEX blocks_received ON blocks (received_ns);

CREATE TABLE unindexed (
    block_id INTEGER NOT NULL,
    PRIMARY KEY (block_id)
);

CREATE TABLE traces (
    trace_id BLOB NOT NULL,
    block_id BIGINT NOT NULL,
    started_ns BIGINT DEFAULT '0' NOT NULL,
    ended_ns BIGINT DEFAULT '0' NOT NULL,
    spans BIGINT DEFAULT '0' NOT NULL,
    errors BIGINT DEFAULT '0' NOT NULL,
    root TEXT DEFAULT '' NOT NULL,
    service TEXT DEFAULT '' NOT NULL,
    run_id TEXT DEFAULT '' NOT NULL,
    PRIMARY KEY (trace_id, block_id)
)
 WITHOUT ROWID;

CREATE INDEX traces_started ON traces (started_ns DESC, trace_id, root, service, run_id, errors);

CREATE INDEX traces_run ON traces (run_id) WHERE run_id <> '';

CREATE TABLE logs (
    seq INTEGER NOT NULL,
    digest BLOB NOT NULL,
    time_ns BIGINT DEFAULT '0' NOT NULL,
    severity BIGINT DEFAULT '0' NOT NULL,
    severity_text TEXT DEFAULT '' NOT NULL,
    body TEXT DEFAULT '' NOT NULL,
    event_name TEXT DEFAULT '' NOT NULL,
    service TEXT DEFAULT '' NOT NULL,
    run_id TEXT DEFAULT '' NOT NULL,
    phase TEXT DEFAULT '' NOT NULL,
    agent_id TEXT DEFAULT '' NOT NULL,
    trace_id TEXT DEFAULT '' NOT NULL,
    span_id TEXT DEFAULT '' NOT NULL,
    attributes JSON NOT NULL,
    PRIMARY KEY (seq),
    UNIQUE (digest)
);

CREATE INDEX logs_time ON logs (time_ns DESC, seq);

CREATE INDEX logs_run_id ON logs (run_id, time_ns DESC, seq) WHERE run_id <> '';

CREATE INDEX logs_agent_id ON logs (agent_id, time_ns DESC, seq) WHERE agent_id <> '';

CREATE INDEX logs_trace_id ON logs (trace_id, time_ns DESC, seq) WHERE trace_id <> '';

CREATE TABLE metrics (
    series BLOB NOT NULL,
    name TEXT DEFAULT '' NOT NULL,
    unit TEXT DEFAULT '' NOT NULL,
    kind TEXT DEFAULT '' NOT NULL,
    service TEXT DEFAULT '' NOT NULL,
    instance TEXT DEFAULT '' NOT NULL,
    attributes JSON NOT NULL,
    started_ns BIGINT DEFAULT '0' NOT NULL,
    time_ns BIGINT DEFAULT '0' NOT NULL,
    value FLOAT,
    count BIGINT,
    sum FLOAT,
    detail JSON NOT NULL,
    PRIMARY KEY (series)
);

CREATE INDEX metrics_name ON metrics (name, series);

CREATE INDEX metrics_time ON metrics (time_ns);

CREATE TABLE alerts (
    fingerprint TEXT NOT NULL,
    status TEXT DEFAULT '' NOT NULL,
    name TEXT DEFAULT '' NOT NULL,
    severity TEXT DEFAULT '' NOT NULL,
    labels JSON DEFAULT '{}' NOT NULL,
    annotations JSON DEFAULT '{}' NOT NULL,
    generator_url TEXT DEFAULT '' NOT NULL,
    external_url TEXT DEFAULT '' NOT NULL,
    starts_ns BIGINT NOT NULL,
    ends_ns BIGINT,
    received_ns BIGINT NOT NULL,
    PRIMARY KEY (fingerprint)
);

CREATE INDEX alerts_started ON alerts (starts_ns DESC, fingerprint);

CREATE INDEX alerts_status ON alerts (status, received_ns DESC);

ALTER TABLE runs ADD COLUMN told_ns BIGINT DEFAULT '0' NOT NULL;

ALTER TABLE runs ADD COLUMN waiting_ns BIGINT;

CREATE INDEX tasks_worker ON tasks (worker_id, updated_ns DESC) WHERE worker_id IS NOT NULL;

CREATE TABLE waits (
    run_id TEXT NOT NULL,
    scope_id TEXT NOT NULL,
    wait_id TEXT DEFAULT '' NOT NULL,
    workflow TEXT DEFAULT '' NOT NULL,
    phase TEXT DEFAULT '' NOT NULL,
    agent TEXT DEFAULT '' NOT NULL,
    task_id TEXT DEFAULT '' NOT NULL,
    reason TEXT DEFAULT '' NOT NULL,
    tool TEXT DEFAULT '' NOT NULL,
    tool_call_id TEXT DEFAULT '' NOT NULL,
    attempts BIGINT,
    last_error TEXT DEFAULT '' NOT NULL,
    priority TEXT DEFAULT '' NOT NULL,
    trace_id TEXT DEFAULT '' NOT NULL,
    span_id TEXT DEFAULT '' NOT NULL,
    asked_ns BIGINT NOT NULL,
    decision TEXT DEFAULT '' NOT NULL,
    answer TEXT DEFAULT '' NOT NULL,
    answered_by TEXT DEFAULT '' NOT NULL,
    answered_ns BIGINT,
    ended_ns BIGINT,
    result TEXT DEFAULT '' NOT NULL,
    updated_ns BIGINT NOT NULL,
    said JSON NOT NULL,
    PRIMARY KEY (run_id, scope_id)
);

CREATE INDEX waits_asked ON waits (asked_ns DESC, scope_id, run_id);

CREATE INDEX waits_id ON waits (wait_id, asked_ns DESC);

CREATE INDEX waits_scope ON waits (scope_id);

CREATE INDEX waits_open ON waits (asked_ns DESC) WHERE ended_ns IS NULL;

ALTER TABLE runs ADD COLUMN held BOOLEAN DEFAULT 0 NOT NULL;

CREATE INDEX runs_held ON runs (run_id) WHERE held;


-- PostgreSQL

CREATE TABLE signals (
    seq BIGSERIAL NOT NULL,
    id TEXT NOT NULL,
    run_id TEXT DEFAULT '' NOT NULL,
    type TEXT DEFAULT '' NOT NULL,
    time_ns BIGINT DEFAULT '0' NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (seq),
    UNIQUE (id)
);

CREATE INDEX signals_run ON signals (run_id, seq);

CREATE INDEX signals_time ON signals (time_ns);

CREATE TABLE runs (
    run_id TEXT NOT NULL,
    dirty BOOLEAN DEFAULT false NOT NULL,
    folded BIGINT DEFAULT '0' NOT NULL,
    workflow TEXT DEFAULT '' NOT NULL,
    status TEXT DEFAULT '' NOT NULL,
    work_order_id TEXT DEFAULT '' NOT NULL,
    correlation_id TEXT DEFAULT '' NOT NULL,
    plan_id TEXT DEFAULT '' NOT NULL,
    goal TEXT DEFAULT '' NOT NULL,
    phase TEXT DEFAULT '' NOT NULL,
    iteration BIGINT,
    max_iterations BIGINT,
    share FLOAT(53),
    started_ns BIGINT DEFAULT '0' NOT NULL,
    updated_ns BIGINT DEFAULT '0' NOT NULL,
    ended_ns BIGINT,
    seconds FLOAT(53),
    agents JSONB DEFAULT '{}' NOT NULL,
    input_tokens BIGINT DEFAULT '0' NOT NULL,
    output_tokens BIGINT DEFAULT '0' NOT NULL,
    cache_read_tokens BIGINT DEFAULT '0' NOT NULL,
    cache_write_tokens BIGINT DEFAULT '0' NOT NULL,
    reasoning_tokens BIGINT DEFAULT '0' NOT NULL,
    requests BIGINT DEFAULT '0' NOT NULL,
    tool_calls BIGINT DEFAULT '0' NOT NULL,
    complete BOOLEAN DEFAULT true NOT NULL,
    cost_usd FLOAT(53),
    unpriced_tokens BIGINT DEFAULT '0' NOT NULL,
    error_type TEXT,
    error_message TEXT,
    PRIMARY KEY (run_id)
);

CREATE INDEX runs_started ON runs (started_ns DESC, run_id);

CREATE INDEX runs_status ON runs (status, started_ns DESC);

CREATE INDEX runs_workflow ON runs (workflow, started_ns DESC);

CREATE INDEX runs_updated ON runs (updated_ns);

CREATE INDEX runs_dirty ON runs (run_id) WHERE dirty;

CREATE TABLE iterations (
    run_id TEXT NOT NULL,
    scope_id TEXT NOT NULL,
    number BIGINT,
    status TEXT DEFAULT '' NOT NULL,
    started_ns BIGINT DEFAULT '0' NOT NULL,
    ended_ns BIGINT,
    PRIMARY KEY (run_id, scope_id)
);

CREATE TABLE phases (
    run_id TEXT NOT NULL,
    name TEXT NOT NULL,
    status TEXT DEFAULT '' NOT NULL,
    started_ns BIGINT,
    ended_ns BIGINT,
    seconds FLOAT(53),
    iterations BIGINT DEFAULT '0' NOT NULL,
    input_tokens BIGINT DEFAULT '0' NOT NULL,
    output_tokens BIGINT DEFAULT '0' NOT NULL,
    cache_read_tokens BIGINT DEFAULT '0' NOT NULL,
    cache_write_tokens BIGINT DEFAULT '0' NOT NULL,
    reasoning_tokens BIGINT DEFAULT '0' NOT NULL,
    requests BIGINT DEFAULT '0' NOT NULL,
    tool_calls BIGINT DEFAULT '0' NOT NULL,
    complete BOOLEAN DEFAULT true NOT NULL,
    cost_usd FLOAT(53),
    unpriced_tokens BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (run_id, name)
);

CREATE TABLE agents (
    run_id TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    scope_id TEXT DEFAULT '' NOT NULL,
    name TEXT DEFAULT '' NOT NULL,
    type TEXT DEFAULT '' NOT NULL,
    workflow TEXT DEFAULT '' NOT NULL,
    phase TEXT DEFAULT '' NOT NULL,
    iteration BIGINT,
    task_id TEXT,
    status TEXT DEFAULT '' NOT NULL,
    attempt BIGINT DEFAULT '0' NOT NULL,
    parent_id TEXT,
    plan_id TEXT,
    pid BIGINT,
    host TEXT DEFAULT '' NOT NULL,
    exit_code BIGINT,
    log_file TEXT,
    checkpoint_id TEXT,
    provider TEXT DEFAULT '' NOT NULL,
    model TEXT DEFAULT '' NOT NULL,
    started_ns BIGINT DEFAULT '0' NOT NULL,
    updated_ns BIGINT DEFAULT '0' NOT NULL,
    ended_ns BIGINT,
    input_tokens BIGINT DEFAULT '0' NOT NULL,
    output_tokens BIGINT DEFAULT '0' NOT NULL,
    cache_read_tokens BIGINT DEFAULT '0' NOT NULL,
    cache_write_tokens BIGINT DEFAULT '0' NOT NULL,
    reasoning_tokens BIGINT DEFAULT '0' NOT NULL,
    requests BIGINT DEFAULT '0' NOT NULL,
    tool_calls BIGINT DEFAULT '0' NOT NULL,
    complete BOOLEAN DEFAULT true NOT NULL,
    cost_usd FLOAT(53),
    unpriced_tokens BIGINT DEFAULT '0' NOT NULL,
    error_type TEXT,
    error_message TEXT,
    PRIMARY KEY (run_id, agent_id)
);

CREATE INDEX agents_started ON agents (started_ns DESC, agent_id);

CREATE INDEX agents_id ON agents (agent_id, started_ns DESC);

CREATE INDEX agents_name ON agents (name, started_ns DESC);

CREATE INDEX agents_status ON agents (status, started_ns DESC);

CREATE TABLE telemetry (
    run_id TEXT NOT NULL,
    scope_id TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    workflow TEXT DEFAULT '' NOT NULL,
    phase TEXT DEFAULT '' NOT NULL,
    agent_id TEXT DEFAULT '' NOT NULL,
    agent TEXT DEFAULT '' NOT NULL,
    time_ns BIGINT DEFAULT '0' NOT NULL,
    input_tokens BIGINT DEFAULT '0' NOT NULL,
    output_tokens BIGINT DEFAULT '0' NOT NULL,
    cache_read_tokens BIGINT DEFAULT '0' NOT NULL,
    cache_write_tokens BIGINT DEFAULT '0' NOT NULL,
    reasoning_tokens BIGINT DEFAULT '0' NOT NULL,
    requests BIGINT DEFAULT '0' NOT NULL,
    tool_calls BIGINT DEFAULT '0' NOT NULL,
    complete BOOLEAN DEFAULT true NOT NULL,
    cost_usd FLOAT(53),
    unpriced_tokens BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (run_id, scope_id, provider, model)
);

CREATE INDEX telemetry_agent ON telemetry (agent_id);

CREATE INDEX telemetry_time ON telemetry (time_ns);

CREATE TABLE routes (
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    last_used_ns BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (provider, model)
);

CREATE TABLE ai_runtime_events (
    id UUID DEFAULT gen_random_uuid() NOT NULL,
    layer TEXT NOT NULL,
    operation TEXT NOT NULL,
    reason_code TEXT NOT NULL,
    entity_id TEXT NOT NULL,
    task_id TEXT,
    persona_id TEXT,
    worker_id TEXT,
    run_id TEXT,
    metadata JSONB DEFAULT '{}' NOT NULL,
    occurred_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (id)
);

CREATE INDEX ai_runtime_events_occurred_at ON ai_runtime_events (occurred_at DESC, id DESC);

CREATE INDEX ai_runtime_events_layer_occurred_at ON ai_runtime_events (layer, occurred_at DESC, id DESC);

CREATE INDEX ai_runtime_events_reason_code_occurred_at ON ai_runtime_events (reason_code, occurred_at DESC, id DESC);

CREATE INDEX ai_runtime_events_entity_id_occurred_at ON ai_runtime_events (entity_id, occurred_at DESC, id DESC);

CREATE INDEX ai_runtime_events_task_id_occurred_at ON ai_runtime_events (task_id, occurred_at DESC, id DESC);

CREATE TABLE ai_worker_status (
    id UUID DEFAULT gen_random_uuid() NOT NULL,
    worker_id TEXT NOT NULL,
    agent_type TEXT NOT NULL,
    status TEXT NOT NULL,
    circuit_open BOOLEAN DEFAULT false NOT NULL,
    circuit_reason TEXT,
    last_heartbeat TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    current_task_id TEXT,
    metadata JSONB DEFAULT '{}' NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (worker_id)
);

CREATE INDEX ai_worker_status_status_updated_at ON ai_worker_status (status, updated_at DESC);

CREATE INDEX ai_worker_status_circuit_open_updated_at ON ai_worker_status (circuit_open, updated_at DESC);

CREATE TABLE facts (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    said JSONB NOT NULL,
    updated_ns BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (kind, name)
);

CREATE TABLE breakers (
    name TEXT NOT NULL,
    state TEXT DEFAULT '' NOT NULL,
    reason TEXT DEFAULT '' NOT NULL,
    worker_id TEXT,
    changed_ns BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (name)
);

CREATE TABLE tasks (
    task_id TEXT NOT NULL,
    name TEXT DEFAULT '' NOT NULL,
    queue TEXT DEFAULT '' NOT NULL,
    feature TEXT DEFAULT '' NOT NULL,
    status TEXT DEFAULT '' NOT NULL,
    error TEXT,
    skip_reason TEXT,
    lease_owner TEXT,
    lease_acquired_ns BIGINT,
    lease_expires_ns BIGINT,
    run_id TEXT,
    agent_id TEXT,
    persona_id TEXT,
    worker_id TEXT,
    created_ns BIGINT DEFAULT '0' NOT NULL,
    updated_ns BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (task_id)
);

CREATE INDEX tasks_updated ON tasks (updated_ns DESC, task_id);

CREATE INDEX tasks_status ON tasks (status, updated_ns DESC);

CREATE TABLE blocks (
    id BIGSERIAL NOT NULL,
    digest BYTEA NOT NULL,
    received_ns BIGINT DEFAULT '0' NOT NULL,
    spans BIGINT DEFAULT '0' NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (digest)
);

CREATE INDEX blocks_received ON blocks (received_ns);

CREATE TABLE unindexed (
    block_id BIGSERIAL NOT NULL,
    PRIMARY KEY (block_id)
);

CREATE TABLE traces (
    trace_id BYTEA NOT NULL,
    block_id BIGINT NOT NULL,
    started_ns BIGINT DEFAULT '0' NOT NULL,
    ended_ns BIGINT DEFAULT '0' NOT NULL,
    spans BIGINT DEFAULT '0' NOT NULL,
    errors BIGINT DEFAULT '0' NOT NULL,
    root TEXT DEFAULT '' NOT NULL,
    service TEXT DEFAULT '' NOT NULL,
    run_id TEXT DEFAULT '' NOT NULL,
    PRIMARY KEY (trace_id, block_id)
);

CREATE INDEX traces_started ON traces (started_ns DESC, trace_id, root, service, run_id, errors);

CREATE INDEX traces_run ON traces (run_id) WHERE run_id <> '';

CREATE TABLE logs (
    seq BIGSERIAL NOT NULL,
    digest BYTEA NOT NULL,
    time_ns BIGINT DEFAULT '0' NOT NULL,
    severity BIGINT DEFAULT '0' NOT NULL,
    severity_text TEXT DEFAULT '' NOT NULL,
    body TEXT DEFAULT '' NOT NULL,
    event_name TEXT DEFAULT '' NOT NULL,
    service TEXT DEFAULT '' NOT NULL,
    run_id TEXT DEFAULT '' NOT NULL,
    phase TEXT DEFAULT '' NOT NULL,
    agent_id TEXT DEFAULT '' NOT NULL,
    trace_id TEXT DEFAULT '' NOT NULL,
    span_id TEXT DEFAULT '' NOT NULL,
    attributes JSONB NOT NULL,
    PRIMARY KEY (seq),
    UNIQUE (digest)
);

CREATE INDEX logs_time ON logs (time_ns DESC, seq);

CREATE INDEX logs_run_id ON logs (run_id, time_ns DESC, seq) WHERE run_id <> '';

CREATE INDEX logs_agent_id ON logs (agent_id, time_ns DESC, seq) WHERE agent_id <> '';

CREATE INDEX logs_trace_id ON logs (trace_id, time_ns DESC, seq) WHERE trace_id <> '';

CREATE TABLE metrics (
    series BYTEA NOT NULL,
    name TEXT DEFAULT '' NOT NULL,
    unit TEXT DEFAULT '' NOT NULL,
    kind TEXT DEFAULT '' NOT NULL,
    service TEXT DEFAULT '' NOT NULL,
    instance TEXT DEFAULT '' NOT NULL,
    attributes JSONB NOT NULL,
    started_ns BIGINT DEFAULT '0' NOT NULL,
    time_ns BIGINT DEFAULT '0' NOT NULL,
    value FLOAT(53),
    count BIGINT,
    sum FLOAT(53),
    detail JSONB NOT NULL,
    PRIMARY KEY (series)
);

CREATE INDEX metrics_name ON metrics (name, series);

CREATE INDEX metrics_time ON metrics (time_ns);

CREATE TABLE alerts (
    fingerprint TEXT NOT NULL,
    status TEXT DEFAULT '' NOT NULL,
    name TEXT DEFAULT '' NOT NULL,
    severity TEXT DEFAULT '' NOT NULL,
    labels JSONB DEFAULT '{}' NOT NULL,
    annotations JSONB DEFAULT '{}' NOT NULL,
    generator_url TEXT DEFAULT '' NOT NULL,
    external_url TEXT DEFAULT '' NOT NULL,
    starts_ns BIGINT NOT NULL,
    ends_ns BIGINT,
    received_ns BIGINT NOT NULL,
    PRIMARY KEY (fingerprint)
);

CREATE INDEX alerts_started ON alerts (starts_ns DESC, fingerprint);

CREATE INDEX alerts_status ON alerts (status, received_ns DESC);

ALTER TABLE runs ADD COLUMN told_ns BIGINT DEFAULT '0' NOT NULL;

ALTER TABLE runs ADD COLUMN waiting_ns BIGINT;

CREATE INDEX tasks_worker ON tasks (worker_id, updated_ns DESC) WHERE worker_id IS NOT NULL;

CREATE TABLE waits (
    run_id TEXT NOT NULL,
    scope_id TEXT NOT NULL,
    wait_id TEXT DEFAULT '' NOT NULL,
    workflow TEXT DEFAULT '' NOT NULL,
    phase TEXT DEFAULT '' NOT NULL,
    agent TEXT DEFAULT '' NOT NULL,
    task_id TEXT DEFAULT '' NOT NULL,
    reason TEXT DEFAULT '' NOT NULL,
    tool TEXT DEFAULT '' NOT NULL,
    tool_call_id TEXT DEFAULT '' NOT NULL,
    attempts BIGINT,
    last_error TEXT DEFAULT '' NOT NULL,
    priority TEXT DEFAULT '' NOT NULL,
    trace_id TEXT DEFAULT '' NOT NULL,
    span_id TEXT DEFAULT '' NOT NULL,
    asked_ns BIGINT NOT NULL,
    decision TEXT DEFAULT '' NOT NULL,
    answer TEXT DEFAULT '' NOT NULL,
    answered_by TEXT DEFAULT '' NOT NULL,
    answered_ns BIGINT,
    ended_ns BIGINT,
    result TEXT DEFAULT '' NOT NULL,
    updated_ns BIGINT NOT NULL,
    said JSONB NOT NULL,
    PRIMARY KEY (run_id, scope_id)
);

CREATE INDEX waits_asked ON waits (asked_ns DESC, scope_id, run_id);

CREATE INDEX waits_id ON waits (wait_id, asked_ns DESC);

CREATE INDEX waits_scope ON waits (scope_id);

CREATE INDEX waits_open ON waits (asked_ns DESC) WHERE ended_ns IS NULL;

ALTER TABLE runs ADD COLUMN held BOOLEAN DEFAULT false NOT NULL;

CREATE INDEX runs_held ON runs (run_id) WHERE held;
