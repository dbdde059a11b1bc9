"""The Compose file: its shape by the specification, and what it lets in, out and nobody see."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import compose_tools
import parts
import pytest
import yaml
from jsonschema import Draft202012Validator

from otel_agents.cli.stack import _ADDRESSES
from otel_agents.cli.stack_secrets import PLACES
from otel_agents.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = parts.DEPLOY.parent
FILE: Final = ROOT / "docker-compose.yml"
RAW: Final[dict[str, Any]] = yaml.safe_load(FILE.read_text())
SETTING: Final = re.compile(r"\$\{(\w+):-([^${}]*)\}")
CORE: Final = {"secrets", "server", "collector", "jaeger", "prometheus"}
FULL: Final = {*CORE, "alertmanager", "grafana", "redis"}
LONG_RUNNING: Final = sorted(FULL - {"secrets"})
BUILT: Final = {"server", "collector"}


def with_defaults(value: Any) -> Any:
    """Return a value with the default in the place of each setting."""
    if isinstance(value, dict):
        return {key: with_defaults(one) for key, one in value.items()}
    if isinstance(value, list):
        return [with_defaults(one) for one in value]
    while isinstance(value, str) and SETTING.search(value):
        value = SETTING.sub(lambda found: found[2], value)
    return value


SERVICES: Final[dict[str, Any]] = with_defaults(RAW["services"])


def mounts(service: str) -> Iterator[tuple[str, str, set[str]]]:
    """Yield source, target and options of what a service mounts."""
    for volume in SERVICES[service].get("volumes", ()):
        source, target, *options = volume.split(":")
        yield source, target, {one for each in options for one in each.split(",")}


def settings() -> dict[str, str]:
    """Return each setting that the Compose file takes, with its default."""
    found: dict[str, str] = {}
    text = FILE.read_text()
    while SETTING.search(text):
        found |= dict(SETTING.findall(text))
        text = SETTING.sub(lambda one: one[2], text)
    return found


def told() -> dict[str, str]:
    """Return what .env shows as defaults: the lines that are commented out."""
    lines = (ROOT / ".env").read_text().splitlines()
    pairs = (re.fullmatch(r"# ([A-Z_]+)=(\S*)", line) for line in lines)
    return {found[1]: found[2] for found in pairs if found}


@pytest.fixture(scope="module")
def tools() -> dict[str, Path]:
    """Compose and its schema; without them the test is skipped, and fails in CI."""
    found = compose_tools.programs(parts.cache_dir())
    if missing := sorted(name for name, path in found.items() if path is None):
        reason = f"{', '.join(missing)} missing: run deploy/native/install compose"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return {name: path for name, path in found.items() if path is not None}


def resolved(compose: Path, *arguments: str, **env: str) -> dict[str, Any]:
    """Return the configuration as Compose itself resolves it."""
    inherited = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}
    done = subprocess.run(  # noqa: S603 - the Compose of the cache
        [compose, "--project-directory", ROOT, *arguments, "config", "--format", "json"],
        env=inherited | env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


# --- the file as such


def test_it_is_a_compose_file(tools: dict[str, Path]) -> None:
    """The file has no fault by the schema of Compose's specification."""
    schema = json.loads(tools["compose-spec"].read_text())

    faults = [error.message for error in Draft202012Validator(schema).iter_errors(RAW)]

    assert faults == []


def test_the_schema_finds_faults(tools: dict[str, Path]) -> None:
    """A misspelled key of a service is no Compose file: the schema does look."""
    schema = json.loads(tools["compose-spec"].read_text())
    wrong = {"services": {"server": {"image": "x", "read_onyl": True}}}

    assert not Draft202012Validator(schema).is_valid(wrong)


