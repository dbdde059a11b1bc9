"""The chart as Helm renders it: its objects, its pods, and the variants that the tests look at."""

from __future__ import annotations

import json
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "kubernetes" / "otel-agents"
GENERATED = ROOT / "dashboards" / "generated"
RELEASE = "shop"
NAMESPACE = "telemetry"
# The newest that kubernetes-validate has schemas of, and the oldest that Chart.yaml admits.
NEWEST, OLDEST = "1.37.0", "1.27.0"

Values = dict[str, Any]

_MONITORED: Values = {
    "monitoring": {
        "monitors": {"enabled": True},
        "rules": {"enabled": True},
        "labels": {"release": "prometheus"},
    },
    "dashboards": {"enabled": True},
}
ALL: Values = {
    **_MONITORED,
    "node": {"enabled": True},
    "gateway": {"tailSampling": True, "podAnnotations": {"team": "agents"}},
    "ingress": {"enabled": True, "className": "nginx", "tlsSecret": "console-tls"},
    "commonLabels": {"team": "agents"},
    "imagePullSecrets": [{"name": "registry"}],
    "environment": "production",
    "networkPolicy": {
        "users": [{"podSelector": {"matchLabels": {"app": "ingress"}}}],
        "jaeger": [{"namespaceSelector": {"matchLabels": {"name": "observability"}}}],
    },
    "server": {
        "env": [{"name": "TZ", "value": "UTC"}],
        "persistence": {"storageClassName": "fast"},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"operator": "Exists"}],
        "priorityClassName": "system-cluster-critical",
    },
}
POSTGRESQL: Values = {
    **_MONITORED,
    "server": {"store": "postgresql", "replicas": 2, "image": {"digest": "sha256:" + "0" * 64}},
    "networkPolicy": {"postgresql": [{"ipBlock": {"cidr": "10.0.0.5/32"}}]},
}
OFF: Values = {
    "server": {"enabled": False},
    "gateway": {"enabled": False},
    "serviceAccount": {"create": False, "name": "own"},
    "podDisruptionBudget": {"enabled": False},
    "networkPolicy": {"enabled": False},
}
ELSEWHERE: Values = {
    **_MONITORED,
    "server": {"enabled": False},
    "backends": {"server": {"url": "https://agents.example.com"}},
    "serviceAccount": {"create": False, "name": "own"},
}
SERVER_ONLY: Values = {**_MONITORED, "gateway": {"enabled": False}}
CLOSED: Values = {
    "node": {"enabled": True},
    "networkPolicy": {"senders": [], "users": [], "scrapers": [], "alerters": []},
}
VARIANTS: dict[str, Values] = {
    "default": {},
    "all": ALL,
    "postgresql": POSTGRESQL,
    "off": OFF,
    "elsewhere": ELSEWHERE,
    "server-only": SERVER_ONLY,
    "closed": CLOSED,
}


class Pod(NamedTuple):
    """A workload's pod: the object that makes it, its labels and its specification."""

    owner: dict[str, Any]
    labels: dict[str, str]
    spec: dict[str, Any]

    @property
    def container(self) -> dict[str, Any]:
        """The one container."""
        (only,) = self.spec["containers"]
        found: dict[str, Any] = only
        return found

    @property
    def ports(self) -> dict[str, int]:
        """The container's ports by name."""
        return {port["name"]: port["containerPort"] for port in self.container["ports"]}

    @property
    def environment(self) -> dict[str, str]:
        """The variables that have a value here, not in a secret or a field."""
        variables = self.container["env"]
        return {one["name"]: one["value"] for one in variables if "value" in one}


class Rendered:
    """What Helm made of the chart."""

    def __init__(self, objects: list[dict[str, Any]]) -> None:
        self.objects = objects

    def of(self, kind: str) -> dict[str, dict[str, Any]]:
        """Return the objects of a kind by name."""
        return {one["metadata"]["name"]: one for one in self.objects if one["kind"] == kind}

    def one(self, kind: str, component: str) -> dict[str, Any]:
        """Return an object of a component by what its name ends in."""
        return self.of(kind)[f"{RELEASE}-otel-agents-{component}"]

    def pods(self) -> Iterator[Pod]:
        """Yield the pods of all workloads."""
        for kind in ("StatefulSet", "Deployment", "DaemonSet"):
            for owner in self.of(kind).values():
                template = owner["spec"]["template"]
                yield Pod(owner, template["metadata"]["labels"], template["spec"])

    def pod(self, component: str) -> Pod:
        """Return the pod of a component."""
        (found,) = (
            pod for pod in self.pods() if pod.labels["app.kubernetes.io/component"] == component
        )
        return found


class Chart:
    """The chart, and the Helm that renders it."""

    def __init__(self, helm: Path, home: Path) -> None:
        self._helm = helm
        self._environment = {**os.environ, "HELM_CACHE_HOME": str(home), "HOME": str(home)}
        self.render = cache(self._render)

    def helm(self, *arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run Helm to its end."""
        return subprocess.run(  # noqa: S603 - Helm itself
            [self._helm, *arguments],
            input=stdin, capture_output=True, text=True, env=self._environment, check=False,
        )  # fmt: skip

    def template(
        self, values: Values, chart: Path = CHART, release: str = RELEASE
    ) -> subprocess.CompletedProcess[str]:
        """Run `helm template` with values."""
        return self.helm(
            "template", release, chart, "--namespace", NAMESPACE, "--kube-version", NEWEST,
            "--values", "-", stdin=json.dumps(values),
        )  # fmt: skip

    def variant(self, name: str) -> Rendered:
        """Return one of `VARIANTS`, rendered."""
        return self.render(name)

    def rendered(self, values: Values, chart: Path = CHART, release: str = RELEASE) -> Rendered:
        """Return what becomes of other values, or of another chart or release."""
        done = self.template(values, chart, release)
        assert done.returncode == 0, done.stderr
        return Rendered([one for one in yaml.safe_load_all(done.stdout) if one is not None])

    def _render(self, name: str) -> Rendered:
        return self.rendered(VARIANTS[name])


def matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Say whether a label selector takes something with these labels."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for each in selector.get("matchExpressions", []):
        assert each["operator"] == "In"
        if labels.get(each["key"]) not in each["values"]:
            return False
    return True
