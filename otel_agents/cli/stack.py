"""`otel-agents stack`: collector, Jaeger, Prometheus, Grafana and the server, in containers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from otel_agents.cli.envelope import FAILED, OK, print_data
from otel_agents.cli.init import made
from otel_agents.cli.options import AS_JSON
from otel_agents.cli.stack_engine import ALL_PROFILES, Compose, need_compose, need_engine
from otel_agents.cli.stack_files import in_checkout, laid_out, lay_out
from otel_agents.errors import InvalidInputError, NotFoundError
from otel_agents.workspace import find

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class _Address(NamedTuple):
    """Where a part is reached: its service, the port inside its container, and a URL around it."""

    service: str
    port: int
    url: str = "http://127.0.0.1:{}"


_ADDRESSES: Final = {
    "console": _Address("server", 3010),
    "otlp_grpc": _Address("collector", 4317),
    "otlp_http": _Address("collector", 4318),
    "jaeger": _Address("jaeger", 16686),
    "prometheus": _Address("prometheus", 9090),
    "alertmanager": _Address("alertmanager", 9093),
    "grafana": _Address("grafana", 3000),
    "redis": _Address("redis", 6379, "redis://127.0.0.1:{}/0"),
}
_SECRETS: Final = {
    "admin": "token",
    "viewer": "viewer_token",
    "ingest": "ingest_token",
    "grafana": "grafana_password",
}
_ONE_SHOT: Final = "secrets"
_CORE: Final = "core"
_PROFILE: Final = click.option(
    "--profile",
    type=click.Choice((_CORE, ALL_PROFILES)),
    help="core: collector, Jaeger, Prometheus, server; full: Alertmanager, Grafana, Redis too. "
    "By default what .env says.",
)


@click.group("stack")
def command() -> None:
    """Run the stack in containers: where programs send to, and where it is seen.

    It needs a container engine with Docker's Compose. Its files are those of the checkout, or are
    laid out in stack/ of the workspace; what may be set is in the .env there.
    """


@command.command("up")
@_PROFILE
@click.option("--pull", is_flag=True, help="Pull the images anew first.")
@click.option("--build", is_flag=True, help="Build the images of collector and server anew.")
@AS_JSON
def up_command(*, profile: str | None, pull: bool, build: bool, as_json: bool) -> int:
    """Start the stack, and wait until every part of it is healthy.

    What runs already and has not changed is left alone. Tokens and Grafana's password are made by
    the first start.
    """
    need_engine()
    folder = _made()
    compose = Compose(folder)
    if pull:
        compose.run("pull", "--ignore-buildable", profile=profile)
    options = ["--build"] if build else []
    compose.run("up", "--detach", "--wait", "--remove-orphans", *options, profile=profile)
    addresses = _addresses(compose.resolved(profile))
    if as_json:
        print_data({"path": str(folder), "addresses": addresses})
        return OK
    from otel_agents.cli.tables import panel

    lines = [f"{name:<12}  {url}" for name, url in addresses.items()]
    lines += ["", "The console asks for a token:  otel-agents stack token"]
    if "grafana" in addresses:
        lines += ["Grafana's admin, for changes:  otel-agents stack token grafana"]
    panel("\n".join(lines), title="otel-agents stack")
    return OK


@command.command("down")
@click.option("--volumes", is_flag=True, help="Delete all data and the secrets too.")
@click.option("--yes", is_flag=True, help="Say that this is meant.")
@AS_JSON
def down_command(*, volumes: bool, yes: bool, as_json: bool) -> int:
    """Stop the stack and remove its containers; the data stays, unless --volumes --yes."""
    if volumes and not yes:
        message = "--volumes deletes all traces, metrics, runs and secrets: add --yes to do so."
        raise InvalidInputError(message, parameter="volumes")
    need_engine()
    folder = _there()
    options = ["--volumes"] if volumes else []
    Compose(folder).run("down", "--remove-orphans", *options, profile=ALL_PROFILES)
    if as_json:
        print_data({"path": str(folder), "volumes_deleted": volumes})
    return OK


@command.command("status")
@AS_JSON
def status_command(*, as_json: bool) -> int:
    """Show the parts of the stack, whether they are healthy, and where they are reached.

    Exit codes: 0 all are healthy, 1 one is not or the stack is down, 4 there is none here.
    """
    need_engine()
    folder = _there()
    compose = Compose(folder)
    resolved = compose.resolved(ALL_PROFILES)
    services = _services(compose.containers(), resolved)
    running = {each["name"] for each in services if each["state"] == "running"}
    addresses = _addresses(resolved, running)
    healthy = all(each["ok"] for each in services)
    if as_json:
        data = {"healthy": healthy, "services": services, "addresses": addresses}
        print_data({"path": str(folder), **data})
    else:
        _show(services, addresses)
    return OK if healthy else FAILED


@command.command("config")
@_PROFILE
@click.option("--path", "path_only", is_flag=True, help="Print the folder of the files instead.")
@AS_JSON
def config_command(*, profile: str | None, path_only: bool, as_json: bool) -> int:
    """Print the configuration that Compose gets, with everything put in that is set."""
    if not path_only:
        need_compose()
    folder = _made()
    if path_only:
        if as_json:
            print_data({"path": str(folder)})
        else:
            click.echo(str(folder))
    elif as_json:
        print_data({"path": str(folder), "config": Compose(folder).resolved(profile)})
    else:
        click.echo(Compose(folder).ask("config", profile=profile), nl=False)
    return OK


@command.command("token")
@click.argument("whose", type=click.Choice(tuple(_SECRETS)), default="admin")
@AS_JSON
def token_command(whose: str, *, as_json: bool) -> int:
    """Print a secret of the stack: the token for the console, and others.

    admin: for the console, all of it. viewer: for the console, to read. ingest: to send telemetry
    and alerts. grafana: the password of Grafana's user admin.
    """
    need_engine()
    compose = Compose(_there())
    # The one service that sees all of them.
    once = ("run", "--rm", "--no-deps", "--no-TTY", _ONE_SHOT, "/secrets")
    secret = compose.ask(*once, "--print", _SECRETS[whose], profile=ALL_PROFILES).strip()
    if as_json:
        print_data({"name": whose, "secret": secret})
    else:
        click.echo(secret)
    return OK


def _made() -> Path:
    """Return the folder of the files, laid out where that is needed."""
    return in_checkout() or lay_out(find() or made()[0])


def _there() -> Path:
    """Return the folder of the files, which has been laid out.

    Raises:
        NotFoundError: It has not.

    """
    folder = in_checkout()
    if folder is None:
        workspace = find()
        if workspace is None or laid_out(workspace) is None:
            message = "There is no stack in this workspace: start one with `otel-agents stack up`."
            raise NotFoundError(message)
        folder = lay_out(workspace)
    return folder


def _addresses(resolved: Mapping[str, Any], running: set[str] | None = None) -> dict[str, str]:
    """Return where the services are reached on this machine, of the running ones where said."""
    found = {}
    for name, address in _ADDRESSES.items():
        if running is not None and address.service not in running:
            continue
        for port in resolved["services"].get(address.service, {}).get("ports", ()):
            if port["target"] == address.port and "published" in port:
                found[name] = address.url.format(port["published"])
    return found


def _services(
    containers: list[dict[str, Any]], resolved: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return each service that is there or should be: its state, health, and whether it is fine."""
    there = {each["Service"]: each for each in containers}
    found = []
    for name, service in sorted(resolved["services"].items()):
        one = there.get(name)
        if one is None:
            if _CORE in service.get("profiles", ()):
                found.append({"name": name, "state": "missing", "health": None, "ok": False})
            continue
        state, health = one["State"], one.get("Health") or None
        if name == _ONE_SHOT:
            ok = state == "exited" and one.get("ExitCode") == 0
        else:
            ok = state == "running" and health in {None, "healthy"}
        found.append({"name": name, "state": state, "health": health, "ok": ok})
    return found


def _show(services: list[dict[str, Any]], addresses: Mapping[str, str]) -> None:
    from otel_agents.cli.tables import Page, warning

    page = Page()
    reached: dict[str, list[str]] = {}
    for name, url in addresses.items():
        reached.setdefault(_ADDRESSES[name].service, []).append(url)
    rows = [
        (
            each["name"],
            each["state"] if each["ok"] else warning(each["state"]),
            (each["health"] or "") if each["ok"] else warning(each["health"] or ""),
            "  ".join(reached.get(each["name"], ())),
        )
        for each in services
    ]
    page.table(("SERVICE", "STATE", "HEALTH", "ADDRESS"), rows)
