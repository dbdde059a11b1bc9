"""What the tests of the Kubernetes chart need: Helm, and the schemas of Prometheus' operator.

Both come from Go modules, compared with the sums they had when they were chosen, and stand in the
cache by version.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HELM_MODULE = "helm.sh/helm/v3"
HELM_VERSION = "3.22.0"
HELM_SUM = "h1:n1if5iQgHYsujPAcO5oonH/KiSNUmqmUF0iGVjSF3AU="

# The newest of the operator's own module that was to be had; its schemas are files in it.
OPERATOR_MODULE = "github.com/prometheus-operator/prometheus-operator"
OPERATOR_VERSION = "0.85.0"
OPERATOR_SUM = "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s="
# As the operator's API names them: in the plural and without capitals.
KINDS = ("podmonitors", "prometheusrules", "servicemonitors")


def programs(cache: Path) -> dict[str, Path | None]:
    """Return Helm and a schema for each of `KINDS` by name, None for what is not in the cache."""
    wanted = {"helm": _helm(cache), **{kind: _schema(cache, kind) for kind in KINDS}}
    return {name: path if path.is_file() else None for name, path in wanted.items()}


def make(
    work: Path,
    cache: Path,
    *,
    module: Callable[[str, str, str], Path],
    build: Callable[[str, Path, Path], None],
) -> None:
    """Fetch the schemas and build Helm into the cache.

    Args:
        work: a folder of our own on the cache's file system.
        cache: the folder that holds the programs.
        module: fetches a Go module, by path, version and sum, and returns its folder.
        build: compiles a package of a module's folder to a program's path.
    """
    operator = module(OPERATOR_MODULE, OPERATOR_VERSION, OPERATOR_SUM)
    for kind in KINDS:
        definition = f"example/prometheus-operator-crd/monitoring.coreos.com_{kind}.yaml"
        shutil.copyfile(operator / definition, work / kind)
        _place(work / kind, _schema(cache, kind))
    # In its module's own folder, where its go.sum holds for what it is built from.
    build("./cmd/helm", module(HELM_MODULE, HELM_VERSION, HELM_SUM), work / "helm")
    _place(work / "helm", _helm(cache))


def _helm(cache: Path) -> Path:
    return cache / f"helm-{HELM_VERSION}" / "helm"


def _schema(cache: Path, kind: str) -> Path:
    return cache / f"prometheus-operator-{OPERATOR_VERSION}" / f"{kind}.yaml"


def _place(made: Path, target: Path) -> None:
    """Move what is finished to its place in one step, so that half of it is never found."""
    target.parent.mkdir(parents=True, exist_ok=True)
    made.replace(target)
