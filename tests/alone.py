"""Tries tests that failed beside others once more, alone: `python tests/alone.py EXIT_CODE`.

Servers, kills and deadlines of thousands of tests share a few cores: of two or three that fail it
has to be told whether they do so by themselves. What passes now is named, so that nobody takes it
for sound; more than a few failures, and whatever is no failure of a test, stand.
"""

# ruff: noqa: T201 - what it prints is what it is for

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

_MOST: Final = 5
_FAILED: Final = 1  # pytest's code where tests failed, and nothing else
_CACHE: Final = Path(__file__).parents[1] / ".pytest_cache/v/cache/lastfailed"


def main(code: int) -> int:
    """Return the exit code of the second try, or the first one's where there is none."""
    failed = sorted(json.loads(_CACHE.read_text())) if code == _FAILED else []
    if not 0 < len(failed) <= _MOST:
        return code
    print(f"\n{len(failed)} failed beside others. Once more, alone:", flush=True)
    ids = [re.sub(r"@[\w-]+$", "", name) for name in failed]  # xdist adds the group
    again = subprocess.run(  # noqa: S603 - our own tests
        [sys.executable, "-m", "pytest", "-q", *ids], cwd=_CACHE.parents[3], check=False
    )
    said = "PASSED ALONE" if again.returncode == 0 else "FAILED AGAIN, all or some"
    print(f"{said}, having failed beside others:", *failed, sep="\n  ")
    return again.returncode


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
