"""What is installed with us: locked, declared, no more than is needed, and written down."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import sys
import tomllib
import zipfile
from importlib.metadata import distribution, packages_distributions
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PACKAGE: Final = ROOT / "otel_agents"
# All that a plain install brings: a new one is a decision, and is written here.
PLAIN: Final = {
    "alembic", "annotated-types", "anyio", "certifi", "charset-normalizer", "click",
    "genai-prices", "googleapis-common-protos", "grpcio", "h11", "httpcore2", "httpx2",
    "httpx2-jsfetch", "idna", "mako", "markdown-it-py", "markupsafe", "mdurl", "msgspec",
    "opentelemetry-api", "opentelemetry-exporter-http-transport", "opentelemetry-exporter-otlp",
    "opentelemetry-exporter-otlp-common", "opentelemetry-exporter-otlp-proto-common",
    "opentelemetry-exporter-otlp-proto-grpc", "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry-instrumentation", "opentelemetry-proto", "opentelemetry-sdk",
    "opentelemetry-semantic-conventions", "packaging", "prometheus-client", "protobuf",
    "pydantic", "pydantic-core", "pygments", "requests", "rich", "sqlalchemy", "truststore",
    "typing-extensions", "typing-inspection", "urllib3", "wrapt",
}  # fmt: skip
# Imported though another package brings them: what ours builds on is of their making.
BROUGHT: Final = {
    "protobuf": "opentelemetry-proto", "opentelemetry-proto": "opentelemetry-exporter-otlp",
    "opentelemetry-exporter-otlp-proto-grpc": "opentelemetry-exporter-otlp",
    "opentelemetry-exporter-otlp-proto-http": "opentelemetry-exporter-otlp",
    "opentelemetry-exporter-otlp-proto-common": "opentelemetry-exporter-otlp",
    "requests": "opentelemetry-exporter-otlp", "urllib3": "opentelemetry-exporter-otlp",
    "grpcio": "opentelemetry-exporter-otlp", "starlette": "fastapi",
    "pydantic": "fastapi", "pydantic-graph": "pydantic-ai-slim",
    "googleapis-common-protos": "opentelemetry-exporter-otlp", "markupsafe": "jinja2",
}  # fmt: skip
# Of Python 3.14, and of who loads our plugin for it.
ELSEWHERE: Final = {"annotationlib", "pytest"}


def _script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"deploy_{name}", ROOT / "deploy" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    return made


sbom: Final = _script("sbom")
audit: Final = _script("audit")


def _project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A wheel with what a build says in its metadata."""
    project = _project()
    lines = [
        "Metadata-Version: 2.4", "Name: otel-agents", "Version: 0",
        f"License-Expression: {project['license']}",
        *(f"Requires-Dist: {one}" for one in project["dependencies"]),
        *(f"Requires-Dist: {one}; extra == '{extra}'"
          for extra, each in project["optional-dependencies"].items() for one in each),
    ]  # fmt: skip
    path = tmp_path / "otel_agents-0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr(zipfile.ZipInfo("otel_agents-0.dist-info/METADATA"), "\n".join(lines))
    return path


@pytest.mark.parametrize("name", ["run.txt", "dev.txt"])
def test_every_package_is_pinned_with_its_hashes(name: str) -> None:
    """No line of a lock names a version without what its files hash to, an address or an option."""
    text = (ROOT / "requirements" / name).read_text()
    packages = sbom.locked(ROOT / "requirements" / name)

    assert len(packages) > 60
    assert [one.name for one in packages.values() if not one.hashes] == []
    starts = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert len(starts) == len(packages)
    assert re.findall(r"https?://|^-|git\+", text, re.MULTILINE) == []


def test_the_front_end_is_pinned_with_its_hashes() -> None:
    """Each of its packages, too, is one of its lock with an integrity."""
    packages = json.loads((ROOT / "package-lock.json").read_text())["packages"]

    assert [path for path, one in packages.items() if path and not one.get("integrity")] == []


