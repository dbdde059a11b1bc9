"""One contestant's process: sets it up, says so, and then runs blocks as it is told.

Orders come as JSON lines on standard input, answers go as JSON lines to the standard output that
the process began with; whatever a contestant prints goes to standard error.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any, Final

_BEGUN: Final = time.perf_counter()
_SHOWN: Final = (
    "pydantic-ai-slim", "opentelemetry-sdk", "opentelemetry-instrumentation", "wrapt",
)  # fmt: skip


def main() -> None:
    """Be the contestant that the first argument names."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    import workload
    from contestants import CONTESTANTS

    contestant = CONTESTANTS[sys.argv[1]]
    contestant.prepare()
    workload.plain_agent()  # pydantic-ai imports more when its first agent is made
    prepared = time.perf_counter()
    before = set(sys.modules)
    rig = contestant.enter()
    rig.on()
    entered = time.perf_counter()
    answer: dict[str, Any] = {
        "base_ms": (prepared - _BEGUN) * 1e3,
        "enter_ms": (entered - prepared) * 1e3,
        "modules": len(set(sys.modules) - before),
        "versions": _versions(contestant.distribution),
    }
    rig.off()
    loop = asyncio.new_event_loop()
    while True:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        order = json.loads(sys.stdin.readline() or '{"do": "stop"}')
        if order["do"] == "stop":
            break
        answer = loop.run_until_complete(_block(rig, **order))
    # Not through `atexit`: there is nothing left to send, and some wait for it for seconds.
    os._exit(0)


def _versions(distribution: str) -> dict[str, str]:
    found = {}
    for name in (*_SHOWN, distribution):
        try:
            found[name] = metadata.version(name)
        except (metadata.PackageNotFoundError, ValueError):
            continue
    return found


async def _block(rig: Any, *, do: str, runs: int, on: bool) -> dict[str, Any]:
    """Run a block; return CPU seconds of the process, all threads, and each run's wall time."""
    (rig.on if on else rig.off)()
    run = rig.run_on if on and rig.run_on is not None else rig.run
    walls: list[float] = []
    gc.collect()
    cpu = time.process_time()
    with rig.around() if on else _Nothing():
        if do == "sequential":
            for _ in range(runs):
                begun = time.perf_counter()
                await run()
                walls.append(time.perf_counter() - begun)
        else:
            await asyncio.gather(*(run() for _ in range(runs)))
    if on:
        rig.flush()
    cpu = time.process_time() - cpu
    return {"cpu": cpu, "walls": walls, "rss_kb": _rss()}


class _Nothing:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def _rss() -> int:
    """Return the resident memory in KiB; 0 where the system does not say."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return int(status.partition("VmRSS:")[2].split()[0])


if __name__ == "__main__":
    main()
