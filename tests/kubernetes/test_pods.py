"""What every pod is held to, whichever values it comes from."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from otel_agents.version import __version__

from .chart import CHART, ROOT, VARIANTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .chart import Chart, Pod

WITH_PODS = [name for name in VARIANTS if name != "off"]
# What the profile "restricted" of the pod security standards lets a pod mount.
VOLUMES = {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}


@pytest.fixture(params=WITH_PODS)
def pods(chart: Chart, request: pytest.FixtureRequest) -> list[Pod]:
    """The pods of one variant."""
    found = list(chart.variant(request.param).pods())
    assert found
    return found


def composed(service: str) -> str:
    """Return a service's image in docker-compose.yml, its variables at their defaults."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    image: str = compose["services"][service]["image"]
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", image)


def test_no_pod_may_more_than_it_must(pods: list[Pod]) -> None:
    """Nothing that "restricted" of the pod security standards forbids, and a read-only root."""
    for pod in pods:
        assert pod.spec["securityContext"]["runAsNonRoot"] is True
        assert pod.spec["securityContext"]["runAsUser"] > 0
        assert pod.spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod.container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
        }
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(pod.spec)
        assert not any("hostPort" in port for port in pod.container["ports"])
        kinds = {kind for volume in pod.spec["volumes"] for kind in volume if kind != "name"}
        assert kinds <= VOLUMES


def test_no_pod_can_ask_the_cluster(chart: Chart, pods: list[Pod]) -> None:
    """Neither the pod nor its account mounts a token of the API."""
    assert all(pod.spec["automountServiceAccountToken"] is False for pod in pods)
    accounts = chart.variant("default").of("ServiceAccount")
    assert [one["automountServiceAccountToken"] for one in accounts.values()] == [False]
    assert {pod.spec["serviceAccountName"] for pod in pods} <= {*accounts, "own"}


def test_no_service_becomes_a_variable(pods: list[Pod]) -> None:
    """Otherwise a service `otel-agents-server` would be OTEL_AGENTS_SERVER_PORT to the server."""
    assert all(pod.spec["enableServiceLinks"] is False for pod in pods)


def test_every_pod_says_what_it_needs(pods: list[Pod]) -> None:
    """CPU and memory are asked for, and memory is bounded; time to end is given."""
    for pod in pods:
        assert set(pod.container["resources"]["requests"]) == {"cpu", "memory"}
        assert "memory" in pod.container["resources"]["limits"]
        assert pod.spec["terminationGracePeriodSeconds"] >= 30


def test_every_pod_is_probed_at_a_port_that_it_has(pods: list[Pod]) -> None:
    """While it starts, while it lives, and before it is sent anything."""
    for pod in pods:
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert pod.container[probe]["httpGet"]["port"] in pod.ports


def test_every_mount_is_a_volume_and_every_volume_is_mounted(pods: list[Pod]) -> None:
    """Claims of a StatefulSet are volumes too."""
    for pod in pods:
        claims = pod.owner["spec"].get("volumeClaimTemplates", [])
        volumes = [one["name"] for one in pod.spec["volumes"]]
        volumes += [one["metadata"]["name"] for one in claims]
        assert sorted(volumes) == sorted(one["name"] for one in pod.container["volumeMounts"])


def test_every_folder_in_memory_or_on_the_node_is_bounded(pods: list[Pod]) -> None:
    """An emptyDir without a limit takes the node's disk."""
    for pod in pods:
        folders = [one["emptyDir"] for one in pod.spec["volumes"] if "emptyDir" in one]
        assert folders
        assert all("sizeLimit" in folder for folder in folders)


def test_every_image_is_of_one_version(pods: list[Pod]) -> None:
    """A tag that moves, or none, would be another program after the next restart."""
    for pod in pods:
        image = pod.container["image"]
        assert re.fullmatch(r"[a-z0-9./-]+(:[0-9][A-Za-z0-9._-]*|@sha256:[0-9a-f]{64})", image)
        assert pod.container["imagePullPolicy"] == "IfNotPresent"


def test_images_are_those_of_compose(chart: Chart) -> None:
    """The server's as it is built there; the collector's is the one that Compose builds on."""
    everything = chart.variant("all")
    assert everything.pod("server").container["image"] == composed("server")
    official = "otel/opentelemetry-collector-contrib"
    version = composed("collector").removeprefix("otel-agents/collector:")
    for component in ("gateway", "node"):
        assert everything.pod(component).container["image"] == f"{official}:{version}"
    dockerfile = (ROOT / "deploy" / "collector" / "Dockerfile").read_text(encoding="utf-8")
    assert f"FROM {official}:" in dockerfile


