"""Write the bill of materials of a build, as CycloneDX 1.6 JSON, from the wheel and the locks.

    python deploy/sbom.py dist/otel_agents-0.8.0-py3-none-any.whl --output build/sbom.json

What a plain install brings is `required`, what the extras bring `optional`; the console's front-end
files lie in the wheel. The same wheel and locks give the same bytes: it names no time and no
machine. A package that is installed by another resolver than the lock can have another version.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import sys
import uuid
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any, Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parent.parent
LOCK: Final = ROOT / "requirements" / "run.txt"
NPM_LOCK: Final = ROOT / "package-lock.json"
OURS: Final = "otel-agents"
_PINNED: Final = re.compile(r"([A-Za-z0-9._-]+)==([^ ;\\]+)(?: ; ([^\\]+))?")
_HASH: Final = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_VIA: Final = re.compile(r"\s+#\s+(?:via\s+)?([A-Za-z0-9._-]+)(?: \(([^)]*)\))?$")
_REQUIREMENT: Final = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?")


class Locked(NamedTuple):
    """A package of the lock: who asks for it, and for what; `group` is what only a build needs."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]
    via: tuple[str, ...]
    group: str

    @property
    def purl(self) -> str:
        """Its address as a package URL."""
        return f"pkg:pypi/{self.name}@{self.version}"


def plain(name: str) -> str:
    """Return a package's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(path: Path = LOCK) -> dict[str, Locked]:
    """Return the packages of a requirements file by name."""
    found: dict[str, Locked] = {}
    for part in re.split(r"\n(?=\S)", path.read_text("utf-8")):
        pinned = _PINNED.match(part)
        if pinned is None:
            continue
        asked = [match.groups() for line in part.splitlines() if (match := _VIA.match(line))]
        groups = {rest.partition(":")[2] for name, rest in asked if rest}
        name = plain(pinned[1])
        found[name] = Locked(
            name, pinned[2], (pinned[3] or "").strip(), tuple(_HASH.findall(part)),
            tuple(sorted(plain(one) for one, _ in asked)),
            "" if "" in groups or not groups else min(groups),
        )  # fmt: skip
    return found


def metadata(wheel: Path) -> Any:
    """Return a wheel's METADATA as a message of headers."""
    with zipfile.ZipFile(wheel) as opened:
        (name,) = (one for one in opened.namelist() if one.endswith(".dist-info/METADATA"))
        return Parser().parsestr(opened.read(name).decode())


def reached(packages: dict[str, Locked], roots: set[str]) -> set[str]:
    """Return the packages that some ask for, whatever the way."""
    found = set(roots)
    while True:
        more = {one.name for one in packages.values() if found & set(one.via)} - found
        if not more:
            return found
        found |= more


def asked_for(about: Any) -> tuple[set[str], set[str]]:
    """Return the packages that a plain install asks for, and those that extras do."""
    needed, optional = set(), set()
    for line in about.get_all("Requires-Dist") or ():
        match = _REQUIREMENT.match(line)
        if match is not None:
            (optional if "extra ==" in line else needed).add(plain(match[1]))
    return needed, optional - needed - {OURS}


def _python(wheel: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    about, packages = metadata(wheel), locked()
    needed, optional = asked_for(about)
    required = reached(packages, needed)
    shipped = required | reached(packages, optional)
    components, links = [], []
    for one in (packages[name] for name in sorted(shipped & set(packages))):
        component: dict[str, Any] = {
            "type": "library", "bom-ref": one.purl, "name": one.name, "version": one.version,
            "purl": one.purl, "scope": "required" if one.name in required else "optional",
            "hashes": [{"alg": "SHA-256", "content": content} for content in one.hashes],
        }  # fmt: skip
        if one.marker:
            component["properties"] = [{"name": "python:marker", "value": one.marker}]
        components.append(component)
        inner = [each.purl for each in packages.values() if one.name in each.via]
        links.append({"ref": one.purl, "dependsOn": sorted(inner)})
    direct = sorted(packages[name].purl for name in needed | optional if name in packages)
    ours = f"pkg:pypi/{OURS}@{about['Version']}"
    return components, [{"ref": ours, "dependsOn": direct}, *links]


def _front_end() -> list[dict[str, Any]]:
    found = []
    for path, one in sorted(json.loads(NPM_LOCK.read_text("utf-8"))["packages"].items()):
        name = path.removeprefix("node_modules/")
        if not name:
            continue
        algorithm, _, content = one["integrity"].partition("-")
        purl = f"pkg:npm/{name.replace('@', '%40')}@{one['version']}"
        found.append({
            "type": "library", "bom-ref": purl, "name": name, "version": one["version"],
            "purl": purl, "scope": "required",
            "licenses": [{"expression": one["license"]}],
            "hashes": [{
                "alg": algorithm.upper().replace("SHA", "SHA-"),
                "content": base64.b64decode(content).hex(),
            }],
        })  # fmt: skip
    return found


def bill(wheel: Path) -> dict[str, Any]:
    """Return the bill of materials of a wheel."""
    about = metadata(wheel)
    content = hashlib.sha256(wheel.read_bytes()).hexdigest()
    components, links = _python(wheel)
    ours = f"pkg:pypi/{OURS}@{about['Version']}"
    found: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "library", "bom-ref": ours, "name": OURS, "version": about["Version"],
                "purl": ours, "licenses": [{"expression": about["License-Expression"]}],
                "hashes": [{"alg": "SHA-256", "content": content}],
            },
        },
        "components": [*components, *_front_end()],
        "dependencies": links,
    }  # fmt: skip
    named = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(found, sort_keys=True))
    return {"serialNumber": f"urn:uuid:{named}", **found}


def main() -> int:
    """Write it to a file or to standard output; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    text = json.dumps(bill(given.wheel), indent=1) + "\n"
    if given.output is None:
        sys.stdout.write(text)
    else:
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.output.write_text(text, "utf-8")
        print(f"{given.output}: {text.count('bom-ref') - 1} components")
    return 0


if __name__ == "__main__":
    sys.exit(main())
