"""Ask whether the locked packages have known vulnerabilities: `python deploy/audit.py`.

It runs pip-audit (`pip install pip-audit`), which asks PyPI for each package of the lock.

Exit codes:
    0  every package was looked up, and none has a known vulnerability
    1  at least one has
    3  no database was to be had, pip-audit is not installed, or some packages were not looked up:
       nothing can be said
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

LOCK: Final = Path(__file__).resolve().parent.parent / "requirements" / "run.txt"
FINE, VULNERABLE, UNKNOWN = 0, 1, 3
_SECONDS: Final = 600


def verdict(found: dict[str, Any]) -> tuple[int, str]:
    """Return the exit code and the sentences that say what pip-audit found, as it tells in JSON.

    pip-audit ends well where it could look nothing up: what it skipped is unknown, not fine.
    """
    packages = found.get("dependencies", [])
    skipped = [one["name"] for one in packages if "skip_reason" in one]
    known = [
        f"{one['name']} {one['version']}: {each['id']}, mended in "
        f"{', '.join(each['fix_versions']) or 'no version yet'}"
        for one in packages
        for each in one.get("vulns", ())
    ]
    if known:
        return VULNERABLE, "\n".join(known)
    if not packages or len(skipped) == len(packages):
        return UNKNOWN, "No database of vulnerabilities is to be had here: nothing was audited."
    if skipped:
        return UNKNOWN, f"{len(skipped)} packages were not looked up: {', '.join(skipped)}."
    return FINE, f"None of the {len(packages)} locked packages has a known vulnerability."


def main() -> int:
    """Audit the lock, say what was found in a sentence, and return the exit code."""
    command = [
        sys.executable, "-m", "pip_audit", "--requirement", str(LOCK), "--disable-pip",
        "--require-hashes", "--progress-spinner", "off", "--format", "json",
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
        code, said = verdict(json.loads(done.stdout))
    except subprocess.TimeoutExpired:
        code, said = UNKNOWN, "The database of vulnerabilities did not answer: nothing was audited."
    except ValueError:
        why = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        code, said = UNKNOWN, f"pip-audit could not be run, so nothing was audited: {why}"
    print(said)
    return code


if __name__ == "__main__":
    sys.exit(main())