@pytest.mark.parametrize(
    ("arguments", "env", "expected"),
    [
        ((), {}, FULL),
        (("--profile", "core"), {}, CORE),
        (("--profile", "full"), {}, FULL),
        ((), {"COMPOSE_PROFILES": "core"}, CORE),
    ],
    ids=["bare", "core", "full", "core by environment"],
)
def test_compose_takes_each_profile(
    tools: dict[str, Path], arguments: tuple[str, ...], env: dict[str, str], expected: set[str]
) -> None:
    """Compose resolves the file without a complaint; with nothing said it is all of it."""
    found = resolved(tools["docker-compose"], *arguments, **env)

    assert found["services"].keys() == expected


def test_compose_puts_in_what_is_set(tools: dict[str, Path]) -> None:
    """A port set moves the address of the links too, and a digest may follow a version."""
    digest = f"v3.15.0@sha256:{'0' * 64}"

    services = resolved(
        tools["docker-compose"], STACK_GRAFANA_PORT="3300", STACK_PROMETHEUS_VERSION=digest
    )["services"]

    assert services["grafana"]["ports"][0]["published"] == "3300"
    assert services["grafana"]["environment"]["GF_SERVER_ROOT_URL"] == "http://127.0.0.1:3300"
    assert services["prometheus"]["image"] == f"prom/prometheus:{digest}"


def test_settings_are_told_with_their_defaults() -> None:
    """Every setting stands in .env with the default that the Compose file has, and no other."""
    assert told() == {name: with_defaults(default) for name, default in settings().items()}


def test_env_sets_the_profile_only_and_holds_no_secret() -> None:
    """An .env that outlives a version of the stack pins nothing, and gives nothing away."""
    lines = (ROOT / ".env").read_text().splitlines()
    names = [*told(), *(line.partition("=")[0] for line in lines if line[:1].isalpha())]

    assert [line for line in lines if line and not line.startswith("#")] == [
        "COMPOSE_PROFILES=full"
    ]
    assert [name for name in names if re.search("TOKEN|PASSWORD|SECRET|KEY", name)] == []


# --- versions


def test_versions_are_exact_and_those_of_the_native_stack() -> None:
    """Images carry a whole version, the one that is built without containers where it is."""
    tags = {name: service["image"].rpartition(":")[2] for name, service in SERVICES.items()}
    dockerfile = (parts.DEPLOY / "collector" / "Dockerfile").read_text()

    assert [tag for tag in tags.values() if not re.match(r"v?\d+\.\d+\.\d+(-|$)", tag)] == []
    assert tags["secrets"] == tags["server"] == __version__
    assert tags["collector"] == parts.collector_version()
    assert tags["jaeger"] == parts.JAEGER_VERSION
    assert tags["prometheus"] == f"v{parts.PROMTOOL_VERSION}"
    assert parts.collector_version() in dockerfile


def test_what_nobody_publishes_is_never_pulled() -> None:
    """The images of our own are built where they are missing, and not asked for outside."""
    ours = {name for name, one in SERVICES.items() if one["image"].startswith("otel-agents/")}

    assert ours == {*BUILT, "secrets"}
    assert {name for name, one in SERVICES.items() if "build" in one} == BUILT
    assert {SERVICES[name]["pull_policy"] for name in ours} == {"never"}


def test_the_servers_image_is_pinned_and_without_root() -> None:
    """Its base is the version that .env tells of, its user is no root, its health is asked."""
    text = (parts.DEPLOY / "server" / "Dockerfile").read_text()
    base = SERVICES["server"]["build"]["args"]["PYTHON_IMAGE"]

    assert f"ARG PYTHON_IMAGE={base}\n" in text
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"${PYTHON_IMAGE}"}
    assert f"\nUSER {SERVICES['server']['user']}\n" in text
    assert "\nHEALTHCHECK " in text


# --- closed and hardened


