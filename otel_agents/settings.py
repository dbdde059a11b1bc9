"""The settings: one file, found upwards, and environment variables, which beat it.

Every instrumented start reads them, so this module is light and never raises: what is wrong with a
setting becomes a sentence in `Settings.problems`, and what is right is used.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import msgspec

from otel_agents import settings_file, settings_guards
from otel_agents.budget import Budget  # noqa: TC001 - fields of a struct
from otel_agents.errors import SettingsError
from otel_agents.settings_checks import CHECKS, SINK, is_amount
from otel_agents.settings_file import meant, near
from otel_agents.settings_guards import CheckpointSettings  # noqa: TC001 - the same
from otel_agents.values import REDACTED, SECRET_PATTERNS, redact
from otel_agents.workspace import Workspace, find

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from otel_agents.settings_checks import Check

PREFIX: Final = "OTEL_AGENTS_"
CAPTURE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
DISABLED: Final = "OTEL_SDK_DISABLED"

Semconv = Literal["compat", "latest"]
Capture = Literal["no_content", "span_only", "event_only", "span_and_event"]


class Setting(NamedTuple):
    """One setting: its field of `Settings`, variable, place in the file, default and meaning."""

    name: str
    variable: str
    key: str
    default: str
    meaning: str


_SECRET: Final = ("token", "ingest_token", "viewer_token")


def _own(name: str, default: str, meaning: str) -> Setting:
    return Setting(name, PREFIX + name.upper(), name, default, meaning)


SETTINGS: Final = (
    Setting(
        "file", PREFIX + "CONFIG", "", "the nearest otel-agents.toml upwards, else pyproject.toml",
        "The settings file. In a pyproject.toml all of it stands under [tool.otel-agents].",
    ),
    _own("home", "the nearest .otel-agents upwards", "The workspace directory itself."),
    _own(
        "sinks", "jsonl: and the store where there is a workspace, otlp: where logs are exported; "
        "with the first event of the program's own events: and console:events",
        "Where signals go, as URLs; a list, with commas in the variable; none for nowhere.",
    ),
    _own(
        "store", "sqlite, in the workspace",
        "The URL of the store. Beside a [store] table it is the table's key url.",
    ),
    _own("redis_url", "", "The Redis that the KPIs go to, whatever other sinks there are, as redis://HOST:PORT/DB."),
    _own("server", "", "The otel-agents server that commands ask, as http://HOST:PORT."),
    _own("jaeger", "", "Where the console links traces to, as http://HOST:16686."),
    _own("capture_stdout", "false", "true writes what agents print to their log files too."),
    _own(
        "semconv", "compat",
        "The generation of the GenAI conventions: compat for what back ends read, or latest.",
    ),
    _own(
        "spool", "off",
        "1 for spool/ in the workspace, or the directory of the spool. Beside a [spool] table it "
        "is the table's key path.",
    ),
    _own("token", "", "The bearer token of an admin."),
    _own("ingest_token", "", "The token that may only send telemetry."),
    _own("viewer_token", "", "The token that may only read."),
    *(
        Setting(name, f"{PREFIX}{name.upper()}_FILE", "", "", f"A file that holds {name} alone.")
        for name in _SECRET
    ),
    Setting("wraps", "", "[[wrap]]", "", "The functions of the program that are scopes."),
    Setting("wraps", "", "[[wrap]] target", "", "module:qualified.name of a callable. Required."),
    Setting("wraps", "", "[[wrap]] scope", "", "The kind of scope: run, phase, agent… Required."),
    Setting(
        "wraps", "", "[[wrap]] name", "the name of the function",
        "A template of the scope's name. It labels metrics, so it must not hold an id.",
    ),
    Setting("wraps", "", "[[wrap]] fields", "", "Templates of the fields of the scope's kind."),
    Setting("wraps", "", "[[wrap]] attributes", "", "Templates of attributes under your own keys."),
    Setting(
        "prices", "", '[prices."MODEL"]', "the table of genai-prices",
        "USD per million tokens: input, cache_read, cache_write, output.",
    ),
    Setting("redact_names", "", "[redact] names", "", "More keys whose values are hidden."),
    Setting(
        "redact_patterns", "", "[redact] patterns", "",
        "More regular expressions of what is hidden wherever it stands.",
    ),
    Setting(
        "capture", CAPTURE, "", "no_content",
        "Message content on spans, events, both or neither: "
        "no_content, span_only, event_only, span_and_event.",
    ),
    Setting("disabled", DISABLED, "", "false", "true switches all telemetry off."),
    *(Setting("budgets", *of) for of in settings_guards.BUDGET_SETTINGS),
    *(Setting("checkpoint", *of) for of in settings_guards.CHECKPOINT_SETTINGS),
    *(Setting("spool_bytes", *of) for of in settings_guards.SPOOL_SETTINGS),
    Setting("retention", "", "[store]", "", "How long and how much the store keeps."),
)  # fmt: skip

# Settings that may be a table too: the key of the table that has what is meant.
_KEY_IN_TABLE: Final = {"store": "url", "spool": "path"}
_RATES: Final = ("input", "cache_read", "cache_write", "output")
_WRAP_KEYS: Final = ("target", "scope", "name", "fields", "attributes")
_LOGIN: Final = re.compile(r"(?<=://)[^/\s@'\"]*(?=@)")

_CAPTURES: Final[tuple[Capture, ...]] = (
    "no_content", "span_only", "event_only", "span_and_event",
)  # fmt: skip

Plain = str | int | float | bool


class Wrap(msgspec.Struct, frozen=True, kw_only=True):
    """One `[[wrap]]` table. `place` names it in messages; templates are as written."""

    target: str
    scope: str
    name: str | None = None
    fields: dict[str, Plain] = {}
    attributes: dict[str, Plain] = {}
    place: str = ""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings in force. `SETTINGS` says what each is; None stands for the default.

    `file` is the path of the file that was read. Paths are absolute: those of the file go from its
    directory, those of the environment from the working directory. `spool` is `1` or a path.
    `checkpoint` is None where there is no such table; `retention` is the table [store] as it is.
    """

    file: str | None = None
    home: str | None = None
    sinks: tuple[str, ...] | None = None
    store: str | None = None
    redis_url: str | None = None
    server: str | None = None
    jaeger: str | None = None
    capture_stdout: bool = False
    semconv: Semconv = "compat"
    spool: str | None = None
    token: str | None = None
    ingest_token: str | None = None
    viewer_token: str | None = None
    wraps: tuple[Wrap, ...] = ()
    prices: dict[str, dict[str, float]] = {}
    redact_names: tuple[str, ...] = ()
    redact_patterns: tuple[str, ...] = ()
    capture: Capture = "no_content"
    disabled: bool = False
    budgets: tuple[Budget, ...] = ()
    checkpoint: CheckpointSettings | None = None
    spool_bytes: int = settings_guards.SPOOL_BYTES
    retention: dict[str, Any] = {}
    problems: tuple[str, ...] = ()

    def __repr__(self) -> str:
        shown = []
        for field in self.__struct_fields__:
            value = getattr(self, field)
            text = repr(REDACTED if value is not None and field in _SECRET else value)
            shown.append(f"{field}={_LOGIN.sub(REDACTED, text)}")
        return redact("", f"Settings({', '.join(shown)})")  # type: ignore[no-any-return]


