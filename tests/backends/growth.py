"""How much memory a process takes on while it runs."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path


class Growth:
    """Follows a process's peak of resident memory until it ends."""

    def __init__(self, pid: int) -> None:
        self._path = Path(f"/proc/{pid}/status")
        self._first = self._peak = self._read("VmRSS")
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def mib(self) -> float | None:
        """Return what was added since the beginning; nothing where there is no /proc."""
        self._thread.join()
        return None if self._first is None or self._peak is None else self._peak - self._first

    def _follow(self) -> None:
        while (peak := self._read("VmHWM")) is not None:
            self._peak = peak
            time.sleep(0.02)

    def _read(self, name: str) -> float | None:
        try:
            found = re.search(rf"{name}:\s+(\d+) kB", self._path.read_text())
        except OSError:
            return None
        return int(found[1]) / 1024 if found else None  # a process that ended has none
