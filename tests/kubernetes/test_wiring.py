"""What refers to something else in the chart refers to something that is there."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from .chart import ALL, CHART, NAMESPACE, POSTGRESQL, RELEASE, ROOT, VARIANTS, matches

if TYPE_CHECKING:
    from pathlib import Path

    from .chart import Chart, Rendered

FULL = f"{RELEASE}-otel-agents"


@pytest.fixture(params=VARIANTS)
def rendered(chart: Chart, request: pytest.FixtureRequest) -> Rendered:
    """One variant, rendered."""
    return chart.variant(request.param)


def test_each_workload_selects_its_own_pods(rendered: Rendered) -> None:
    """And no other's."""
    for pod in rendered.pods():
        taken = [
            one for one in rendered.pods() if matches(pod.owner["spec"]["selector"], one.labels)
        ]
        assert taken == [pod]


def test_each_service_leads_to_ports_of_pods_that_are_there(rendered: Rendered) -> None:
    """By the ports' names."""
    for service in rendered.of("Service").values():
        spec = service["spec"]
        (pod,) = (
            one for one in rendered.pods() if matches({"matchLabels": spec["selector"]}, one.labels)
        )
        for port in spec["ports"]:
            assert pod.ports[port["targetPort"]] == port["port"]


def test_each_set_has_its_service(rendered: Rendered) -> None:
    """The one that gives its pods their names."""
    for owner in rendered.of("StatefulSet").values():
        service = rendered.of("Service")[owner["spec"]["serviceName"]]
        assert service["spec"]["selector"] == owner["spec"]["selector"]["matchLabels"]


def test_each_mounted_configuration_is_there(rendered: Rendered) -> None:
    """Under the name that the pod mounts."""
    for pod in rendered.pods():
        names = {one["configMap"]["name"] for one in pod.spec["volumes"] if "configMap" in one}
        assert names
        assert names <= set(rendered.of("ConfigMap"))


def test_each_budget_is_about_pods_that_are_there(rendered: Rendered) -> None:
    """And never keeps a node from being drained."""
    for budget in rendered.of("PodDisruptionBudget").values():
        selected = [
            pod for pod in rendered.pods() if matches(budget["spec"]["selector"], pod.labels)
        ]
        assert len(selected) == 1
        assert budget["spec"]["maxUnavailable"] == 1


def test_the_console_s_ingress_leads_to_the_console(chart: Chart) -> None:
    """It is off unless it is asked for."""
    assert not chart.variant("default").of("Ingress")
    everything = chart.variant("all")
    spec = everything.one("Ingress", "console")["spec"]
    (path,) = spec["rules"][0]["http"]["paths"]
    target = path["backend"]["service"]
    ports = everything.of("Service")[target["name"]]["spec"]["ports"]
    assert {port["name"]: port["port"] for port in ports}[target["port"]["name"]] == 3010
    assert spec["tls"] == [{"hosts": [spec["rules"][0]["host"]], "secretName": "console-tls"}]


# ---------------------------------------------------------------------- who talks to whom


class Network:
    """What the policies let through between the chart's own pods, and from and to others."""

    def __init__(self, rendered: Rendered) -> None:
        self.policies = [one["spec"] for one in rendered.of("NetworkPolicy").values()]
        self.pods = {pod.labels["app.kubernetes.io/component"]: pod for pod in rendered.pods()}

    def rules(self, component: str, way: str) -> list[dict[str, Any]]:
        """Return the rules of one direction, `ingress` or `egress`, that hold for a pod."""
        labels = self.pods[component].labels
        chosen = [one for one in self.policies if matches(one["podSelector"], labels)]
        assert any(way.capitalize() in one["policyTypes"] for one in chosen)
        return [rule for one in chosen for rule in one.get(way) or ()]

    def open(self, sender: str, receiver: str, port: str) -> bool:
        """Say whether one pod may open a connection to a port of another."""
        return any(
            port in _ports(rule) and _peers(rule, "from", self.pods[sender].labels)
            for rule in self.rules(receiver, "ingress")
        ) and any(
            port in _ports(rule) and _peers(rule, "to", self.pods[receiver].labels)
            for rule in self.rules(sender, "egress")
        )


