"""Write the dashboards and rules, or say whether those that are there are what the code makes.

python -m dashboards [--check] [--out DIR] [--console URL] [--grafana URL] [--jaeger URL]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from dashboards import agents, alerts, cost, fleet, rules, run, telemetry, workers
from dashboards.links import Links

if TYPE_CHECKING:
    from collections.abc import Sequence

GENERATED: Final = Path(__file__).resolve().parent / "generated"
_HEADER: Final = "# Made by `python -m dashboards`: do not edit.\n"
BOARDS: Final = {
    "fleet": fleet, "run": run, "cost": cost, "agents": agents, "workers": workers,
    "telemetry": telemetry,
}  # fmt: skip


def made(links: Links) -> dict[str, str]:
    """Return every generated file: its path below the folder, and its text."""
    boards = {
        f"dashboards/{name}.json": _json(module.build(links)) for name, module in BOARDS.items()
    }
    return {
        **boards,
        "rules/alerts.yml": _yaml(alerts.document(links.console, links.grafana)),
        "rules/recording.yml": _yaml(rules.document()),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 1 where `--check` finds a difference."""
    usual = Links()
    parser = argparse.ArgumentParser(prog="python -m dashboards", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    parser.add_argument("--out", type=Path, default=GENERATED, metavar="DIR")
    parser.add_argument("--console", default=usual.console, metavar="URL")
    parser.add_argument("--grafana", default=usual.grafana, metavar="URL")
    parser.add_argument("--jaeger", default=usual.jaeger, metavar="URL")
    asked = parser.parse_args(argv)
    links = Links(*(url.rstrip("/") for url in (asked.console, asked.grafana, asked.jaeger)))
    wanted = made(links)
    return _differences(asked.out, wanted) if asked.check else _write(asked.out, wanted)


def _write(folder: Path, wanted: dict[str, str]) -> int:
    for path, text in wanted.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    return 0


def _differences(folder: Path, wanted: dict[str, str]) -> int:
    """Name each file that is missing, other than it would be made, or not made here."""
    there = {
        str(path.relative_to(folder)): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    differing = [name for name in {**there, **wanted} if there.get(name) != wanted.get(name)]
    for name in sorted(differing):
        sys.stderr.write(f"{name} is not what the code makes: run `python -m dashboards`\n")
    return 1 if differing else 0


def _yaml(document: dict[str, Any]) -> str:
    text: str = yaml.safe_dump(document, sort_keys=False, width=100, allow_unicode=True)
    return _HEADER + text


def _json(board: dict[str, Any]) -> str:
    return json.dumps(board, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