@pytest.mark.parametrize("name", sorted(FULL))
def test_a_service_may_do_as_little_as_it_can(name: str) -> None:
    """No root, no capabilities, nothing to write but its volumes, bounded, its log bounded too."""
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert not service.get("privileged")
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["user"].split(":")[0]) > 0
    assert {"cpus", "memory", "pids"} <= service["deploy"]["resources"]["limits"].keys()
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}
    assert service["restart"] == ("no" if name == "secrets" else "unless-stopped")
    assert all({"noexec", "nosuid", "nodev"} <= set(one.split(":")[1].split(",")) | {"size"}
               for one in service.get("tmpfs", ()))  # fmt: skip


def test_published_is_on_loopback_what_a_user_reaches() -> None:
    """OTLP at the collector only; the command shows the same addresses."""
    published = {
        (name, int(port.split(":")[2]))
        for name, service in SERVICES.items()
        for port in service.get("ports", ())
    }
    hosts = {port.split(":")[0] for one in SERVICES.values() for port in one.get("ports", ())}

    assert hosts == {"127.0.0.1"}
    assert published == {(address.service, address.port) for address in _ADDRESSES.values()}


def test_networks_lead_no_further_than_needed() -> None:
    """Parts talk on a network that leads nowhere; Redis, without a password, stands apart."""
    networks = {name: service.get("networks") for name, service in SERVICES.items()}

    assert RAW["networks"]["back"] == {"internal": True}
    assert SERVICES["secrets"]["network_mode"] == "none"
    assert networks.pop("redis") == ["redis"]
    assert networks.pop("secrets") is None
    assert {tuple(each) for each in networks.values()} == {("back", "edge")}


# --- secrets


def test_each_service_sees_the_secrets_it_needs_only() -> None:
    """A volume for each group; whoever does not write it mounts it read-only."""
    seen = {
        name: {source for source, _, _ in mounts(name) if source.startswith("secrets-")}
        for name in FULL
    }
    writable = {
        name
        for name in FULL
        for source, _, options in mounts(name)
        if source.startswith("secrets-") and options != {"ro", "nocopy"}
    }

    assert seen == {
        "secrets": {"secrets-admin", "secrets-ingest", "secrets-view", "secrets-grafana"},
        "server": {"secrets-admin"},
        "collector": {"secrets-ingest"},
        "alertmanager": {"secrets-ingest"},
        "prometheus": {"secrets-view"},
        "grafana": {"secrets-grafana"},
        "jaeger": set(),
        "redis": set(),
    }
    assert writable == {"secrets"}


def test_secrets_are_where_the_services_look() -> None:
    """Each path of a secret in an environment or a configuration is made and mounted."""
    made = {
        f"{target}/{name}"
        for service in FULL - {"secrets"}
        for source, target, _ in mounts(service)
        for name, groups in PLACES.items()
        if source.removeprefix("secrets-") in groups
    }
    given = {
        value
        for service in SERVICES.values()
        for key, value in service.get("environment", {}).items()
        if key.endswith("_FILE")
    }
    # Relative to the configuration.
    relative = {
        f"/etc/{name}/{file}"
        for name, config in (("prometheus", "prometheus.yml"), ("alertmanager", "alertmanager.yml"))
        for file in re.findall(
            r"^\s*credentials_file: (\S+)$",
            (parts.DEPLOY / name / config).read_text(),
            re.MULTILINE,
        )
    }

    assert relative
    assert given | relative <= made
    assert {target for _, target, _ in mounts("secrets")} == {
        f"/secrets/{group}" for groups in PLACES.values() for group in groups
    }


def test_no_environment_holds_a_secret() -> None:
    """A name that sounds of a secret is that of a file."""
    named = {
        key
        for service in SERVICES.values()
        for key in service.get("environment", {})
        if re.search("TOKEN|PASSWORD|SECRET", key)
    }

    assert named
    assert {key for key in named if not key.endswith("_FILE")} == set()


# --- start


def test_profiles_are_core_and_full() -> None:
    """Full is everything, and core is whole by itself."""
    by_profile = {
        profile: {name for name, one in SERVICES.items() if profile in one["profiles"]}
        for profile in ("core", "full")
    }

    assert by_profile == {"core": CORE, "full": FULL}
    assert all(set(SERVICES[name].get("depends_on", ())) <= CORE for name in CORE)


