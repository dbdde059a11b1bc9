"""Copy a harbour's landing book with a team of agents, and tell of it: `python app.py --help`.

Exit codes: 0 delivered, 1 a person must decide, 2 wrong usage, 130 interrupted.
"""

import argparse
import asyncio
import os
import sys
from pathlib import Path

from landings.account import table
from landings.book import load
from landings.orchestrator import Budget, Orchestrator, Question

from otel_agents import get_emitter

HERE = Path(__file__).resolve().parent
PAGES = ("page-1", "page-2", "page-3")
BUDGET_USD = 0.26
MOST_PACE = 60
EVENT_FILE = Path("logs/agent-events.jsonl").resolve()


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Copy the landing book of a harbour, 1911.")
    parser.add_argument(
        "--failure", action="store_true", help="bind in a stained page, and end with a person"
    )
    parser.add_argument(
        "--pace", type=_seconds, default=0.02, metavar="SECONDS",
        help="how long each step takes (default 0.02; 0.3 to watch)",
    )  # fmt: skip
    parser.add_argument("--port", type=int, default=3010, help="of the live page (default 3010)")
    parser.add_argument("--no-serve", action="store_true", help="without the live page")
    parser.add_argument(
        "--redis", metavar="URL", help="have the KPIs in Redis too (or OTEL_AGENTS_REDIS_URL)"
    )
    parser.add_argument(
        "--out", type=Path, default=HERE / "out", metavar="DIR", help="where the copy goes"
    )
    parser.add_argument("--run-id", metavar="ID", help="(default: a new one)")
    return parser.parse_args()


def _seconds(text: str) -> float:
    """Return a pace of the command line."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds <= MOST_PACE:
        message = f"{text!r} is not a number of seconds from 0 to {MOST_PACE}"
        raise argparse.ArgumentTypeError(message)
    return seconds


async def copy(options: argparse.Namespace) -> int:
    """Copy the book while the stream is served; return the exit code."""
    names = [*PAGES, "stained-page"] if options.failure else list(PAGES)
    pages = [load(HERE / "input" / f"{name}.csv") for name in names]
    budget = Budget(BUDGET_USD)
    emitter = get_emitter()
    address = None if options.no_serve else await emitter.start(port=options.port)
    if address is not None:
        print(f"Watch it at {address}/live", flush=True)
    try:
        orchestrator = Orchestrator(pages, budget, options.pace)
        outcome = await orchestrator.copy(options.out, options.run_id)
    finally:
        await asyncio.to_thread(emitter.flush)  # so that the account comes after the last event
        await emitter.stop()
    print(f"\n{table(emitter.get_metrics())}\n")
    print(_said(outcome))
    print(f"USD {budget.spent:.4f} of {budget.limit:.2f} spent.", end="")
    print(f" The events are in {EVENT_FILE}" if EVENT_FILE.exists() else "")
    return 1 if isinstance(outcome, Question) else 0


def _said(outcome: Path | Question) -> str:
    if not isinstance(outcome, Question):
        return f"Delivered {outcome}"
    rows = (f"  {', '.join(row.values())}" for row in outcome.rows)
    return "\n".join((f"Not delivered. {outcome}", *rows))


def main() -> int:
    """Run the program; return its exit code."""
    options = arguments()
    if options.redis:
        os.environ["OTEL_AGENTS_REDIS_URL"] = options.redis
    try:
        return asyncio.run(copy(options))
    except KeyboardInterrupt:
        print("Interrupted; nothing is delivered.")
        return 130


if __name__ == "__main__":
    sys.exit(main())
