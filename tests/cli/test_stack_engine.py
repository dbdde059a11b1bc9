"""What an engine has to be to run the stack, with a program `docker` of the tests' own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from otel_agents.cli.stack_engine import need_engine
from otel_agents.errors import UnavailableError

if TYPE_CHECKING:
    from pathlib import Path


def _engine(folder: Path, api: str) -> None:
    """Put a `docker` there whose server speaks this version of the API."""
    program = folder / "docker"
    program.write_text(
        "#!/bin/sh\n"
        f'case "$1 $3" in "version {{{{.Server.APIVersion}}}}") echo "{api}";; *) echo 1.0;; esac\n'
    )
    program.chmod(0o755)


@pytest.mark.parametrize("api", ["1.41", "1.43", "0.99"])
def test_an_engine_without_start_interval_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api: str
) -> None:
    """Compose would refuse the health checks; Debian 12 has such an engine."""
    _engine(tmp_path, api)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(UnavailableError, match=rf"API {api}: .*Docker Engine 25 \(API 1\.44\)"):
        need_engine()


@pytest.mark.parametrize("api", ["1.44", "1.52", "2.0", "", "what nobody knows"])
def test_a_later_engine_and_one_that_says_nothing_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api: str
) -> None:
    """What is not known to be too old may try: Compose says what it lacks."""
    _engine(tmp_path, api)
    monkeypatch.setenv("PATH", str(tmp_path))

    need_engine()