def load(environ: Mapping[str, str], cwd: Path) -> Settings:
    """Return the settings of an environment and a working directory. It never raises."""
    problems: list[str] = []
    try:
        return _Loader(environ, cwd, problems).settings()
    except Exception as error:  # noqa: BLE001 - the program runs on, whatever the settings are
        problems.append(f"The settings cannot be read: {type(error).__name__}: {error}.")
        return Settings(problems=tuple(problems))


class _Loader:
    """One reading of the settings: where each value is given, and what is wrong with it."""

    def __init__(self, environ: Mapping[str, str], cwd: Path, problems: list[str]) -> None:
        self.environ = environ
        self.cwd = cwd
        self.problems = problems
        named = environ.get(PREFIX + "CONFIG", "").strip()
        self.file = settings_file.find(named, cwd, self._say)
        self.table = self.file.table
        self._at = self.file.at

    def settings(self) -> Settings:
        """Return what is right, with a sentence on each thing that is wrong."""
        self._complain_of_unknown()
        given: dict[str, Any] = {name: self._first(name, check) for name, check in CHECKS.items()}
        given["sinks"] = self._sinks(given["sinks"])
        stored = self.table.get("store")
        redacted = self._table("redact", ("names", "patterns"))
        return Settings(
            file=None if self.file.path is None else str(self.file.path),
            **{name: value for name, value in given.items() if value is not None},
            wraps=tuple(self._wraps()),
            prices=self._prices(),
            redact_names=tuple(self._texts("redact", "names", redacted)),
            redact_patterns=tuple(self._patterns(redacted)),
            capture=self._capture(),
            disabled=self._disabled(),
            budgets=tuple(settings_guards.budgets(self.file, self._say)),
            checkpoint=settings_guards.checkpoint(self.file, self._say),
            spool_bytes=settings_guards.spool_bytes(self.file, self._say),
            retention=stored if isinstance(stored, dict) else {},
            problems=tuple(self.problems),
        )

    def _complain_of_unknown(self) -> None:
        known = {*CHECKS, "wrap", "prices", "redact", "budget", "checkpoint"}
        for key in self.table:
            if key not in known:
                self._say(self._at(key), f"there is no such setting{meant(key, known)}")
        ours = {one.variable.removeprefix(PREFIX) for one in SETTINGS if one.variable}
        for variable in self.environ:
            name = variable.removeprefix(PREFIX)
            # Only what looks like a slip: others may have variables of this prefix too.
            if name != variable and name not in ours and (close := near(name, ours)):
                self._say(variable, f'there is no such variable; did you mean "{PREFIX}{close}"?')

    def _say(self, place: str, what: str) -> None:
        sentence = f"{place}: {what}" + ("" if what.endswith("?") else ".")
        # A key may hold anything, and the sentence goes to a terminal or a log.
        self.problems.append("".join(one if one.isprintable() else "?" for one in sentence))

    # ------------------------------------------------------------------ single values

    def _given(self, name: str) -> Iterable[tuple[str, Any, Path]]:
        """Yield where a setting is given, its value there, and what a path there starts from."""
        variable = PREFIX + name.upper()
        text = self.environ.get(variable, "").strip()
        if text:
            yield variable, text, self.cwd
        elif name in _SECRET:
            found = settings_file.secret(self.environ, f"{variable}_FILE", self.cwd, self._say)
            if found:
                yield f"{variable}_FILE", found, self.cwd
        value = self.table.get(name)
        key = _KEY_IN_TABLE.get(name)
        if key is not None and isinstance(value, dict):
            if key in value and self.file.path is not None:
                yield self._at(key, name), value[key], self.file.path.parent
        elif value is not None and self.file.path is not None:
            yield self._at(name), value, self.file.path.parent

    def _first(self, name: str, check: Check) -> Any:
        """Return the first value given for a setting that can be used, or None."""
        for place, value, directory in self._given(name):
            try:
                return check(value, directory)
            except ValueError as error:
                self._say(place, f"{error}; it is left out")
        return None

    def _sinks(self, urls: tuple[str, ...] | None) -> tuple[str, ...] | None:
        """Return the sinks that are URLs; `none` alone stands for no sinks at all."""
        if not urls or urls == ("none",):
            return None if urls is None else ()
        wrong = [url for url in urls if not SINK.match(url)]
        for url in wrong:
            self._say("sinks", f'"{url}" is no URL and is left out; write it as "{url}:"')
        return tuple(url for url in urls if url not in wrong) or None

    def _capture(self) -> Capture:
        text = self.environ.get(CAPTURE, "").strip()
        for known in _CAPTURES:
            if text.lower() in {known, ""}:
                return known
        self._say(CAPTURE, f"{text!r} is none of {', '.join(_CAPTURES)}; no content is captured")
        return "no_content"

    def _disabled(self) -> bool:
        text = self.environ.get(DISABLED, "").strip().lower()
        if text not in {"", "true", "false"}:
            self._say(DISABLED, f"{text!r} is neither true nor false, and counts as false")
        return text == "true"

    # ------------------------------------------------------------------ tables

    def _table(self, name: str, known: tuple[str, ...]) -> dict[str, Any]:
        """Return a table of the file with its known keys."""
        table = self.table.get(name, {})
        if not isinstance(table, dict):
            self._say(self._at(name), f"it must be a table; write [{self.file.prefix}{name}]")
            return {}
        for key in table:
            if key not in known:
                self._say(self._at(key, name), f"there is no such key{meant(key, known)}")
        return table

    def _texts(self, table: str, key: str, values: dict[str, Any]) -> list[str]:
        given = values.get(key, [])
        if not isinstance(given, list):
            self._say(self._at(key, table), "it must be a list of texts; it is left out")
            return []
        wrong = [value for value in given if not isinstance(value, str) or not value]
        if wrong:
            self._say(self._at(key, table), f"{wrong[0]!r} is no text and is left out")
        return [value for value in given if isinstance(value, str) and value]

    def _patterns(self, redacted: dict[str, Any]) -> list[str]:
        """Return the patterns that can be joined to our own, as the redactor does."""
        kept: list[str] = []
        for pattern in self._texts("redact", "patterns", redacted):
            try:
                alone = re.compile(pattern)
                re.compile("|".join((*SECRET_PATTERNS, *kept, pattern)))
            except (re.error, RecursionError, OverflowError) as error:
                hint = "; write flags as (?i:…)" if "global flags" in str(error) else ""
                what = f"{pattern!r} is no regular expression and is left out: {error}{hint}"
                self._say(self._at("patterns", "redact"), what)
                continue
            if alone.search("") is not None:
                what = f"{pattern!r} matches where nothing stands, and is left out"
                self._say(self._at("patterns", "redact"), what)
                continue
            kept.append(pattern)
        return kept

    def _prices(self) -> dict[str, dict[str, float]]:
        found: dict[str, dict[str, float]] = {}
        models = self.table.get("prices", {})
        if not isinstance(models, dict):
            self._say(self._at("prices"), 'it must be tables; write [prices."MODEL"]')
            return {}
        for model, rates in models.items():
            at = f'prices."{model}"'
            if not isinstance(rates, dict):
                self._say(self._at("", at), "it must be a table of rates, as { input = 1.0 }")
                continue
            kept: dict[str, float] = {}
            for rate, amount in rates.items():
                if isinstance(amount, dict):
                    quoted = f'"{model}.{rate}"'
                    self._say(self._at("", at), f"quote the whole name of the model, as {quoted}")
                elif rate not in _RATES:
                    self._say(self._at(rate, at), f"there is no such rate{meant(rate, _RATES)}")
                elif not is_amount(amount):
                    what = f"{amount!r} is no amount of USD per million tokens, and is left out"
                    self._say(self._at(rate, at), what)
                else:
                    kept[rate] = float(amount)
            if kept:
                found[model] = kept
        return found

    def _wraps(self) -> Iterable[Wrap]:
        tables = self.table.get("wrap", [])
        if isinstance(tables, dict):
            self._say(self._at("", "wrap"), f"write it with two brackets, as {self._header()}")
            tables = [tables]
        if not isinstance(tables, list):
            self._say(self._at("wrap"), f"it must be tables; write {self._header()}")
            return
        for number, table in enumerate(tables, 1):
            place = self._at(str(number), "wrap", array=True)
            if not isinstance(table, dict):
                self._say(place, f"it must be a table; write {self._header()}")
                continue
            wrap = self._wrap(place, table)
            if wrap is not None:
                yield wrap

    def _header(self) -> str:
        return f"[[{self.file.prefix}wrap]]"

    def _wrap(self, place: str, table: dict[str, Any]) -> Wrap | None:
        for key in table:
            if key not in _WRAP_KEYS:
                self._say(place, f'there is no key "{key}"{meant(key, _WRAP_KEYS)}')
        texts: dict[str, str] = {}
        for key in ("target", "scope", "name"):
            value = table.get(key)
            if isinstance(value, str) and value.strip():
                texts[key] = value.strip()
            elif value is not None:
                self._say(place, f"{key} must be a text, not {value!r}")
            elif key != "name":
                example = '"shop.pipeline:Pipeline.run"' if key == "target" else '"run"'
                self._say(place, f"it needs a {key}, as {key} = {example}; it is left out")
        if "target" not in texts or "scope" not in texts:
            return None
        return Wrap(
            **texts,
            fields=self._templates(place, "fields", table),
            attributes=self._templates(place, "attributes", table),
            place=place,
        )

    def _templates(self, place: str, key: str, table: dict[str, Any]) -> dict[str, Plain]:
        given = table.get(key, {})
        if not isinstance(given, dict):
            self._say(place, f'{key} must be a table, as {key} = {{ NAME = "TEMPLATE" }}')
            return {}
        kept: dict[str, Plain] = {}
        for name, value in given.items():
            if isinstance(value, str | int | float | bool):
                kept[name] = value
            elif isinstance(value, dict):
                # `attributes.shop.order = …` without quotes is a table in a table.
                self._say(place, f'{key} {name}: quote a name with dots, as "{name}.…"')
            else:
                self._say(place, f"{key} {name}: it must be a text, a number or a boolean")
        return kept


def workspace_of(settings: Settings) -> Workspace | None:
    """Return the workspace in force: the one that `home` names, else the nearest upwards."""
    return Workspace(Path(settings.home)) if settings.home else find()


def spool_path(settings: Settings) -> Path:
    """Return the directory of the spool.

    Raises:
        SettingsError: It is to be in the workspace, and there is none; or it is switched off.

    """
    if settings.spool is None:
        message = "the spool is off: set OTEL_AGENTS_SPOOL to 1, or to a directory"
        raise SettingsError(message)
    if settings.spool != "1":
        return Path(settings.spool)
    home = workspace_of(settings)
    if home is None or not home.path.is_dir():
        message = "there is no workspace: run `otel-agents init`, or name a directory for the spool"
        raise SettingsError(message)
    return home.spool
