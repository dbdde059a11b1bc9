"""The folder of a native stack: its secrets, and the copies of what cannot read the environment.

data/                what each part keeps
logs/                what each part writes
secrets/             token, ingest_token, viewer_token
prometheus/          its configuration, with whom it scrapes and tells, and the rules, whose alerts
                     lead to the server's runbooks
alertmanager/        its configuration, with the server's address
server/              the server's settings
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from typing import TYPE_CHECKING

import parts
from components import HOST

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SECRETS = ("token", "ingest_token", "viewer_token")
# What `docker compose` calls the server; the one address in Alertmanager's configuration.
COMPOSE_CONSOLE = "http://server:3010/"
# Where the generated rules have the console; Grafana, that they lead to as well, is not started.
RULES_CONSOLE = "http://127.0.0.1:3010/"
RULES = parts.DEPLOY.parent / "dashboards" / "generated" / "rules"


def prepare(state: Path, ports: Mapping[str, int]) -> None:
    """Lay out the folder for a start on these ports; what is there of data and secrets stays."""
    for folder in ("logs", "server", "data/jaeger", "data/redis", "data/server"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    _make_secrets(state / "secrets")
    _prepare_prometheus(state / "prometheus", ports)
    alertmanager = _with_secrets(state / "alertmanager")
    written = (parts.DEPLOY / "alertmanager" / "alertmanager.yml").read_text(encoding="utf-8")
    (alertmanager / "alertmanager.yml").write_text(
        written.replace(COMPOSE_CONSOLE, f"http://{HOST}:{ports['console']}/"), encoding="utf-8"
    )
    settings = state / "server" / "otel-agents.toml"
    if not settings.exists():
        settings.write_text("# Settings of the stack's server.\n", encoding="utf-8")


def _make_secrets(folder: Path) -> None:
    """Make each secret that is not there, readable by its owner only."""
    folder.mkdir(mode=0o700, exist_ok=True)
    for name in SECRETS:
        path = folder / name
        if not path.exists():
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            # Without a line's end: the collector puts it into a header as it stands.
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(secrets.token_urlsafe(32))


def _prepare_prometheus(folder: Path, ports: Mapping[str, int]) -> None:
    _with_secrets(folder)
    shutil.copy(parts.DEPLOY / "prometheus" / "prometheus.yml", folder)
    shutil.rmtree(folder / "rules", ignore_errors=True)
    (folder / "rules").mkdir()
    for rules in sorted(RULES.glob("*.yml")):
        made = rules.read_text(encoding="utf-8")
        (folder / "rules" / rules.name).write_text(
            made.replace(RULES_CONSOLE, f"http://{HOST}:{ports['console']}/"), encoding="utf-8"
        )
    scraped = {
        "collector": ports["collector_metrics"],
        "jaeger": ports["jaeger_metrics"],
        "prometheus": ports["prometheus"],
        "alertmanager": ports["alertmanager"],
        "otel-agents": ports["console"],
    }
    _write_targets(
        folder / "targets",
        [{"labels": {"job": job}, "targets": [f"{HOST}:{port}"]} for job, port in scraped.items()],
    )
    _write_targets(folder / "alertmanagers", [{"targets": [f"{HOST}:{ports['alertmanager']}"]}])


def _write_targets(folder: Path, groups: list[dict[str, object]]) -> None:
    folder.mkdir(exist_ok=True)
    # JSON is YAML too, and needs no package to write.
    (folder / "native.yml").write_text(json.dumps(groups, indent=2), encoding="utf-8")


def _with_secrets(folder: Path) -> Path:
    """Make a folder with the stack's secrets in it, by a link."""
    folder.mkdir(exist_ok=True)
    link = folder / "secrets"
    if not link.is_symlink():
        link.symlink_to("../secrets")
    return folder
