"""The tables of budgets, checkpoints and the spool: what is right, and a sentence on the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from otel_agents.budget import SCOPES, WARN_AT, Budget
from otel_agents.settings_checks import is_amount
from otel_agents.settings_file import meant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from otel_agents.settings_file import SettingsFile

    Say = Callable[[str, str], None]

WRITE_TOOLS: Final = (
    "write_*", "edit_*", "create_*", "delete_*", "remove_*", "move_*", "rename_*", "apply_*",
)  # fmt: skip

# Of each setting: its variable, its place in the file, its default and what it means.
BUDGET_SETTINGS: Final = (
    ("", "[[budget]]", "", "A limit of money, tokens or time."),
    ("", "[[budget]] scope", "run", f"What it holds for: {', '.join(SCOPES)}."),
    ("", "[[budget]] name", "any", "The name of the phases, agents, tasks or workflows it is for."),
    ("", "[[budget]] usd", "", "USD that may be spent."),
    ("", "[[budget]] tokens", "", "Tokens that may be used, input and output."),
    ("", "[[budget]] seconds", "", "Seconds it may take, waits for a human left out."),
    ("", "[[budget]] warn_at", str(WARN_AT), "The share of a limit that is warned at."),
    ("", "[[budget]] enforce", "false", "true refuses model calls beyond a limit."),
)  # fmt: skip
CHECKPOINT_SETTINGS: Final = (
    ("", "[checkpoint]", "", "What is saved of the working tree, and when."),
    (
        "", "[checkpoint] auto", "false",
        "true saves it before each phase, agent and task, and before a tool that writes.",
    ),
    (
        "", "[checkpoint] write_tools", " ".join(WRITE_TOOLS),
        "Patterns of the names of tools that write files.",
    ),
    ("", "[checkpoint] max_bytes", "268435456", "A tree with more in it is not saved."),
    ("", "[checkpoint] max_seconds", "30", "A checkpoint that takes longer is given up."),
    ("", "[checkpoint] keep", "100", "How many checkpoints are kept; the oldest go first."),
    ("", "[checkpoint] keep_days", "14", "How many days they are kept."),
    (
        "", "[checkpoint] allow_restore", "false",
        "true carries out /restore ID where an agent of pydantic-ai says so.",
    ),
    ("", "[checkpoint] max_restores", "3", "How often one run may do that."),
)  # fmt: skip

SPOOL_BYTES: Final = 512 << 20
SPOOL_SETTINGS: Final = (
    (
        "", "[spool] max_bytes", str(SPOOL_BYTES),
        "The size of the spool; beyond it the oldest is dropped, runs and scopes last.",
    ),
)  # fmt: skip


class CheckpointSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The table `[checkpoint]`; `CHECKPOINT_SETTINGS` says what each means."""

    auto: bool = False
    write_tools: tuple[str, ...] = WRITE_TOOLS
    max_bytes: int = 256 * 1024 * 1024
    max_seconds: float = 30.0
    keep: int = 100
    keep_days: float = 14.0
    allow_restore: bool = False
    max_restores: int = 3


def budgets(file: SettingsFile, say: Say) -> Iterable[Budget]:
    """Yield the budgets of a settings file that can be used."""
    tables = file.table.get("budget", [])
    header = f"[[{file.prefix}budget]]"
    if not isinstance(tables, list):
        say(file.at("", "budget"), f"write it with two brackets, as {header}")
        tables = [tables]
    for number, table in enumerate(tables, 1):
        place = file.at(str(number), "budget", array=True)
        if not isinstance(table, dict):
            say(place, f"it must be a table; write {header}")
            continue
        found = _budget(place, table, say)
        if found is not None:
            yield found


def _budget(place: str, table: dict[str, Any], say: Say) -> Budget | None:
    known = Budget.__struct_fields__
    for key in table:
        if key not in known:
            say(place, f'there is no key "{key}"{meant(key, known)}')
    scope = table.get("scope", "run")
    if scope not in SCOPES:
        say(place, f"scope {scope!r} is none of {', '.join(SCOPES)}; the budget is left out")
        return None
    name = table.get("name")
    if name is not None and (not isinstance(name, str) or not name.strip()):
        say(place, f"name must be a text, not {name!r}; the budget is left out")
        return None
    limits: dict[str, Any] = {}
    for unit in ("usd", "tokens", "seconds"):
        value = table.get(unit)
        if value is None:
            continue
        if not is_amount(value) or not value or (unit == "tokens" and value != int(value)):
            say(place, f"{unit} must be a number above 0, not {value!r}")
        else:
            limits[unit] = int(value) if unit == "tokens" else float(value)
    if not limits:
        say(place, "it needs a limit: usd, tokens or seconds, as usd = 5.0; it is left out")
        return None
    warn_at = table.get("warn_at", WARN_AT)
    if not is_amount(warn_at) or not 0 < warn_at <= 1:
        say(place, f"warn_at must be a share above 0 and up to 1, not {warn_at!r}; it is {WARN_AT}")
        warn_at = WARN_AT
    enforce = table.get("enforce", False)
    if not isinstance(enforce, bool):
        say(place, f"enforce must be true or false, not {enforce!r}; it is false")
        enforce = False
    return Budget(scope=scope, name=name, warn_at=float(warn_at), enforce=enforce, **limits)


def checkpoint(file: SettingsFile, say: Say) -> CheckpointSettings | None:
    """Return the table `[checkpoint]`, or None where there is none."""
    table = file.table.get("checkpoint")
    if table is None:
        return None
    if not isinstance(table, dict):
        say(file.at("checkpoint"), f"it must be a table; write [{file.prefix}checkpoint]")
        return None
    kept: dict[str, Any] = {}
    known = CheckpointSettings.__struct_fields__
    for key, value in table.items():
        place = file.at(key, "checkpoint")
        if key not in known:
            say(place, f"there is no such key{meant(key, known)}")
            continue
        default = getattr(CheckpointSettings(), key)
        if isinstance(default, bool):
            wanted, fits = "true or false", isinstance(value, bool)
        elif isinstance(default, tuple):
            wanted, fits = "a list of patterns", _are_texts(value)
        elif isinstance(default, int):
            wanted, fits = "a whole number above 0", _is_count(value)
        else:
            wanted, fits = "a number above 0", is_amount(value) and value > 0
        if fits:
            kept[key] = type(default)(value)
        else:
            say(place, f"it must be {wanted}, not {value!r}; it is left out")
    return CheckpointSettings(**kept)


def spool_bytes(file: SettingsFile, say: Say) -> int:
    """Return how large the spool may be, in bytes."""
    table = file.table.get("spool")
    if not isinstance(table, dict):
        return SPOOL_BYTES
    for key in table:
        if key not in {"path", "max_bytes"}:
            say(file.at(key, "spool"), f"there is no such key{meant(key, ('path', 'max_bytes'))}")
    value = table.get("max_bytes", SPOOL_BYTES)
    if _is_count(value):
        return int(value)
    place = file.at("max_bytes", "spool")
    say(place, f"it must be a whole number above 0, not {value!r}; it is {SPOOL_BYTES}")
    return SPOOL_BYTES


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) and one for one in value)