def _ports(rule: dict[str, Any]) -> set[str | int]:
    return {one["port"] for one in rule["ports"]}


def _peers(rule: dict[str, Any], way: str, labels: dict[str, str]) -> bool:
    selectors = [one["podSelector"] for one in rule.get(way, []) if "podSelector" in one]
    return any(selector and matches(selector, labels) for selector in selectors)


def test_only_those_talk_that_have_to(chart: Chart) -> None:
    """Node agents to gateways, gateways to the server; nobody else among the chart's pods."""
    network = Network(chart.variant("all"))
    ports = {name for pod in network.pods.values() for name in pod.ports}
    opened = {
        (sender, receiver, port)
        for sender in network.pods
        for receiver in network.pods
        for port in ports
        if network.open(sender, receiver, port)
    }
    assert opened == {("node", "gateway", "otlp-grpc"), ("gateway", "server", "otlp-http")}


@pytest.mark.parametrize(
    ("component", "expected"),
    [("server", {53}), ("gateway", {53, 4318, 9090, "otlp-http"}), ("node", {53, "otlp-grpc"})],
)
def test_each_pod_may_reach_what_it_is_configured_to(
    chart: Chart, component: str, expected: set[str | int]
) -> None:
    """Names, its backends' ports, and nothing else."""
    rules = Network(chart.variant("all")).rules(component, "egress")
    assert {port for rule in rules for port in _ports(rule)} == expected


def test_every_pod_is_denied_what_is_not_allowed(chart: Chart) -> None:
    """A policy without rules takes them all in; without policies nothing is denied."""
    for variant in ("default", "all", "postgresql", "elsewhere", "server-only"):
        rendered = chart.variant(variant)
        deny = rendered.one("NetworkPolicy", "default-deny")["spec"]
        assert set(deny) == {"podSelector", "policyTypes"}
        assert deny["policyTypes"] == ["Ingress", "Egress"]
        assert all(matches(deny["podSelector"], pod.labels) for pod in rendered.pods())


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "off"])
def test_each_port_of_a_policy_is_one_of_its_pods(chart: Chart, variant: str) -> None:
    """What a policy lets in, a pod listens on."""
    network = Network(chart.variant(variant))
    for component, pod in network.pods.items():
        for rule in network.rules(component, "ingress"):
            assert _ports(rule) <= set(pod.ports)


@pytest.mark.parametrize(
    ("url", "port", "expected"),
    [
        ("http://jaeger:4318", None, 4318),
        ("https://jaeger.example.com/otlp", None, 443),
        ("http://jaeger", None, 80),
        ("http://jaeger:80", 14318, 14318),
        ("http://[fd00::1]:4318", None, 4318),
    ],
)
def test_a_backend_s_port_is_let_through(
    chart: Chart, url: str, port: int | None, expected: int
) -> None:
    """The address's, or that of the pods behind it where it is another one."""
    rendered = chart.rendered({"backends": {"jaeger": {"url": url, "port": port}}})
    rules = Network(rendered).rules("gateway", "egress")
    assert expected in {each for rule in rules for each in _ports(rule)}
    assert rendered.pod("gateway").environment["COLLECTOR_JAEGER_URL"] == url


def test_the_database_is_let_through(chart: Chart) -> None:
    """At its own address, if there is one in the values."""
    rules = Network(chart.variant("postgresql")).rules("server", "egress")
    (rule,) = (one for one in rules if 5432 in _ports(one))
    assert rule["to"] == POSTGRESQL["networkPolicy"]["postgresql"]