def test_the_order_of_start_has_no_circle() -> None:
    """Secrets come first, and the collector after those that it sends to."""
    order = list(
        TopologicalSorter(
            {name: set(one.get("depends_on", ())) for name, one in SERVICES.items()}
        ).static_order()
    )

    readers = {
        n for n in FULL - {"secrets"} if any(s.startswith("secrets-") for s, *_ in mounts(n))
    }
    assert [n for n in readers if "secrets" not in SERVICES[n]["depends_on"]] == []
    assert order.index("collector") > max(map(order.index, ("server", "jaeger", "prometheus")))


def test_a_dependency_is_waited_for_until_it_is_good_for_something() -> None:
    """Healthy, or for the secrets done."""
    conditions = {
        (needed, how["condition"])
        for service in SERVICES.values()
        for needed, how in service.get("depends_on", {}).items()
    }

    expected = {
        (name, "service_completed_successfully" if name == "secrets" else "service_healthy")
        for name, _ in conditions
    }
    assert conditions == expected


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_a_long_running_service_is_asked_for_its_health(name: str) -> None:
    """By a program, not through a shell; the server's question is in its image."""
    check = SERVICES[name]["healthcheck"]

    assert check["retries"] >= 3
    if name == "server":
        assert "test" not in check
    else:
        assert check["test"][0] == "CMD"


# --- files


@pytest.mark.parametrize("name", sorted(FULL))
def test_what_is_mounted_is_there_and_cannot_be_written(name: str) -> None:
    """Files of the repository are mounted read-only; a named volume is declared."""
    for source, _, options in mounts(name):
        if source.startswith("."):
            assert (ROOT / source).exists(), source
            assert "ro" in options
        else:
            assert source in RAW["volumes"]


def test_every_volume_is_used() -> None:
    """None is declared that nobody mounts."""
    used = {source for name in FULL for source, _, _ in mounts(name) if source[0] != "."}

    assert used == RAW["volumes"].keys()


@pytest.mark.parametrize(
    ("name", "config"), [("collector", "config.yaml"), ("jaeger", "config.yaml")]
)
def test_configurations_get_the_variables_they_read(name: str, config: str) -> None:
    """Each has a value or a default, and each that is given is read."""
    text = (parts.DEPLOY / name / config).read_text()
    read = dict(re.findall(r"\$\{env:(\w+)(:-)?", text))
    given = SERVICES[name]["environment"].keys()

    assert [one for one, default in read.items() if not default and one not in given] == []
    assert {one for one in given if one.startswith(f"{name.upper()}_")} <= read.keys()


def test_no_part_of_the_stack_is_looked_for_on_its_own_loopback() -> None:
    """An address of another part, with a default of loopback, is given."""
    text = (parts.DEPLOY / "collector" / "config.yaml").read_text()
    text += (parts.DEPLOY / "jaeger" / "config.yaml").read_text()
    others = {name for name, _ in re.findall(r"\$\{env:(\w+_URL):-(http://127[^}]*)\}", text)}
    given = {
        key: value
        for name in ("collector", "jaeger")
        for key, value in SERVICES[name]["environment"].items()
    }

    assert others
    assert others <= given.keys()
    assert all(re.match(r"http://(server|jaeger|prometheus):\d+$", given[one]) for one in others)


