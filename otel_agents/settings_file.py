"""The settings file and files of secrets: where, what is in them, and how messages speak of it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

FILE: Final = "otel-agents.toml"
PROJECT_FILE: Final = "pyproject.toml"
TABLE: Final = "otel-agents"
_MOST_BYTES: Final = 1 << 20  # a log or a device that is named by mistake is not read
_LONGEST_SECRET: Final = 8192  # characters


class SettingsFile(NamedTuple):
    """What was read: the path, or None without a file, and our table of it.

    `prefix` is what the names of tables begin with, `tool.otel-agents.` in a pyproject.toml.
    """

    path: Path | None = None
    table: dict[str, Any] = {}  # noqa: RUF012 - read and never changed
    prefix: str = ""

    def at(self, key: str = "", table: str = "", *, array: bool = False) -> str:
        """Return how messages name a place, as `otel-agents.toml: [redact] names`."""
        file = "" if self.path is None else f"{self.path.name}:"
        header = (self.prefix + table).rstrip(".")
        if header:
            header = f"[[{header}]]" if array else f"[{header}]"
        return " ".join(part for part in (file, header, key) if part)


def find(named: str, cwd: Path, say: Callable[[str, str], None]) -> SettingsFile:
    """Return the settings file in force.

    Args:
        named: The path of the file where the user names it, relative to `cwd`, or "".
        cwd: The directory to look upwards from, for an otel-agents.toml first, then for the
            nearest pyproject.toml, which counts where it has our table.
        say: Takes what is wrong: a place, and a sentence without its full stop.

    """
    try:
        here = cwd.absolute()
    except OSError:  # the working directory was removed
        return SettingsFile()
    if named:
        path = here / os.path.expanduser(named)  # noqa: PTH111 - `Path.expanduser` can raise
        if path.is_file():
            return _read(path, say, must=True)
        say(str(path), "the settings file is not there; no other is read")
        return SettingsFile()
    for name in (FILE, PROJECT_FILE):
        for directory in (here, *here.parents):
            if _is_ours(directory / name, say):
                return _read(directory / name, say, must=name == FILE)
    return SettingsFile()


def _is_ours(path: Path, say: Callable[[str, str], None]) -> bool:
    """Say whether a file is there, and was not put there by somebody else.

    In a directory open to all, as /tmp, another user's file could send signals anywhere.
    """
    if not os.path.isfile(path):  # noqa: PTH113 - `Path.is_file` raises where it may not look
        return False
    if not hasattr(os, "getuid"):
        return True
    try:
        open_to_all = path.parent.stat().st_mode & stat.S_IWOTH
        foreign = path.lstat().st_uid not in {os.getuid(), 0}
    except OSError:
        return False
    if open_to_all and foreign:
        say(str(path), "it is another user's, in a directory open to all, and is not read")
        return False
    return True


def _read(path: Path, say: Callable[[str, str], None], *, must: bool) -> SettingsFile:
    """Read a file. Unless it must be about us, one that does not mention us is none."""
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        say(str(path), f"it cannot be read: {error.strerror}")
        return SettingsFile()
    if not must and TABLE.encode() not in data:
        return SettingsFile()
    if len(data) > _MOST_BYTES:
        say(str(path), f"it is longer than {_MOST_BYTES} bytes and is not read")
        return SettingsFile()
    import tomllib

    try:
        table: Any = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        say(path.name, f"it is no TOML and nothing of it is used: {error}")
        return SettingsFile(path)
    if path.name != PROJECT_FILE:
        return SettingsFile(path, table)
    tool = table.get("tool")
    table = tool.get(TABLE) if isinstance(tool, dict) else None
    if isinstance(table, dict):
        return SettingsFile(path, table, f"tool.{TABLE}.")
    if table is None and not must:
        return SettingsFile()
    say(path.name, f"it has no table [tool.{TABLE}]")
    return SettingsFile(path)


def secret(
    environ: Mapping[str, str], variable: str, cwd: Path, say: Callable[[str, str], None]
) -> str:
    """Return what the file that a variable names holds, without the line ends after it.

    "" where the variable names none, or one that cannot be used; messages never tell what a file
    holds.

    Args:
        environ: The environment.
        variable: The variable that names the file, relative to `cwd`.
        cwd: The working directory.
        say: Takes what is wrong: a place, and a sentence without its full stop.

    """
    named = environ.get(variable, "").strip()
    if not named:
        return ""
    try:
        with (cwd / Path(named).expanduser()).open("rb") as file:
            text = file.read(_LONGEST_SECRET + 1).decode().rstrip("\r\n")
    except UnicodeDecodeError:
        say(variable, f"the file {named} holds no text")
        return ""
    except (OSError, RuntimeError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        say(variable, f"the file {named} cannot be read: {why}")
        return ""
    if not text or len(text) > _LONGEST_SECRET:
        say(variable, f"the file {named} is {'too long' if text else 'empty'}")
        return ""
    return text


def near(word: str, known: Iterable[str]) -> str:
    """Return the known word that an unknown one is a slip of, or ""."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, list(known), 1, 0.75)), "")


def meant(word: str, known: Iterable[str]) -> str:
    """Return the end of a sentence on an unknown word: the one that was meant, or all."""
    close = near(word, known)
    return f'; did you mean "{close}"?' if close else f"; known are {', '.join(sorted(known))}"
