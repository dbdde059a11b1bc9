"""`otel-agents stack` with a program `docker` of the tests' own, and the stack's secrets."""

from __future__ import annotations

import json
import os
import stat
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from otel_agents.cli import stack_files, stack_secrets
from otel_agents.version import __version__
from otel_agents.workspace import Workspace

if TYPE_CHECKING:
    import subprocess

    from .conftest import Shell

ROOT: Final = Path(__file__).parents[2]
# It writes down what it is asked, and answers as it was told for the command.
DOCKER: Final = """
    #!{python}
    import json, os, pathlib, sys
    here = pathlib.Path(__file__).parent
    arguments = sys.argv[1:]
    with (here / "asked").open("a") as file:
        file.write(json.dumps(arguments) + chr(10))
    if "--project-directory" in arguments and "COMPOSE_FILE" in os.environ:
        sys.exit("this would be the Compose file of another project")
    words = [one for one in arguments if one != "compose"]
    while words[0].startswith("--"):
        words = words[2:]
    code, out, err = json.loads((here / "answers").read_text()).get(words[0], [0, "", ""])
    sys.stdout.write(out)
    sys.stderr.write(err)
    sys.exit(code)
"""
PORTS: Final = {
    "server": [3010],
    "collector": [4317, 4318],
    "jaeger": [16686],
    "prometheus": [9090],
    "grafana": [3000],
}
CORE: Final = ("collector", "jaeger", "prometheus", "secrets", "server")


def resolved(*services: str) -> str:
    """Return what `docker compose config --format json` prints; ports are one higher outside."""
    found = {
        name: {
            "profiles": ["core", "full"] if name in CORE else ["full"],
            "ports": [{"target": port, "published": str(port + 1)} for port in PORTS.get(name, ())],
        }
        for name in services
    }
    return json.dumps({"name": "otel-agents", "services": found})


def container(service: str, **changed: Any) -> dict[str, Any]:
    """Return a container as `docker compose ps --format json` describes it."""
    if service == "secrets":
        return {"Service": service, "State": "exited", "Health": "", "ExitCode": 0, **changed}
    return {"Service": service, "State": "running", "Health": "healthy", "ExitCode": 0, **changed}


