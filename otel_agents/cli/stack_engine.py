"""Docker and its Compose, asked as a user would: what is missing, what runs, what it printed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

from otel_agents.errors import UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

_ANSWER_SECONDS: Final = 30.0  # an engine far away that is not there would be waited for forever
ALL_PROFILES: Final = "full"
# Of Docker Engine 25, the first that knows the `start_interval` of a health check.
_LEAST_API: Final = (1, 44)


def need_compose() -> None:
    """Say what is missing to read the stack's files.

    Raises:
        UnavailableError: There is no Docker, or it has no Compose.

    """
    if shutil.which("docker") is None:
        message = (
            "There is no `docker` on the PATH: install a container engine with Compose, or start "
            "the stack without one, as deploy/README.md of the sources says."
        )
        raise UnavailableError(message)
    if not _answers("compose", "version"):
        message = "`docker compose version` fails: install Docker's Compose plugin."
        raise UnavailableError(message)


def need_engine() -> None:
    """Say what is missing to run the stack.

    Raises:
        UnavailableError: There is no Docker, its engine does not answer or is too old, or it has no
            Compose.

    """
    if shutil.which("docker") is not None and not _answers(
        "info", "--format", "{{.ServerVersion}}"
    ):
        message = (
            "The container engine does not answer `docker info`: start it, and see that this user "
            "may use it."
        )
        raise UnavailableError(message)
    need_compose()
    api = re.fullmatch(r"(\d+)\.(\d+)", _said("version", "--format", "{{.Server.APIVersion}}"))
    if api is not None and (int(api[1]), int(api[2])) < _LEAST_API:
        message = (
            f"The container engine is too old, with API {api[0]}: the stack needs Docker Engine 25 "
            f"(API {_LEAST_API[0]}.{_LEAST_API[1]}) or later."
        )
        raise UnavailableError(message)


class Compose:
    """Compose with the files of the stack in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def run(self, *arguments: str, profile: str | None = None) -> None:
        """Run a command to its end; what it says goes to standard error.

        Args:
            arguments: The command of Compose and its options.
            profile: The profile instead of that of the settings.

        Raises:
            UnavailableError: It fails.

        """
        sys.stdout.flush()
        done = subprocess.run(  # noqa: S603 - docker, with the user's rights
            self._line(arguments, profile), env=_environment(), stdout=sys.stderr, check=False
        )
        if done.returncode:
            message = (
                f"`docker compose {arguments[0]}` ended with code {done.returncode}: see above."
            )
            raise UnavailableError(message)

    def ask(self, *arguments: str, profile: str | None = None) -> str:
        """Return what a command prints; arguments as of `run`.

        Raises:
            UnavailableError: It fails; the message has the last line of what it says.

        """
        done = subprocess.run(  # noqa: S603 - docker, with the user's rights
            self._line(arguments, profile), env=_environment(),
            capture_output=True, text=True, encoding="utf-8", errors="replace", check=False,
        )  # fmt: skip
        if done.returncode:
            said = done.stderr.strip().rpartition("\n")[2]
            message = f"`docker compose {arguments[0]}` ended with code {done.returncode}: {said}"
            raise UnavailableError(message)
        return done.stdout

    def resolved(self, profile: str | None = None) -> dict[str, Any]:
        """Return the configuration with all that is set put in; no engine is asked."""
        found: dict[str, Any] = json.loads(self.ask("config", "--format", "json", profile=profile))
        return found

    def containers(self) -> list[dict[str, Any]]:
        """Return the containers of the stack, ended ones too, as Compose describes them."""
        text = self.ask("ps", "--all", "--format", "json", profile=ALL_PROFILES).strip()
        if text.startswith("["):  # Compose before 2.21
            found: list[dict[str, Any]] = json.loads(text)
            return found
        return [json.loads(line) for line in text.splitlines()]

    def _line(self, arguments: tuple[str, ...], profile: str | None) -> list[str]:
        # Not --file: it would leave an override beside the file out.
        where = ["--project-directory", str(self._folder)]
        chosen = ["--profile", profile] if profile else []
        return ["docker", "compose", *where, *chosen, *arguments]


def _environment() -> dict[str, str]:
    """Return the environment for Compose: the file of another project is not meant."""
    return {name: value for name, value in os.environ.items() if name != "COMPOSE_FILE"}


def _answers(*arguments: str) -> bool:
    """Say whether a command of Docker's ends well, with an answer."""
    return bool(_said(*arguments))


def _said(*arguments: str) -> str:
    """Return what a command of Docker's prints, or nothing where it does not end well."""
    try:
        done = subprocess.run(  # noqa: S603 - docker, with the user's rights
            ["docker", *arguments],  # noqa: S607 - the one on the user's PATH
            stdin=subprocess.DEVNULL, capture_output=True, text=True, encoding="utf-8",
            errors="replace", timeout=_ANSWER_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return "" if done.returncode else done.stdout.strip()