def test_who_may_see_the_console(chart: Chart) -> None:
    """Users, Prometheus and Alertmanager as the values name them; a sender of telemetry not."""
    rules = Network(chart.variant("all")).rules("server", "ingress")
    (console,) = (one for one in rules if "console" in _ports(one))
    monitoring = {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}
    assert console["from"] == [
        *ALL["networkPolicy"]["users"],
        {"namespaceSelector": monitoring},
    ]


def test_empty_lists_let_nobody_in(chart: Chart) -> None:
    """Only the chart's own pods: to the gateways from the nodes, to the server from gateways."""
    network = Network(chart.variant("closed"))
    let_in = {
        component: [port for rule in network.rules(component, "ingress") for port in _ports(rule)]
        for component in network.pods
    }
    assert let_in == {"gateway": ["otlp-grpc"], "server": ["otlp-http"], "node": []}


# ---------------------------------------------------------------------- addresses


def test_node_agents_find_the_gateways(chart: Chart) -> None:
    """By the headless service, which lists them one by one, at the port that they listen on."""
    everything = chart.variant("all")
    resolver = yaml.safe_load(everything.pod("node").environment["COLLECTOR_GATEWAYS"])
    host, port = resolver["dns"]["hostname"], resolver["dns"]["port"]
    service = everything.of("Service")[host.removesuffix(f".{NAMESPACE}.svc")]
    assert service["spec"]["clusterIP"] == "None"
    assert int(port) == everything.pod("gateway").ports["otlp-grpc"]


def test_gateways_find_the_server(chart: Chart) -> None:
    """The chart's, by its service; or the one that the values name."""
    everything = chart.variant("all")
    url = everything.pod("gateway").environment["COLLECTOR_SERVER_URL"]
    assert url == f"http://{FULL}-server:{everything.pod('server').ports['otlp-http']}"
    elsewhere = chart.variant("elsewhere").pod("gateway")
    assert elsewhere.environment["COLLECTOR_SERVER_URL"] == "https://agents.example.com"


def test_programs_stay_on_their_node(chart: Chart) -> None:
    """One name for all nodes' agents leads to the agent of the own node."""
    service = chart.variant("all").one("Service", "node")
    assert service["spec"]["internalTrafficPolicy"] == "Local"


def test_the_notes_name_addresses_that_are_there(chart: Chart, tmp_path: Path) -> None:
    """What Helm prints after an installation, here rendered as an object beside the others."""
    copied = tmp_path / "otel-agents"
    shutil.copytree(CHART, copied)
    notes = (copied / "templates" / "NOTES.txt").read_text(encoding="utf-8")
    (copied / "templates" / "notes.yaml").write_text(
        '{{ define "notes" }}' + notes + "{{ end }}\n"
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: notes}\n"
        'data:\n  text: {{ include "notes" . | toJson }}\n',
        "utf-8",
    )
    for values, component in (({}, "gateway"), (ALL, "node")):
        rendered = chart.rendered(values, copied)
        text = rendered.of("ConfigMap")["notes"]["data"]["text"]
        assert f"=http://{FULL}-{component}.{NAMESPACE}.svc:4317\n" in text
        assert f"service/{FULL}-server 3010:console" in text
        assert {f"{FULL}-{component}", f"{FULL}-server"} <= set(rendered.of("Service"))


# ---------------------------------------------------------------------- Prometheus


def scraped(monitor: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the end points of a ServiceMonitor or PodMonitor."""
    spec = monitor["spec"]
    found: list[dict[str, Any]] = spec.get("endpoints") or spec["podMetricsEndpoints"]
    return found


def test_prometheus_is_led_to_what_tells_metrics(chart: Chart) -> None:
    """The server's service, and the pods of all collectors, at ports that they have."""
    everything = chart.variant("all")
    monitor = everything.one("ServiceMonitor", "server")
    services = everything.of("Service").values()
    (service,) = (
        one for one in services if matches(monitor["spec"]["selector"], one["metadata"]["labels"])
    )
    (endpoint,) = scraped(monitor)
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}

    monitor = everything.one("PodMonitor", "collector")
    taken = [pod for pod in everything.pods() if matches(monitor["spec"]["selector"], pod.labels)]
    assert {pod.labels["app.kubernetes.io/component"] for pod in taken} == {"gateway", "node"}
    (endpoint,) = scraped(monitor)
    assert all(endpoint["port"] in pod.ports for pod in taken)