def test_the_installed_package_brings_every_file() -> None:
    """What is mounted or built from is data of the wheel, at the same path below its folder."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    brought = build["targets"]["wheel"]["force-include"]
    needed = {
        source.removeprefix("./") for n in FULL for source, *_ in mounts(n) if source[0] == "."
    }
    needed |= {"docker-compose.yml", ".env", "deploy/server/Dockerfile", "deploy/server/install.py"}
    needed |= {"deploy/collector/Dockerfile"}

    missing = {
        one
        for one in needed
        if not any(
            target == f"otel_agents/_stack/{source}" and Path(one).is_relative_to(source)
            for source, target in brought.items()
        )
    }

    assert missing == set()


def test_the_image_gets_what_the_package_is_built_from() -> None:
    """The context of the server's image holds every path that the build of the wheel reads."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    let_in = [
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    ]
    needed = [*build["targets"]["wheel"]["force-include"], *build["targets"]["wheel"]["packages"]]
    needed += ["pyproject.toml", "README.md", "LICENSE", "hatch_build.py", "package-lock.json"]
    needed += ["requirements/run.txt", "deploy/server/install.py"]

    assert [
        one for one in needed if not any(Path(one).is_relative_to(path) for path in let_in)
    ] == []


# --- Grafana


def provisioned(kind: str) -> dict[str, Any]:
    """Return a file of Grafana's provisioning."""
    path = parts.DEPLOY / "grafana" / "provisioning" / kind / "otel-agents.yml"
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


def test_grafana_knows_the_parts_of_the_stack() -> None:
    """Its data sources have the ids that links name, and the addresses of services."""
    sources = provisioned("datasources")["datasources"]

    assert {one["uid"]: one["url"] for one in sources} == {
        "prometheus": "http://prometheus:9090",
        "jaeger": "http://jaeger:16686",
        "alertmanager": "http://alertmanager:9093",
    }
    assert all(one["type"] == one["uid"] and one["access"] == "proxy" for one in sources)
    assert [one["uid"] for one in sources if one.get("isDefault")] == ["prometheus"]


def test_an_exemplar_leads_to_its_trace() -> None:
    """Prometheus' exemplars name the trace as the collector writes it, and lead to Jaeger."""
    (source,) = (one for one in provisioned("datasources")["datasources"] if one.get("isDefault"))

    (way,) = source["jsonData"]["exemplarTraceIdDestinations"]

    assert (way["name"], way["datasourceUid"]) == ("trace_id", "jaeger")


def test_grafana_reads_the_generated_dashboards() -> None:
    """From the folder that is mounted, and it opens with one of them."""
    (provider,) = provisioned("dashboards")["providers"]
    folder = {target: source for source, target, _ in mounts("grafana")}[
        provider["options"]["path"]
    ]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]

    assert (provider["folder"], provider["allowUiUpdates"]) == ("otel-agents", False)
    assert (ROOT / folder / Path(home).name).is_file()


def test_grafana_updates_no_plugin_of_its_image() -> None:
    """It cannot write there, and would be left without its data sources: grafana/grafana#132528."""
    grafana = SERVICES["grafana"]

    assert grafana["read_only"] is True
    assert grafana["environment"]["GF_PLUGINS_PREINSTALL_DISABLED"] == "true"
    assert grafana["environment"]["GF_PLUGINS_PREINSTALL_AUTO_UPDATE"] == "false"


def test_links_that_do_not_follow_a_port_are_told_of() -> None:
    """The command of .env finds the addresses in the generated files, and these are all of them."""
    text = (ROOT / ".env").read_text()
    files = [ROOT / path for path in ROOT.glob("dashboards/generated/*/*")]
    found = {
        address
        for path in files
        for address in re.findall(r"http://127\.0\.0\.1:\d+", path.read_text())
    }

    assert "dashboards/generated/*/*" in text
    assert "docker compose restart prometheus" in text
    assert found == {"http://127.0.0.1:3010", "http://127.0.0.1:3000", "http://127.0.0.1:16686"}
    assert {one for one in found if one not in text} == set()


def test_grafana_is_for_looking_and_tells_nobody() -> None:
    """Who has no password may look; no account can be made, nothing is told outside."""
    environment = SERVICES["grafana"]["environment"]

    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert {
        value
        for key, value in environment.items()
        if key.startswith(("GF_ANALYTICS_", "GF_USERS_ALLOW", "GF_NEWS_", "GF_SNAPSHOTS_"))
    } == {"false"}