def imported(folder: Path) -> set[str]:
    """Return what a package's modules import that is not of Python itself or their own."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module)
    return {
        one for one in found
        if one.partition(".")[0] not in {*sys.stdlib_module_names, *ELSEWHERE, PACKAGE.name}
    }  # fmt: skip


def undeclared(modules: set[str]) -> dict[str, set[str]]:
    """Return the modules that come from no package that we ask for, with those they may be of."""
    project = _project()
    extras = project["optional-dependencies"].values()
    lines = [*project["dependencies"], *(one for each in extras for one in each)]
    declared = {sbom.plain(re.split(r"[\[<>=!~; ]", line)[0]) for line in lines}
    homes = packages_distributions()
    found = {}
    for module in modules:
        parts = module.split(".")
        # `opentelemetry` and `google` are names that many packages share.
        owners = {sbom.plain(one) for one in homes.get(parts[0], [])}
        if len(owners) > 1:
            spec = importlib.util.find_spec(module)
            assert spec is not None, module
            place = spec.origin or next(iter(spec.submodule_search_locations or [""]))
            owners = {one for one in owners if _has(one, Path(place))}
        if not owners & (
            declared | {one for one in BROUGHT if BROUGHT[one] in declared | set(BROUGHT)}
        ):
            found[module] = owners
    return found


def _has(name: str, place: Path) -> bool:
    files = distribution(name).files or []
    ending = place.parts[place.parts.index("site-packages") + 1 :]
    return any(one.parts[: len(ending)] == ending for one in files)


def test_what_is_imported_is_declared(tmp_path: Path) -> None:
    """Each module comes with a package that we ask for, or that one of these is made with."""
    assert undeclared(imported(PACKAGE)) == {}

    (tmp_path / "control.py").write_text("def one():\n    import hypothesis.strategies\n")
    assert undeclared(imported(tmp_path)) == {"hypothesis.strategies": {"hypothesis"}}


def test_a_plain_install_brings_what_is_written_here(wheel: Path) -> None:
    """Nothing that is not on the list above, by the lock."""
    needed, optional = sbom.asked_for(sbom.metadata(wheel))
    packages = sbom.locked()

    assert sbom.reached(packages, needed) & set(packages) == PLAIN & set(packages)
    assert needed <= PLAIN
    assert {"fastapi", "redis", "psycopg"} <= optional


def test_the_bill_names_all_that_is_shipped(wheel: Path) -> None:
    """Every dependency, each once, with its hashes; every reference leads to one of them."""
    bill: dict[str, Any] = sbom.bill(wheel)
    refs = [one["bom-ref"] for one in bill["components"]]
    ours = bill["metadata"]["component"]["bom-ref"]
    named = {one["name"] for one in bill["components"]}

    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert len(refs) == len(set(refs))
    assert {name for name in PLAIN if name in sbom.locked()} <= named
    assert {"htmx.org", "uplot", "fastapi", "redis"} <= named
    assert not {"hatchling", "pytest", "ruff"} & named  # what builds and checks is not shipped
    assert [one["name"] for one in bill["components"] if not one["hashes"]] == []
    linked = {to for one in bill["dependencies"] for to in one["dependsOn"]}
    assert linked | {one["ref"] for one in bill["dependencies"]} <= {*refs, ours}
    python = {one for one in refs if one.startswith("pkg:pypi/")}
    assert python <= linked


def test_the_same_build_has_the_same_bill(wheel: Path, tmp_path: Path) -> None:
    """Byte for byte, wherever the wheel lies; another wheel has another one."""
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    same = copy / wheel.name
    same.write_bytes(wheel.read_bytes())
    first = json.dumps(sbom.bill(wheel))

    assert json.dumps(sbom.bill(same)) == first
    with zipfile.ZipFile(same, "a") as made:
        made.writestr(zipfile.ZipInfo("otel_agents/more.py"), "")
    other = sbom.bill(same)
    assert other["serialNumber"] != json.loads(first)["serialNumber"]
    assert str(tmp_path) not in first


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ({"dependencies": [{"name": "a", "version": "1", "vulns": []}]}, 0),
        ({"dependencies": [{"name": "a", "version": "1", "vulns": [
            {"id": "PYSEC-1", "fix_versions": ["2"]}]}]}, 1),
        ({"dependencies": [{"name": "a", "skip_reason": "not found"}]}, 3),
        ({"dependencies": [{"name": "a", "version": "1", "vulns": []},
                           {"name": "b", "skip_reason": "not found"}]}, 3),
        ({}, 3),
    ],
)  # fmt: skip
def test_an_audit_that_looked_nothing_up_is_not_fine(found: dict[str, Any], code: int) -> None:
    """What was skipped is unknown; what is known to be vulnerable is named."""
    got, said = audit.verdict(found)

    assert got == code
    assert ("PYSEC-1" in said) is (code == 1)
