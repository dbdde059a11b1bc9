"""Draw the README's picture: `otel-agents status` half-way through a run of the example.

    python docs/picture.py SIGNALS.jsonl [SHARE]

SIGNALS.jsonl is what a run of the example left in a workspace; SHARE of its signals are read.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Final

from rich.console import Console, Group

from otel_agents.cli.render import lines
from otel_agents.signals import decode_lines
from otel_agents.state.report import report
from otel_agents.state.run import fold

WIDTH: Final = 84
PICTURE: Final = Path(__file__).parent / "images" / "status.svg"


def main() -> None:
    """Write the picture."""
    signals = list(decode_lines(Path(sys.argv[1]).read_bytes().splitlines()))
    share = float(sys.argv[2]) if len(sys.argv) > 2 else 1.0  # noqa: PLR2004 - one optional word
    signals = signals[: int(len(signals) * share)]
    now = signals[-1].time
    runs = fold(signals)
    run = runs.latest
    if run is None:
        sys.exit("no run in this file")
    read = report(run, now=now, alive=lambda *_: True)
    console = Console(record=True, width=WIDTH, highlight=False, file=io.StringIO())
    console.print(Group(*lines(read, now=now, width=WIDTH)), no_wrap=True, crop=False)
    drawn = console.export_svg(title="otel-agents status --watch", unique_id="status")
    # No font is loaded from elsewhere: the reader's own monospace serves.
    start = drawn.index("@font-face")
    drawn = drawn[:start] + drawn[drawn.index(".status-matrix", start) :]
    drawn = "\n".join(line for line in drawn.splitlines() if "textualize" not in line)
    # Spaces between columns are kept by every viewer.
    drawn = drawn.replace("<svg ", '<svg xml:space="preserve" ', 1)
    PICTURE.write_text(drawn.replace("Fira Code", "ui-monospace") + "\n")


if __name__ == "__main__":
    main()
