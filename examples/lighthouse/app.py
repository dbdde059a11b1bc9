"""Index the log of a lighthouse with a team of agents: `python app.py --help`.

Exit codes: 0 delivered, 1 not delivered (a person must decide, or a model failed), 2 wrong usage,
130 interrupted.
"""

import argparse
import asyncio
import logging
import sys
import uuid
from pathlib import Path

from logbook.agents import Desk
from logbook.models import ModelUnavailable, models
from logbook.pipeline import Escalation, Order, Pipeline
from logbook.source import Logbook
from pydantic_ai.exceptions import AgentRunError

HERE = Path(__file__).resolve().parent


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Index the log of Tern Skerry Light, 1911.")
    parser.add_argument(
        "--model",
        default="offline",
        metavar="PROVIDER:NAME",
        help="a model known to pydantic-ai, or offline:NAME for offline models of that name "
        "(default: offline models, which need no network)",
    )
    parser.add_argument(
        "--failure", action="store_true", help="bind a loose leaf into the log that spoils it"
    )
    parser.add_argument(
        "--chapters", type=int, default=6, choices=range(1, 7), help="only the first chapters"
    )
    parser.add_argument(
        "--out", type=Path, default=HERE / "out", metavar="DIR", help="where the report goes"
    )
    parser.add_argument(
        "--pace", type=float, default=0.02, metavar="SECONDS", help="for each offline model call"
    )
    parser.add_argument("--run-id", default=str(uuid.uuid4()), help="(default: a new one)")
    return parser.parse_args()


def prepare(options: argparse.Namespace) -> tuple[Pipeline, Order]:
    """Lay out the log, the models and an empty folder for drafts; say what is wanted."""
    log = Logbook.load(HERE / "input" / "log-1911.md").first_chapters(options.chapters)
    if options.failure:
        log = log.bind(HERE / "input" / "loose-leaf.md")
    drafts = options.out / "drafts"
    drafts.mkdir(parents=True, exist_ok=True)
    for stale in drafts.glob("item-*.json"):
        stale.unlink()
    desk = Desk(log, drafts, models(options.model, options.pace))
    goal = f"index {log.title} ({len(log.passages)} passages), with a timeline, its contradictions"
    order = Order("TSL-1911", f"{goal} and a digest of each chapter", options.out)
    return Pipeline(desk), order


def main() -> int:
    """Run the program; return its exit code."""
    options = arguments()
    account = logging.getLogger("logbook")
    account.setLevel(logging.INFO)
    account.addHandler(logging.StreamHandler(sys.stdout))
    try:
        pipeline, order = prepare(options)
        outcome = asyncio.run(pipeline.run(order, options.run_id))
    except ModelUnavailable as problem:
        sys.stderr.write(f"{problem}\n")
        return 2
    except KeyboardInterrupt:
        account.info("Interrupted; nothing is delivered.")
        return 130
    except AgentRunError as error:
        sys.stderr.write(f"A model failed: {error}\n")
        return 1
    except Escalation as question:
        account.info("Nothing is delivered: %s must decide %s.", question.who, question.decision)
        for passage in question.evidence:
            account.info("  [%d] %s. %s", passage.number, passage.day, passage.text)
        account.info("(%s, after %d attempts)", question.task_id, question.attempts)
        return 1
    counts = ", ".join(f"{count} {part}" for part, count in outcome.counts.items())
    account.info("Done in %d iterations: %s.", outcome.iterations, counts)
    account.info("Read %s", outcome.url)
    return 0


if __name__ == "__main__":
    sys.exit(main())