class Docker:
    """The fake program, alone on the PATH of a shell."""

    def __init__(self, shell: Shell) -> None:
        self.folder = shell.path / "bin"
        self.folder.mkdir()
        self.shell = shell
        shell.environment["PATH"] = str(self.folder)
        program = self.folder / "docker"
        program.write_text(textwrap.dedent(DOCKER).strip().format(python=sys.executable))
        program.chmod(0o755)
        self.answers: dict[str, tuple[int, str, str]] = {
            "info": (0, "29.0.0\n", ""),
            "version": (0, "Docker Compose version v5.5.1\n", ""),
            "config": (0, resolved(*CORE, "grafana"), ""),
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `otel-agents stack` with these arguments."""
        (self.folder / "answers").write_text(json.dumps(self.answers))
        return self.shell.run("stack", *arguments)

    def told(self, *arguments: str) -> dict[str, Any]:
        """Run it with --json; return the envelope, which is all that is on standard output."""
        done = self.run(*arguments, "--json")
        found: dict[str, Any] = json.loads(done.stdout)
        assert list(found) == ["data", "error", "meta"]
        return found

    @property
    def asked(self) -> list[list[str]]:
        """What was asked of Compose, without the options that name the files."""
        lines = (self.folder / "asked").read_text().splitlines()
        asked = [json.loads(line) for line in lines]
        files = ["--project-directory", str(ROOT)]
        return [one[3:] for one in asked if one[:3] == ["compose", *files]]


@pytest.fixture
def docker(bare: Shell) -> Docker:
    """A directory whose PATH has a working `docker` and nothing else."""
    return Docker(bare)


# --- what is missing


@pytest.mark.parametrize("command", ["up", "down", "status", "config", "token"])
def test_no_docker_is_one_sentence(docker: Docker, command: str) -> None:
    """It says what to install, and is exit code 1."""
    (docker.folder / "docker").unlink()

    done = docker.run(command, "--json")

    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "no `docker` on the PATH" in done.stderr
    assert json.loads(done.stdout)["error"]["code"] == "unavailable"


@pytest.mark.parametrize("answer", [(1, "Client:\n", "Cannot connect\n"), (0, "", "")])
def test_an_engine_that_is_down_is_one_sentence(
    docker: Docker, answer: tuple[int, str, str]
) -> None:
    """Whatever the client says of itself, and also if it says nothing at all."""
    docker.answers["info"] = answer

    done = docker.run("up")

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "does not answer `docker info`" in done.stderr
    assert docker.asked == []


def test_no_compose_is_one_sentence(docker: Docker) -> None:
    """An engine alone is not enough."""
    docker.answers["version"] = (1, "", "docker: unknown command: docker compose\n")

    done = docker.run("up")

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "Compose plugin" in done.stderr


# --- up


def test_up_starts_waits_and_says_where_everything_is(docker: Docker) -> None:
    """And how to get the secrets, none of which it shows."""
    done = docker.run("up")

    assert (done.returncode, done.stderr) == (0, "")
    assert docker.asked[0] == ["up", "--detach", "--wait", "--remove-orphans"]
    for shown in ("http://127.0.0.1:3011", "http://127.0.0.1:4318", "stack token", "token grafana"):
        assert shown in done.stdout


def test_the_compose_file_of_another_project_is_not_taken(docker: Docker) -> None:
    """A variable that is set for one leaves this one alone."""
    docker.shell.environment["COMPOSE_FILE"] = "other.yml"

    assert docker.run("up").returncode == 0


def test_up_takes_a_profile_pulls_and_builds(docker: Docker) -> None:
    """What nobody publishes is not pulled."""
    found = docker.told("up", "--profile", "core", "--pull", "--build")

    assert docker.asked[:2] == [
        ["--profile", "core", "pull", "--ignore-buildable"],
        ["--profile", "core", "up", "--detach", "--wait", "--remove-orphans", "--build"],
    ]
    assert found["data"]["path"] == str(ROOT)
    assert found["data"]["addresses"]["otlp_grpc"] == "http://127.0.0.1:4318"


def test_what_compose_says_goes_to_standard_error(docker: Docker) -> None:
    """So that standard output is the envelope alone, when it fails too."""
    docker.answers["up"] = (17, "progress\n", "no such image\n")

    done = docker.run("up", "--json")

    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["message"] == (
        "`docker compose up` ended with code 17: see above."
    )
    assert "progress\n" in done.stderr
    assert "no such image\n" in done.stderr


def test_a_profile_that_is_none_is_wrong_usage(docker: Docker) -> None:
    """Exit code 2, as for every command."""
    assert docker.run("up", "--profile", "half").returncode == 2


# --- down


def test_down_keeps_the_data(docker: Docker) -> None:
    """It removes the containers of every profile."""
    assert docker.told("down")["data"] == {"path": str(ROOT), "volumes_deleted": False}
    assert docker.asked == [["--profile", "full", "down", "--remove-orphans"]]


def test_down_deletes_data_only_when_that_is_meant(docker: Docker) -> None:
    """Without --yes nothing is touched."""
    refused = docker.told("down", "--volumes")
    assert (refused["error"]["code"], refused["error"]["details"]) == (
        "invalid_input",
        {"parameter": "volumes"},
    )
    assert not (docker.folder / "asked").exists()

    assert docker.told("down", "--volumes", "--yes")["data"]["volumes_deleted"] is True
    assert docker.asked[-1][-1] == "--volumes"


# --- status


def lines(*containers: dict[str, Any]) -> tuple[int, str, str]:
    """Return the answer of Compose since 2.21: a line for each container."""
    return 0, "".join(json.dumps(one) + "\n" for one in containers), ""


def test_status_of_a_healthy_stack(docker: Docker) -> None:
    """Exit code 0; the service that has done its work is fine, a part not asked for is no fault."""
    docker.answers["ps"] = lines(*map(container, CORE))

    done = docker.run("status", "--json")
    data = json.loads(done.stdout)["data"]

    assert (done.returncode, data["healthy"]) == (0, True)
    assert {one["name"]: one["state"] for one in data["services"]} == {
        **dict.fromkeys(CORE, "running"),
        "secrets": "exited",
    }
    assert data["addresses"] == {
        "console": "http://127.0.0.1:3011",
        "otlp_grpc": "http://127.0.0.1:4318",
        "otlp_http": "http://127.0.0.1:4319",
        "jaeger": "http://127.0.0.1:16687",
        "prometheus": "http://127.0.0.1:9091",
    }


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"Health": "unhealthy"}, "jaeger"),
        ({"Health": "starting"}, "jaeger"),
        ({"State": "restarting", "Health": ""}, "server"),
        ({"State": "exited", "ExitCode": 137, "Health": ""}, "collector"),
        ({"ExitCode": 1}, "secrets"),
        ({"Health": "unhealthy"}, "grafana"),
    ],
)
def test_status_of_a_stack_that_is_not_well(
    docker: Docker, changed: dict[str, Any], name: str
) -> None:
    """One part is enough for exit code 1."""
    others = [container(one) for one in (*CORE, "grafana") if one != name]
    docker.answers["ps"] = lines(*others, container(name, **changed))

    done = docker.run("status", "--json")
    data = json.loads(done.stdout)["data"]

    assert (done.returncode, data["healthy"]) == (1, False)
    assert [one["name"] for one in data["services"] if not one["ok"]] == [name]


def test_status_of_a_stack_that_is_down(docker: Docker) -> None:
    """The parts of the core are missing; nothing is reached anywhere."""
    docker.answers["ps"] = lines()

    done = docker.run("status", "--json")
    data = json.loads(done.stdout)["data"]

    assert (done.returncode, data["addresses"]) == (1, {})
    assert {(one["name"], one["state"]) for one in data["services"]} == {
        (name, "missing") for name in CORE
    }


def test_status_reads_the_list_of_older_versions(docker: Docker) -> None:
    """Compose before 2.21 printed one array."""
    docker.answers["ps"] = (0, json.dumps([container(one) for one in CORE]), "")

    done = docker.run("status")

    assert done.returncode == 0
    assert [line.split() for line in done.stdout.splitlines() if "jaeger" in line] == [
        ["jaeger", "running", "healthy", "http://127.0.0.1:16687"]
    ]


def test_status_passes_on_why_compose_fails(docker: Docker) -> None:
    """The last line of what it says is the reason."""
    docker.answers["ps"] = (14, "", "warning\npermission denied\n")

    done = docker.run("status")

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "ended with code 14: permission denied" in done.stderr


# --- config and token


def test_config_prints_what_compose_makes_of_the_file(docker: Docker) -> None:
    """As text or as data; the engine is not asked."""
    docker.answers["info"] = (1, "", "")
    assert json.loads(docker.run("config").stdout)["name"] == "otel-agents"

    data = docker.told("config", "--profile", "core")["data"]
    assert data["config"]["services"].keys() == {*CORE, "grafana"}
    assert docker.asked == [
        ["config"],
        ["--profile", "core", "config", "--format", "json"],
    ]


def test_config_tells_the_folder(docker: Docker) -> None:
    """For which nothing has to be installed."""
    (docker.folder / "docker").unlink()

    assert docker.run("config", "--path").stdout == f"{ROOT}\n"
    assert docker.told("config", "--path")["data"] == {"path": str(ROOT)}


@pytest.mark.parametrize(("arguments", "name"), [((), "token"), (("grafana",), "grafana_password")])
def test_token_prints_a_secret_and_nothing_else(
    docker: Docker, arguments: tuple[str, ...], name: str
) -> None:
    """It is asked of the one service that sees all, which need not be running."""
    docker.answers["run"] = (0, "s3cret\n", "Container otel-agents-secrets-run Creating\n")

    done = docker.run("token", *arguments)

    assert (done.returncode, done.stdout, done.stderr) == (0, "s3cret\n", "")
    (asked,) = docker.asked
    assert asked[:3] == ["--profile", "full", "run"]
    assert asked[3:] == [
        "--rm", "--no-deps", "--no-TTY", "secrets", "/secrets", "--print", name,
    ]  # fmt: skip
    assert docker.told("token", *arguments)["data"].keys() == {"name", "secret"}


# --- the files of an installed package


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that brings files of the stack along."""
    folder = tmp_path / "_stack"
    for name, text in (
        ("docker-compose.yml", "name: x\n"),
        (".env", "COMPOSE_PROFILES=full\n"),
        ("deploy/prometheus/prometheus.yml", "global: {}\n"),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.setattr(stack_files, "PACKAGED", folder)
    return folder


def test_files_are_laid_out_once(packaged: Path, tmp_path: Path) -> None:
    """The same version leaves them alone, what the user changed included."""
    workspace = Workspace(tmp_path / ".otel-agents")
    assert stack_files.in_checkout() is None
    assert stack_files.laid_out(workspace) is None

    folder = stack_files.lay_out(workspace)
    assert (folder / "deploy/prometheus/prometheus.yml").read_text() == "global: {}\n"
    assert stack_files.laid_out(workspace) == folder

    (folder / "docker-compose.yml").write_text("name: mine\n")
    assert stack_files.lay_out(workspace) == folder
    assert (folder / "docker-compose.yml").read_text() == "name: mine\n"


def test_containers_can_read_what_is_laid_out(packaged: Path, tmp_path: Path) -> None:
    """Even where the user's new files are for the user alone."""
    before = os.umask(0o077)
    try:
        folder = stack_files.lay_out(Workspace(tmp_path / ".otel-agents"))
    finally:
        os.umask(before)

    modes = {stat.S_IMODE(path.stat().st_mode) for path in (folder / "deploy").rglob("*")}
    assert modes == {0o755, 0o644}


def test_another_version_lays_them_out_anew_but_for_the_users_own(
    packaged: Path, tmp_path: Path
) -> None:
    """Settings and overrides stay; files that are no more go, lest they be mounted."""
    workspace = Workspace(tmp_path / ".otel-agents")
    folder = stack_files.lay_out(workspace)
    (folder / ".env").write_text("COMPOSE_PROFILES=core\n")
    (folder / "docker-compose.override.yml").write_text("services: {}\n")
    (folder / "docker-compose.yml").write_text("name: old\n")
    (folder / "deploy/prometheus/old.yml").write_text("")
    (folder / ".version").write_text("0.0.1")

    stack_files.lay_out(workspace)

    assert (folder / ".env").read_text() == "COMPOSE_PROFILES=core\n"
    assert (folder / "docker-compose.override.yml").exists()
    assert (folder / "docker-compose.yml").read_text() == "name: x\n"
    assert not (folder / "deploy/prometheus/old.yml").exists()
    assert (folder / ".version").read_text() == __version__


# --- secrets


def test_secrets_are_made_once(tmp_path: Path) -> None:
    """Each different, long, and the same at the next start; copies are where others read them."""
    assert stack_secrets.make(tmp_path) == list(stack_secrets.PLACES)
    first = {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}

    assert stack_secrets.make(tmp_path) == []
    assert {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()} == first
    assert {str(path.relative_to(tmp_path)) for path in first} == {
        f"{place}/{name}" for name, places in stack_secrets.PLACES.items() for place in places
    }
    assert len(set(first.values())) == len(stack_secrets.PLACES)
    assert min(map(len, first.values())) >= 43


def test_secrets_can_be_read_by_other_users_and_written_by_none(tmp_path: Path) -> None:
    """The services that mount them run under users of their own."""
    stack_secrets.make(tmp_path)

    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*") if path.is_file()}

    assert modes == {0o444}


def test_a_copy_that_is_gone_or_old_is_made_anew(tmp_path: Path) -> None:
    """The original counts: sender and receiver always have the same token."""
    stack_secrets.make(tmp_path)
    original = stack_secrets.read(tmp_path, "ingest_token")
    (tmp_path / "ingest/ingest_token").unlink()
    (tmp_path / "view/viewer_token").unlink()
    (tmp_path / "view/viewer_token").write_text("old")

    assert stack_secrets.make(tmp_path) == []

    assert (tmp_path / "ingest/ingest_token").read_text() == original
    assert (tmp_path / "view/viewer_token").read_text() == stack_secrets.read(
        tmp_path, "viewer_token"
    )


def test_a_secret_of_the_users_own_is_kept(tmp_path: Path) -> None:
    """An empty file is none: a start that was cut short leaves no empty password."""
    (tmp_path / "grafana").mkdir()
    (tmp_path / "grafana/grafana_password").write_text("mine\n")
    (tmp_path / "admin").mkdir()
    (tmp_path / "admin/token").write_text("")

    assert stack_secrets.make(tmp_path) == ["token", "ingest_token", "viewer_token"]
    assert stack_secrets.read(tmp_path, "grafana_password") == "mine"


def test_the_one_shot_service_says_what_it_made_and_no_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A secret is printed only when it is asked for."""
    assert stack_secrets.main([str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert said == "made: token, ingest_token, viewer_token, grafana_password\n"

    assert stack_secrets.main([str(tmp_path), "--print", "token"]) == 0
    assert capsys.readouterr().out == f"{(tmp_path / 'admin/token').read_text()}\n"


def test_a_folder_that_cannot_be_written_is_exit_code_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the folder in the sentence: the stack does not start without its secrets."""
    (tmp_path / "admin").write_text("a file in the way")

    assert stack_secrets.main([str(tmp_path)]) == 1
    assert str(tmp_path) in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["admin"]