def test_the_chart_is_of_the_version_of_otel_agents() -> None:
    """So the server's default image is of that version too."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)


def secrets(pod: Pod) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield the secrets that a pod is given as files: name, folder, and path by key."""
    folders = {one["name"]: one["mountPath"] for one in pod.container["volumeMounts"]}
    for volume in pod.spec["volumes"]:
        if "secret" in volume:
            secret = volume["secret"]
            items = {one["key"]: one["path"] for one in secret["items"]}
            yield secret["secretName"], folders[volume["name"]], items


@pytest.mark.parametrize(
    ("component", "expected"),
    [
        ("server", {"token", "ingest_token", "viewer_token"}),
        ("gateway", {"ingest_token"}),
        ("node", set()),
    ],
)
def test_each_pod_is_given_the_tokens_that_it_needs(
    chart: Chart, component: str, expected: set[str]
) -> None:
    """As files that its group alone reads, whose variables name them; none is in a variable."""
    pod = chart.variant("all").pod(component)
    given = {f"{folder}/{path}" for _, folder, items in secrets(pod) for path in items.values()}
    assert given == {f"/run/secrets/otel-agents/{name}" for name in expected}
    named = {value for name, value in pod.environment.items() if name.endswith("_TOKEN_FILE")}
    assert named == given
    modes = {one["secret"]["defaultMode"] for one in pod.spec["volumes"] if "secret" in one}
    assert modes <= {0o440}
    assert not [one for one in pod.container["env"] if "secretKeyRef" in one.get("valueFrom", {})]


def test_the_secret_s_names_are_values(chart: Chart) -> None:
    """Its own and its keys', for a secret that somebody else makes."""
    values: dict[str, Any] = {
        "tokens": {"secret": "vault", "keys": {"admin": "a", "ingest": "i", "viewer": "v"}},
        "monitoring": {"monitors": {"enabled": True}},
    }
    rendered = chart.rendered(values)
    assert list(secrets(rendered.pod("server"))) == [
        (
            "vault",
            "/run/secrets/otel-agents",
            {"a": "token", "i": "ingest_token", "v": "viewer_token"},
        )
    ]
    (endpoint,) = rendered.one("ServiceMonitor", "server")["spec"]["endpoints"]
    assert endpoint["authorization"] == {"credentials": {"name": "vault", "key": "v"}}


def test_on_postgresql_the_server_keeps_nothing(chart: Chart) -> None:
    """It is a Deployment of several, and the URL of its store comes from a secret."""
    server = chart.variant("postgresql").pod("server")
    assert (server.owner["kind"], server.owner["spec"]["replicas"]) == ("Deployment", 2)
    assert [one for one in server.container["env"] if one["name"] == "OTEL_AGENTS_STORE"] == [
        {
            "name": "OTEL_AGENTS_STORE",
            "valueFrom": {"secretKeyRef": {"name": "otel-agents-postgresql", "key": "url"}},
        }
    ]
    assert not any("persistentVolumeClaim" in volume for volume in server.spec["volumes"])


def test_on_sqlite_the_server_is_one_and_keeps_its_file(chart: Chart) -> None:
    """On a claim that outlives the release, mounted above the workspace."""
    server = chart.variant("default").pod("server")
    spec = server.owner["spec"]
    assert (server.owner["kind"], spec["replicas"]) == ("StatefulSet", 1)
    (claim,) = spec["volumeClaimTemplates"]
    assert claim["spec"]["resources"] == {"requests": {"storage": "10Gi"}}
    assert spec["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Retain"
    folders = {one["name"]: one["mountPath"] for one in server.container["volumeMounts"]}
    home = server.environment["OTEL_AGENTS_HOME"]
    assert home.startswith(folders[claim["metadata"]["name"]] + "/")


def test_the_store_s_limit_is_below_its_volume(chart: Chart) -> None:
    """With room for what is written before it is cleared away."""
    rendered = chart.variant("default")
    settings = rendered.one("ConfigMap", "server")["data"]["otel-agents.toml"]
    limit = re.search(r"^max_bytes = ([0-9_]+)$", settings, re.MULTILINE)
    assert limit is not None
    (claim,) = rendered.pod("server").owner["spec"]["volumeClaimTemplates"]
    size = claim["spec"]["resources"]["requests"]["storage"]
    assert int(limit[1]) < 0.75 * int(size.removesuffix("Gi")) * 2**30
