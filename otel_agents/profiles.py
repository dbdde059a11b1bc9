"""The metrics of the GenAI conventions, one table a generation of them.

The conventions are about to break: names, units and kinds of their metrics change with no
compatibility mechanism. Our own metrics (`vocabulary.METRICS`) stay as they are whatever they do.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from otel_agents.vocabulary import Metric


class Profile(NamedTuple):
    """One generation of the GenAI conventions' client metrics: name, unit and buckets."""

    model_duration: Metric
    first_chunk: Metric
    token_usage: Metric | None
    token_counters: dict[str, Metric]
    workflow_duration: Metric
    agent_duration: Metric | None
    tool_duration: Metric | None


_D: Final = (
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
)  # fmt: skip
_T: Final = tuple(float(4**n) for n in range(14))
_WORKFLOW: Final = (1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0)
_AGENT: Final = tuple(0.1 * 2**n for n in range(13))


def _seconds(name: str, brief: str, buckets: tuple[float, ...]) -> Metric:
    return Metric(f"gen_ai.{name}", "histogram", "s", (), brief, buckets)


def _tokens(name: str) -> Metric:
    return Metric(
        f"gen_ai.client.inference.usage.{name}",
        "counter",
        "{token}",
        (),
        "Tokens, by the provider.",
    )


_WORKFLOW_DURATION: Final = _seconds("invoke_workflow.duration", "Workflow durations.", _WORKFLOW)

# `compat` is what today's backends read (as opentelemetry-util-genai 1.3b0 emits it);
# `latest` the GenAI conventions of October 2026, which replace the token histogram by counters.
PROFILES: Final[dict[str, Profile]] = {
    "compat": Profile(
        _seconds("client.operation.duration", "Model call durations.", _D),
        _seconds("client.operation.time_to_first_chunk", "Time to the first chunk.", _D),
        Metric("gen_ai.client.token.usage", "histogram", "{token}", (), "Tokens a call.", _T),
        {},
        _WORKFLOW_DURATION,
        None,
        None,
    ),
    "latest": Profile(
        _seconds("client.inference.duration", "Model call durations.", _D),
        _seconds("client.inference.time_to_first_chunk", "Time to the first chunk.", _D),
        None,
        {
            "input_tokens": _tokens("input_tokens"),
            "output_tokens": _tokens("output_tokens"),
            "cache_read_tokens": _tokens("cache_read.input_tokens"),
            "cache_write_tokens": _tokens("cache_write.input_tokens"),
            "reasoning_tokens": _tokens("reasoning.output_tokens"),
        },
        _WORKFLOW_DURATION,
        _seconds("invoke_agent.duration", "Agent durations.", _AGENT),
        _seconds("execute_tool.duration", "Tool durations.", _D),
    ),
}
