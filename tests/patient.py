"""Run a program as `python FILE ...` does, but give its sinks a minute at its end, not seconds.

What an end gives is short on purpose: nobody shall wait for a Redis that is away. On a machine that
is busy it is too short for one that is there; tests of what arrives start their programs by this
file, or by the line in `PATIENT`.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Final

PATIENT: Final = (
    "from otel_agents import emitter as _e, pipeline as _p; "
    "from otel_agents.sinks import redis as _r; "
    "_p.Pipeline.close.__defaults__ = (60.0,); "
    "_e._STOP_SECONDS = _r._TIMEOUT = _r._CLOSE_SECONDS = 60.0"
)

if __name__ == "__main__":
    exec(PATIENT, {})  # noqa: S102 - the line above
    del sys.argv[0]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name="__main__")
