"""Migrate the settings of a ferry line's ticket machines with agents: `python app.py --help`.

Exit codes: 0 committed, 1 not committed, 2 wrong usage, 130 interrupted.
"""

import argparse
import asyncio
import logging
import sys
import uuid
from pathlib import Path

from ferry import repository
from ferry.agents import Desk
from ferry.migration import Migration
from ferry.offline import models
from ferry.owner import Owner
from ferry.settings import load

HERE = Path(__file__).resolve().parent
ANSWERS = {"approve": "approved", "reject": "rejected"}


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Migrate the settings in the git repository that is the working directory."
    )
    parser.add_argument(
        "--new", type=Path, nargs="?", const=HERE / "out" / "ferry", metavar="DIR",
        help="make such a repository instead (default: out/ferry beside app.py)",
    )  # fmt: skip
    parser.add_argument(
        "--answer", choices=ANSWERS, help="answer the question to the owner, so that nobody waits"
    )
    parser.add_argument(
        "--pace", type=float, default=0.02, metavar="SECONDS",
        help="for each model call (default 0.02; 0.5 to watch)",
    )  # fmt: skip
    parser.add_argument("--run-id", default=str(uuid.uuid4()), help="(default: a new one)")
    return parser.parse_args()


def main() -> int:
    """Run the program; return its exit code."""
    options = arguments()
    account = logging.getLogger("ferry")
    account.setLevel(logging.INFO)
    account.addHandler(logging.StreamHandler(sys.stdout))
    if options.new is not None:
        try:
            repository.create(options.new, HERE / "input")
        except FileExistsError as error:
            sys.stderr.write(f"{error}\n")
            return 2
        print(f"cd {options.new}")
        return 0
    folder = Path.cwd()
    stages = load(folder)
    if not stages or not (folder / ".git").is_dir():
        sys.stderr.write("Here is no repository of settings; make one with --new.\n")
        return 2
    owner = Owner(f"commit-{options.run_id[:8]}", ANSWERS.get(options.answer))
    desk = Desk(folder, stages, owner, models(options.pace))
    try:
        outcome = asyncio.run(Migration(desk).run(options.run_id))
    except KeyboardInterrupt:
        account.info("Interrupted; nothing is committed.")
        return 130
    if outcome.commit is None:
        account.info("Nothing is committed: the owner's answer was %s.", outcome.decision)
        return 1
    account.info("Committed as %s.", outcome.commit)
    return 0


if __name__ == "__main__":
    sys.exit(main())
