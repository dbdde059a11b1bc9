"""The files in the chart are the repository's, and the real programs take what becomes of them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from .chart import ALL, CHART, GENERATED, NEWEST, ROOT, Rendered

if TYPE_CHECKING:
    from pathlib import Path

    from .chart import Chart

COLLECTOR = ROOT / "deploy" / "collector"
URLS = {
    "console": "https://agents.example.com",
    "grafana": "https://grafana.example.com/",
    "jaeger": "https://jaeger.example.com",
}
LOOPBACK = {
    "http://127.0.0.1:3010": "https://agents.example.com",
    "http://127.0.0.1:3000": "https://grafana.example.com",
    "http://127.0.0.1:16686": "https://jaeger.example.com",
}
MIB = 2**20


def read(path: Path) -> str:
    """Return a file's text."""
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def addressed(chart: Chart) -> Rendered:
    """Everything on, at addresses of a real cluster."""
    return chart.rendered({**ALL, "urls": URLS})


def elsewhere(text: str) -> str:
    """Return a generated file's text with those addresses."""
    for ours, theirs in LOOPBACK.items():
        text = text.replace(ours, theirs)
    return text


@pytest.mark.parametrize(
    ("component", "files"),
    [
        ("gateway", ["config.yaml", "gateway.yaml", "tail-sampling.yaml"]),
        ("node", ["config.yaml", "node.yaml"]),
    ],
)
def test_collectors_run_the_repository_s_files(
    chart: Chart, component: str, files: list[str]
) -> None:
    """To the letter, merged in this order."""
    everything = chart.variant("all")
    data = everything.one("ConfigMap", component)["data"]
    assert data == {name: read(COLLECTOR / name) for name in files}
    arguments = everything.pod(component).container["args"]
    assert all(one.startswith("--config=") for one in arguments)
    merged = [re.sub("^--config=/etc/otelcol/", "", one) for one in arguments]
    assert [one for one in merged if not one.startswith("--config=yaml:")] == files


def test_tail_sampling_is_off(chart: Chart) -> None:
    """Unless it is asked for: it loses what comes late."""
    assert set(chart.variant("default").one("ConfigMap", "gateway")["data"]) == {
        "config.yaml",
        "gateway.yaml",
    }


@pytest.mark.parametrize("component", ["gateway", "node"])
def test_every_variable_is_one_that_the_configuration_reads(chart: Chart, component: str) -> None:
    """Also each one that stands for an address to listen on, which is loopback without it."""
    everything = chart.variant("all")
    text = "".join(everything.one("ConfigMap", component)["data"].values())
    known = set(re.findall(r"\$\{env:(COLLECTOR_\w+)", text))
    given = {one["name"] for one in everything.pod(component).container["env"]} - {"GOMEMLIMIT"}
    assert given <= known
    listening = {
        name
        for name in re.findall(r"(?:endpoint|host): \$\{env:(\w+):-127\.0\.0\.1", text)
        # The collector's own way back, which nobody else may use.
        if name != "COLLECTOR_METRICS_QUEUE_ENDPOINT"
    }
    assert listening <= given
    environment = everything.pod(component).environment
    for name in listening:
        address, _, port = environment[name].partition(":")
        assert address == "0.0.0.0"  # noqa: S104 - compared with, not bound to
        assert not port or int(port) in everything.pod(component).ports.values()


