"""Agents and their bills as people read them."""

from __future__ import annotations

from typing import Any

from otel_agents.cli.tables import Page, number, share, status, usd, when, wrong
from otel_agents.cli.text import duration, plural


def agents_table(items: list[Any]) -> None:
    """Print agents, one a line."""
    page = Page()
    if not items:
        page.line("No agent is recorded that fits.")
        return
    page.table(
        ("status", "agent", "id", "attempt>", "phase", "model", "started", "took>", "tokens>",
         "cost>", "run", "error"),
        [
            (
                status(each["status"]),
                each["name"] or "",
                each["id"],
                str(each["attempt"]),
                each["phase"] or "",
                each["model"] or "",
                when(each["started_at"]),
                _took(each),
                number(each["usage"]["total_tokens"]),
                usd(each["cost_usd"], each["unpriced_tokens"]),
                each["run_id"] or "",
                wrong(each["error"]),
            )
            for each in items
        ],
        drop=("started", "run", "model", "phase", "took", "error", "attempt", "tokens"),
    )  # fmt: skip


def one_agent(item: Any) -> None:
    """Print all that is known of an attempt."""
    page = Page()
    usage = item["usage"]
    page.facts(
        {
            "agent": item["name"] or "",
            "status": status(item["status"]),
            "id": item["id"],
            "attempt": str(item["attempt"]),
            "run": " · ".join(filter(None, (item["run_id"], item["workflow"]))),
            "phase": item["phase"] or "",
            "iteration": number(item["iteration"]),
            "task": item["task_id"] or "",
            "plan": item["plan_id"] or "",
            "called by": item["parent_id"] or "",
            "model": "/".join(filter(None, (item["provider"], item["model"]))),
            "process": f"{item['pid']} on {item['host']}" if item["pid"] else "",
            "exit code": "" if item["exit_code"] is None else str(item["exit_code"]),
            "log file": item["log_file"] or "",
            "checkpoint": item["checkpoint_id"] or "",
            "started": when(item["started_at"]),
            "updated": when(item["updated_at"]),
            "ended": when(item["ended_at"]),
            "took": _took(item),
            "tokens": _tokens(usage),
            "calls": f"{plural(usage['requests'], 'request')} · "
            f"{plural(usage['tool_calls'], 'tool call')}",
            "cost": _cost(item),
            "error": wrong(item["error"]),
        }
    )


def one_bill(told: Any) -> None:
    """Print what an attempt used and cost, by model."""
    page = Page()
    cache = told["cache"]
    saved = cache["saved_usd"]
    page.facts(
        {
            "agent": told["agent_id"],
            "tokens": _tokens(told["usage"]),
            "cost": _cost(told),
            "cache": " · ".join(
                filter(
                    None,
                    (
                        f"{cache['read_tokens']:,} read" if cache["read_tokens"] else "",
                        f"{cache['write_tokens']:,} written" if cache["write_tokens"] else "",
                        f"{share(cache['hit_ratio'])} of the input" if cache["hit_ratio"] else "",
                        f"{usd(saved)} saved" if saved else "",
                    ),
                )
            )
            or "not used",
        }
    )
    if told["by_model"]:
        page.line("")
        page.table(
            ("provider", "model", "requests>", "input>", "cached>", "output>", "tokens>", "cost>"),
            [
                (
                    each["provider"] or "",
                    each["model"] or "unknown",
                    number(each["usage"]["requests"]),
                    number(each["usage"]["input_tokens"]),
                    number(each["usage"]["cache_read_tokens"]),
                    number(each["usage"]["output_tokens"]),
                    number(each["usage"]["total_tokens"]),
                    usd(each["cost_usd"], each["unpriced_tokens"]),
                )
                for each in told["by_model"]
            ],
        )


def bills_table(told: list[Any], names: dict[str, str]) -> None:
    """Print what several attempts used and cost, one a line."""
    page = Page()
    page.table(
        ("agent", "id", "models", "input>", "cached>", "output>", "tokens>", "hits>", "cost>"),
        [
            (
                names.get(each["agent_id"]) or "",
                each["agent_id"],
                ", ".join(sorted({one["model"] for one in each["by_model"] if one["model"]})),
                number(each["usage"]["input_tokens"]),
                number(each["usage"]["cache_read_tokens"]),
                number(each["usage"]["output_tokens"]),
                number(each["usage"]["total_tokens"]),
                share(each["cache"]["hit_ratio"]),
                usd(each["cost_usd"], each["unpriced_tokens"]),
            )
            for each in told
        ],
        drop=("models", "cached", "hits", "input", "output"),
    )
    costs = [each["cost_usd"] for each in told if each["cost_usd"] is not None]
    total = sum(each["usage"]["total_tokens"] for each in told)
    page.line(f"{plural(len(told), 'agent')} · {total:,} tokens · {usd(sum(costs)) or '$0'}")


def _took(item: Any) -> str:
    seconds = item["duration_seconds"]
    return "" if seconds is None else duration(seconds)


def _tokens(usage: Any) -> str:
    parts = [
        (usage["input_tokens"], "input"),
        (usage["cache_read_tokens"], "of it read from cache"),
        (usage["cache_write_tokens"], "of it written to cache"),
        (usage["output_tokens"], "output"),
        (usage["reasoning_tokens"], "of it reasoning"),
    ]
    least = "" if usage["complete"] else "at least "
    told = [f"{least}{usage['total_tokens']:,}"]
    told += [f"{amount:,} {what}" for amount, what in parts if amount]
    return " · ".join(told)


def _cost(item: Any) -> str:
    from otel_agents.cli.text import cost

    return cost(item["cost_usd"], item["unpriced_tokens"])
