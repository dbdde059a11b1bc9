"""The example program, its spans and signals compared with what the SDK's encoder makes of them.

`python -m tests.spool.lighthouse FOLDER` prints how many there were; wrapping its modules is for a
process of its own.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path

from otel_agents.testing import capture
from tests.spool.same import check, check_signals

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "lighthouse"


def main(folder: str) -> None:
    """Run the program and compare."""
    os.environ["OTEL_AGENTS_CONFIG"] = str(EXAMPLE / "otel-agents.toml")
    sys.path.insert(0, str(EXAMPLE))
    sys.argv = ["app.py", "--pace", "0", "--out", folder, "--run-id", "run-1"]
    with capture(content=True) as captured:
        ended = importlib.import_module("app").main()
        spans, signals = captured.spans, captured.signals
    for span in spans:
        check(span)
    check_signals(signals)
    attributes = sum(len(span.attributes or ()) for span in spans)
    found = [ended, len(spans), len(signals), attributes]
    sys.stderr.write(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
