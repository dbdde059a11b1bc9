"""Make every kind of trouble for real, so that every panel and alert has something to show.

Exit codes: 0 all faults made, 2 wrong usage or started without opentelemetry-instrument,
130 interrupted.
"""

import argparse
import asyncio
import sys
import time

from opentelemetry import trace
from trouble.faults import FAULTS, Fault
from trouble.scale import Scale

NOT_INSTRUMENTED = "Nobody would see it. Start it with: opentelemetry-instrument python app.py\n"


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Make every kind of trouble that agents have.")
    parser.add_argument("--list", action="store_true", help="say what faults there are")
    parser.add_argument(
        "--only", type=_names, default=list(FAULTS), metavar="FAULT,...", help="only these faults"
    )
    parser.add_argument(
        "--times", type=int, default=24, choices=range(1, 1001), metavar="N",
        help="how often what can be counted happens (default 24)",
    )  # fmt: skip
    parser.add_argument(
        "--hold", type=float, default=900, metavar="SECONDS",
        help="how long what lasts goes on (default 900: longer than any alert waits)",
    )  # fmt: skip
    parser.add_argument(
        "--ago", type=float, default=3600, metavar="SECONDS",
        help="how long ago what lasts began, as it is told (default 3600)",
    )  # fmt: skip
    return parser.parse_args()


def _names(text: str) -> list[str]:
    """Return the names of faults that the command line gives."""
    names = text.split(",")
    if unknown := [name for name in names if name not in FAULTS]:
        message = f"no fault is called {', '.join(unknown)}; there are {', '.join(FAULTS)}"
        raise argparse.ArgumentTypeError(message)
    return names


async def make(faults: list[Fault], scale: Scale) -> None:
    """Make the faults: those that last all at once, and then the others one after another."""
    began = time.monotonic()
    async with asyncio.TaskGroup() as lasting:
        for fault in sorted(faults, key=lambda fault: not fault.lasts):
            print(f"{fault.name}: {fault.says}", flush=True)
            if fault.lasts:
                lasting.create_task(fault.make(scale))
            else:
                await fault.make(scale)
        if any(fault.lasts for fault in faults):
            left = began + scale.hold - time.monotonic()
            print(f"What lasts goes on for {max(0, left):.0f} s; Ctrl-C ends it.", flush=True)


def main() -> int:
    """Run the program; return its exit code."""
    options = arguments()
    if options.list:
        for fault in FAULTS.values():
            print(f"{fault.name}: {fault.says}")
            print(f"    panels: {'; '.join(fault.panels)}")
            if fault.alerts:
                print(f"    alerts: {'; '.join(fault.alerts)}")
        return 0
    if type(trace.get_tracer_provider()).__name__ == "ProxyTracerProvider":
        sys.stderr.write(NOT_INSTRUMENTED)
        return 2
    faults = [FAULTS[name] for name in options.only]
    try:
        asyncio.run(make(faults, Scale(options.times, options.hold, options.ago)))
    except KeyboardInterrupt:
        print("Interrupted.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
