"""What the figures depend on: the machine, Python, and the versions that were measured."""

from __future__ import annotations

import datetime
import os
import platform
from importlib import metadata
from pathlib import Path


def described() -> dict[str, str]:
    """Return the date, the processor with its cores, the system, Python, and our version."""
    return {
        "date": f"{datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d %H:%M} UTC",
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "opentelemetry-sdk": metadata.version("opentelemetry-sdk"),
        "load before": " ".join(f"{value:.2f}" for value in os.getloadavg()),
    }


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or "unknown processor"
    _, _, rest = text.partition("model name")
    return rest.partition("\n")[0].strip(" \t:") or platform.machine()