def test_jobs_are_named_and_filtered_as_in_the_stack(chart: Chart) -> None:
    """Rules and dashboards know them by these names."""
    config = yaml.safe_load(
        (ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
    )
    targets = yaml.safe_load(
        (ROOT / "deploy" / "prometheus" / "targets" / "compose.yml").read_text(encoding="utf-8")
    )
    jobs = {group["labels"]["job"] for group in targets}
    everything = chart.variant("all")
    (server,) = scraped(everything.one("ServiceMonitor", "server"))
    (collector,) = scraped(everything.one("PodMonitor", "collector"))
    named = {each["relabelings"][-1]["replacement"] for each in (server, collector)}
    assert named == {"otel-agents", "collector"}
    assert named <= jobs

    (job,) = (one for one in config["scrape_configs"] if one["job_name"] == "otel-agents")
    (theirs,), (ours,) = job["metric_relabel_configs"], server["metricRelabelings"]
    assert (ours["action"], ours["regex"]) == (theirs["action"], theirs["regex"])


def test_prometheus_operator_objects_carry_what_it_selects_by(chart: Chart) -> None:
    """And there are none unless they are asked for, since a cluster may not know their kinds."""
    kinds = ("ServiceMonitor", "PodMonitor", "PrometheusRule")
    everything = chart.variant("all")
    for kind in kinds:
        assert everything.of(kind)
        labels = [one["metadata"]["labels"] for one in everything.of(kind).values()]
        assert {each["release"] for each in labels} == {"prometheus"}
        assert not chart.variant("default").of(kind)


# ---------------------------------------------------------------------- upgrades


def test_an_upgrade_changes_nothing_that_cannot_be_changed(chart: Chart, tmp_path: Path) -> None:
    """Selectors, services and claims of sets stay what they are under another version's chart."""
    later = tmp_path / "otel-agents"
    shutil.copytree(CHART, later)
    about = later / "Chart.yaml"
    text = about.read_text(encoding="utf-8")
    about.write_text(re.sub(r"(?m)^(version|appVersion): .*$", r"\1: 9.9.9", text), "utf-8")
    before, after = chart.variant("all"), chart.rendered({**ALL, "commonLabels": {}}, later)

    def fixed(rendered: Rendered) -> dict[str, Any]:
        return {
            pod.owner["metadata"]["name"]: (
                pod.owner["spec"]["selector"],
                pod.owner["spec"].get("serviceName"),
                pod.owner["spec"].get("volumeClaimTemplates"),
                pod.owner["spec"].get("podManagementPolicy"),
            )
            for pod in rendered.pods()
        }

    assert fixed(after) == fixed(before)
    assert after.pod("server").container["image"].endswith(":9.9.9")


@pytest.mark.parametrize("component", ["server", "gateway"])
def test_another_configuration_makes_new_pods(chart: Chart, tmp_path: Path, component: str) -> None:
    """A pod does not read a changed ConfigMap by itself."""
    changed = tmp_path / "otel-agents"
    shutil.copytree(CHART, changed)
    config = changed / "files" / "collector" / "config.yaml"
    config.write_text(config.read_text(encoding="utf-8") + "# changed\n", "utf-8")
    values = {"server": {"settings": "[store]\nretain_days = 7\n"}}

    def annotations(rendered: Rendered) -> dict[str, str]:
        owner = rendered.pod(component).owner
        found: dict[str, str] = owner["spec"]["template"]["metadata"]["annotations"]
        return found

    assert annotations(chart.rendered(values, changed)) != annotations(chart.variant("default"))
