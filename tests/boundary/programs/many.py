"""Makes a great many small runs, and prints what the process holds again and again.

`python many.py RUNS EVERY [KNOWN]`: a JSON line after each EVERY runs, with the resident set in
KiB, the objects that the garbage collector knows, and the lengths of our maps of what is under way.
What is remembered of things that are over has limits (10,000 names of each kind, 50,000 figures
for the KPIs); KNOWN is another, so that it is reached early.
"""

from __future__ import annotations

import gc
import json
import logging
import sys
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

import otel_agents as oa
from otel_agents import event_feed, humans, progress_scopes, runtime, under_way
from otel_agents.instrument import pydantic_ai_agents, pydantic_ai_deferred
from otel_agents.progress_scopes import registry

log = logging.getLogger("many")
logging.getLogger("otel_agents.progress").setLevel(logging.ERROR)
ANSWER = {"model": "gpt-5", "usage": {"prompt_tokens": 9, "completion_tokens": 9}}


class _Nowhere(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def run(number: int, emitter: oa.ProgressEmitter) -> None:
    """Make one run: with scopes, logs, events, an error, and one told by method."""
    task = f"t-{number}"
    try:
        with oa.run("shop", id=f"r-{number}"), oa.phase("pick"), oa.task("pack", id=task):
            with oa.agent("picker"), oa.model("gpt-5", provider="openai") as call:
                call.response(ANSWER)
            with oa.tool("scan"), oa.human("may I?") as asked:
                asked.resolve("approved")
            log.warning("run %d", number)
            oa.emit_event("agent_started", {"agent": "a", "task_id": task}, strict=False)
            ended = {"status": "success", "duration_ms": 1, "cost_usd": 0.0}
            oa.emit_event("agent_completed", {"agent": "a", "task_id": task, **ended}, strict=False)
            if number % 2:
                raise LookupError(number)
    except LookupError:
        pass
    emitter.emit_run_started("o", f"p-{number}", "Ship")
    emitter.emit_iteration_started("o", f"p-{number}", 1)
    emitter.emit_run_completed("o", f"p-{number}", "succeeded")


def held(runs: int) -> dict[str, Any]:
    """Return what the process holds, when all that waits has been written."""
    rt = runtime.get()
    rt.require_pipeline().flush(30)
    provider: Any = trace.get_tracer_provider()
    provider.force_flush()
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "runs": runs,
        "rss_kib": pages * 4,
        "objects": len(gc.get_objects()),
        "maps": {
            "open runs": len(under_way.open_runs),
            "told, open": len(registry.open),
            "told, held": len(registry.held),
            "agents": len(pydantic_ai_agents._under_way),
            "deferred": len(pydantic_ai_deferred._pending._waits),
            "humans": len(humans._desk._waits),
            "announced": len(rt.told.agents),
        },
    }


def main() -> None:
    """Make the runs and print what is held."""
    runs, every, *known = map(int, sys.argv[1:])
    for limit in known:
        event_feed._MAX_KNOWN = progress_scopes.MAX_OVER = limit
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(_Nowhere(), schedule_delay_millis=200))
    trace.set_tracer_provider(provider)
    oa.OtelAgentsInstrumentor().instrument()
    log.addHandler(logging.NullHandler())
    log.propagate = False
    emitter = oa.ProgressEmitter("delivery")
    for number in range(1, runs + 1):
        run(number, emitter)
        for limit in known if number == 1 else ():
            runtime.get().kpis._kpis.keep = limit
        if number % every == 0:
            sys.stdout.write(json.dumps(held(number)) + "\n")


main()