@pytest.mark.parametrize("variant", ["default", "all"])
@pytest.mark.parametrize("component", ["gateway", "node"])
def test_the_collector_takes_its_configuration(
    chart: Chart, programs: dict[str, Path], tmp_path: Path, component: str, variant: str
) -> None:
    """With the pod's arguments and variables, its folders put elsewhere."""
    rendered = chart.variant(variant)
    if component == "node" and variant == "default":
        assert not rendered.of("DaemonSet")
        return
    for name, text in rendered.one("ConfigMap", component)["data"].items():
        (tmp_path / name).write_text(text, "utf-8")
    (tmp_path / "ingest_token").write_text("secret", "utf-8")
    pod = rendered.pod(component)
    moved = {"/etc/otelcol": tmp_path, "/run/secrets/otel-agents": tmp_path}
    moved["/var/lib/otelcol"] = tmp_path

    def here(text: str) -> str:
        for theirs, ours in moved.items():
            text = text.replace(theirs, str(ours))
        return text

    environment = {name: here(value) for name, value in pod.environment.items()}
    done = subprocess.run(  # noqa: S603 - the collector itself
        [programs["otelcol"], "validate", *map(here, pod.container["args"])],
        env={"PATH": os.environ["PATH"], "COLLECTOR_NAME": "shop-0", **environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_go_collects_before_the_collector_refuses(chart: Chart) -> None:
    """The limits stand in this order: Go's own, the memory limiter's, the container's."""
    everything = chart.variant("all")
    limiter = yaml.safe_load(read(COLLECTOR / "gateway.yaml"))["processors"]["memory_limiter"]
    soft = limiter["limit_percentage"] - limiter["spike_limit_percentage"]
    gateway = everything.pod("gateway")
    limit = int(gateway.container["resources"]["limits"]["memory"].removesuffix("Mi"))
    collects = int(gateway.environment["GOMEMLIMIT"].removesuffix("MiB"))
    assert collects < limit * soft / 100 < limit

    limiter = yaml.safe_load(read(COLLECTOR / "config.yaml"))["processors"]["memory_limiter"]
    node = everything.pod("node")
    limit = int(node.container["resources"]["limits"]["memory"].removesuffix("Mi"))
    collects = int(node.environment["GOMEMLIMIT"].removesuffix("MiB"))
    assert collects < limiter["limit_mib"] < limit


@pytest.mark.parametrize(
    ("component", "file", "expected"), [("gateway", "config.yaml", 5), ("node", "node.yaml", 3)]
)
def test_the_queues_fit_on_their_volume(
    chart: Chart, component: str, file: str, expected: int
) -> None:
    """All of them full, and the largest once more, since compaction writes it anew."""
    spec = chart.variant("all").pod(component).owner["spec"]
    volumes = {one["name"]: one for one in spec["template"]["spec"]["volumes"]}
    if component == "gateway":
        (claim,) = spec["volumeClaimTemplates"]
        room = claim["spec"]["resources"]["requests"]["storage"]
    else:
        room = volumes["queues"]["emptyDir"]["sizeLimit"]
    source = yaml.safe_load(read(COLLECTOR / file))
    sizes = {
        name: exporter["sending_queue"]["queue_size"]
        for name, exporter in source["exporters"].items()
        if exporter.get("sending_queue", {}).get("queue_size")
    }
    queues = {
        (pipeline.partition("/")[0], name)  # pipelines of one kind share an exporter's queue
        for pipeline, parts in source["service"]["pipelines"].items()
        for name in set(parts["exporters"]) & set(sizes)
    }
    full = [sizes[name] for _, name in queues]
    assert len(full) == expected
    assert sum(full) + max(full) <= int(room.removesuffix("Gi")) * 2**30


def test_rules_are_the_generated_ones(addressed: Rendered) -> None:
    """One object a file; links lead where the cluster's are, templates stay Prometheus' own."""
    files = sorted((GENERATED / "rules").glob("*.yml"))
    made = addressed.of("PrometheusRule")
    assert sorted(made) == [f"shop-otel-agents-{path.stem}" for path in files]
    for path in files:
        spec = made[f"shop-otel-agents-{path.stem}"]["spec"]
        assert spec == yaml.safe_load(elsewhere(read(path)))
    said = json.dumps(made)
    assert "{{ $labels." in said
    assert "127.0.0.1" not in said
    assert f"{URLS['console']}/runbooks/OtelAgents" in said


def test_prometheus_takes_the_rules(
    addressed: Rendered, programs: dict[str, Path], tmp_path: Path
) -> None:
    """As they stand in the objects."""
    made = addressed.of("PrometheusRule")
    for name, rule in made.items():
        path = tmp_path / f"{name}.yml"
        path.write_text(yaml.safe_dump(rule["spec"]), "utf-8")
        done = subprocess.run(  # noqa: S603 - promtool itself
            [programs["promtool"], "check", "rules", path],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    assert made


def test_dashboards_are_the_generated_ones(addressed: Rendered) -> None:
    """One ConfigMap each, which a sidecar finds by its label, below the limit of 1 MiB."""
    files = sorted((GENERATED / "dashboards").glob("*.json"))
    made = {
        name: one
        for name, one in addressed.of("ConfigMap").items()
        if one["metadata"]["labels"].get("grafana_dashboard") == "1"
    }
    assert files
    assert sorted(made) == [f"shop-otel-agents-dashboard-{path.stem}" for path in files]
    for path in files:
        one = made[f"shop-otel-agents-dashboard-{path.stem}"]
        (text,) = one["data"].values()
        assert list(one["data"]) == [path.name]
        assert json.loads(text) == json.loads(elsewhere(read(path)))
        assert len(json.dumps(one).encode()) < MIB


def test_the_console_s_link_to_jaeger_is_a_value(addressed: Rendered) -> None:
    """As are the links of rules and dashboards."""
    assert addressed.pod("server").environment["OTEL_AGENTS_JAEGER"] == URLS["jaeger"]


def test_a_package_is_whole(chart: Chart, tmp_path: Path) -> None:
    """It renders the same where the repository is not, and holds nothing that it does not need."""
    done = chart.helm("package", CHART, "--destination", tmp_path)
    assert done.returncode == 0, done.stderr
    (package,) = tmp_path.glob("*.tgz")
    with tarfile.open(package) as archive:
        members = archive.getmembers()
    assert all(member.isfile() for member in members)
    names = {member.name for member in members}
    assert "otel-agents/files/collector/gateway.yaml" in names
    assert not {name for name in names if name.endswith(("go.sum", "go.mod", "Dockerfile"))}
    # What a release of Helm is kept in, a Secret, takes 1 MiB.
    assert package.stat().st_size < MIB / 2
    assert chart.rendered(ALL, package).objects == chart.variant("all").objects


@pytest.mark.parametrize("folder", ["collector", "rules", "dashboards"])
def test_a_chart_without_its_files_says_so(chart: Chart, tmp_path: Path, folder: str) -> None:
    """Where links were lost on the way, nothing is silently left out."""
    copied = tmp_path / "otel-agents"
    shutil.copytree(CHART, copied)
    shutil.rmtree(copied / "files" / folder)
    done = chart.template(ALL, copied)
    assert done.returncode != 0
    assert re.search(rf"files/{folder}\S* is not in the chart", done.stderr)


def marked(value: Any, path: str, marks: dict[str, str]) -> Any:
    """Return the values with one of its own at each place, and put down what it is."""
    if isinstance(value, dict) and value:
        return {key: marked(below, f"{path}.{key}", marks) for key, below in value.items()}
    if isinstance(value, bool):
        return True
    number = 40_000 + len(marks)
    if value is None or isinstance(value, int):
        marks[path] = str(number)
        return number
    mark = marks[path] = f"mark{number}"
    if isinstance(value, list):
        return [mark] if value and isinstance(value[0], str) else [{mark: "x"}]
    if isinstance(value, dict):
        return {mark: "x"}
    return f"http://{mark}" if path.startswith((".urls.", ".backends.")) else mark


def test_every_value_has_an_effect(chart: Chart) -> None:
    """Each stands somewhere in what is rendered, in one of the ways to use the chart."""
    marks: dict[str, str] = {}
    values = marked(yaml.safe_load(read(CHART / "values.yaml")), "", marks)
    said = ""
    for server, digest in (
        ({"store": "sqlite", "replicas": 1}, ""),
        ({"store": "postgresql"}, "sha256:1"),
        ({"enabled": False}, ""),
    ):
        way = {
            **values,
            "fullnameOverride": digest and values["fullnameOverride"],
            "server": {**values["server"], **server},
            "collector": {"image": {**values["collector"]["image"], "digest": digest}},
        }
        way["server"]["image"] = {**values["server"]["image"]}
        if not digest:
            way["server"]["image"]["digest"] = ""
        done = chart.helm(
            "template", "shop", CHART, "--kube-version", NEWEST, "--skip-schema-validation",
            "--values", "-", stdin=json.dumps(way),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        said += done.stdout
    unused = {path for path, mark in marks.items() if mark not in said}
    assert unused == {".server.store", ".collector.image.digest"}  # set by this test itself
