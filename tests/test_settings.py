"""Settings come from a file and the environment; what is wrong is said, what is right is used."""

# ruff: noqa: S105, S106 - the tokens are made up

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from otel_agents import settings_file
from otel_agents.settings import SETTINGS, Settings, Wrap, _Loader, load

CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


def written(directory: Path, text: str, name: str = "otel-agents.toml") -> Path:
    """Write a settings file and return its directory."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text(text, encoding="utf-8")
    return directory


def read(directory: Path, text: str, **environ: str) -> Settings:
    return load(environ, written(directory, text))


# ---------------------------------------------------------------------- where the file is


def test_nothing_given_is_the_defaults(tmp_path: Path) -> None:
    """Without a file and variables every setting has its default and nothing is wrong."""
    assert load({}, tmp_path) == Settings()


def test_the_nearest_file_upwards_counts(tmp_path: Path) -> None:
    """A file of a directory above is found, and one nearer goes before it."""
    written(tmp_path, 'semconv = "latest"')
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)

    assert load({}, below).file == str(tmp_path / "otel-agents.toml")
    assert load({}, below).semconv == "latest"

    written(tmp_path / "a", 'semconv = "compat"')
    assert load({}, below).semconv == "compat"


def test_an_own_file_goes_before_a_nearer_pyproject(tmp_path: Path) -> None:
    """A pyproject.toml counts only where no otel-agents.toml stands above."""
    written(tmp_path, 'server = "http://own:1"')
    below = written(
        tmp_path / "a", '[tool.otel-agents]\nserver = "http://project:1"', "pyproject.toml"
    )

    assert load({}, below).server == "http://own:1"


def test_a_pyproject_has_all_of_it_under_its_table(tmp_path: Path) -> None:
    """Settings and `[[wrap]]` tables of a pyproject.toml stand under [tool.otel-agents]."""
    written(
        tmp_path,
        """
        [tool.otel-agents]
        semconv = "latest"
        [[tool.otel-agents.wrap]]
        target = "shop:run"
        scope = "run"
        [tool.otel-agents.redact]
        names = [1]
        """,
        "pyproject.toml",
    )
    found = load({}, tmp_path)

    assert found.semconv == "latest"
    assert found.wraps[0].place == "pyproject.toml: [[tool.otel-agents.wrap]] 1"
    assert found.problems == (
        "pyproject.toml: [tool.otel-agents.redact] names: 1 is no text and is left out.",
    )


@pytest.mark.parametrize("text", ["[project]\nname = 'x'", "not TOML at all [", ""])
def test_a_pyproject_that_does_not_mention_us_is_not_read(tmp_path: Path, text: str) -> None:
    """A found pyproject.toml of others is neither used nor judged."""
    written(tmp_path, text, "pyproject.toml")

    assert load({}, tmp_path) == Settings()


def test_a_pyproject_that_names_us_without_a_table_is_no_settings_file(tmp_path: Path) -> None:
    """A dependency on otel-agents does not make a pyproject.toml a settings file."""
    written(tmp_path, "[project]\ndependencies = ['otel-agents']", "pyproject.toml")

    assert load({}, tmp_path) == Settings()


def test_the_named_file_is_the_only_one(tmp_path: Path) -> None:
    """OTEL_AGENTS_CONFIG names the file, from the working directory; a missing one is said."""
    written(tmp_path, 'semconv = "latest"')
    written(tmp_path / "etc", 'server = "http://x:1"', "agents.toml")
    found = load({"OTEL_AGENTS_CONFIG": "etc/agents.toml"}, tmp_path)

    assert (found.server, found.semconv) == ("http://x:1", "compat")
    assert found.file == str(tmp_path / "etc" / "agents.toml")

    gone = load({"OTEL_AGENTS_CONFIG": "gone.toml"}, tmp_path)
    assert gone.file is None
    assert gone.problems == (
        f"{tmp_path / 'gone.toml'}: the settings file is not there; no other is read.",
    )


def test_a_named_pyproject_needs_the_table(tmp_path: Path) -> None:
    """A pyproject.toml that is named on purpose and has no table of ours is a mistake."""
    written(tmp_path, "[project]\nname = 'x'", "pyproject.toml")
    found = load({"OTEL_AGENTS_CONFIG": "pyproject.toml"}, tmp_path)

    assert found.problems == ("pyproject.toml: it has no table [tool.otel-agents].",)


def test_a_foreign_file_in_a_directory_open_to_all_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user's file, as in /tmp, could send what we record anywhere."""
    shared = written(tmp_path / "shared", 'server = "http://evil:1"')
    shared.chmod(0o777)
    me = shared.lstat().st_uid
    os.chown(shared / "otel-agents.toml", me + 1 if os.getuid() == 0 else me, -1)
    monkeypatch.setattr(os, "getuid", lambda: me + 2)
    found = load({}, shared)

    assert found.server is None
    assert "another user's" in found.problems[0]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"semconv = ", "it is no TOML"),
        (b"\xff\xfe", "it is no TOML"),
        (b"a = " + b"[" * 30_000, "it is no TOML"),
        (b"#" * (1 << 20) + b"\n", "it is longer than"),
    ],
    ids=["torn", "no text", "too deep", "too long"],
)
def test_a_bad_file_costs_a_sentence(tmp_path: Path, data: bytes, said: str) -> None:
    """A file that cannot be used is named, and the environment counts all the same."""
    (tmp_path / "otel-agents.toml").write_bytes(data)
    found = load({"OTEL_AGENTS_SEMCONV": "latest"}, tmp_path)

    assert found.semconv == "latest"
    assert len(found.problems) == 1
    assert said in found.problems[0]


def test_a_named_directory_or_device_is_no_file(tmp_path: Path) -> None:
    """What is no regular file is not opened, since reading it could last for ever."""
    for name in (str(tmp_path), "/dev/zero"):
        found = load({"OTEL_AGENTS_CONFIG": name}, tmp_path)
        assert "is not there" in found.problems[0]


def test_a_working_directory_that_is_gone_has_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process whose directory was removed still has the settings of its environment."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert load({"OTEL_AGENTS_SEMCONV": "latest"}, Path()).semconv == "latest"


# ---------------------------------------------------------------------- single values


def test_the_environment_beats_the_file(tmp_path: Path) -> None:
    """Each setting that has both is taken from its variable."""
    found = read(
        tmp_path,
        """
        home = "file-home"
        sinks = ["jsonl:", "console:"]
        store = "sqlite:///file.db"
        redis_url = "redis://file"
        server = "http://file"
        semconv = "compat"
        spool = false
        token = "file-1"
        ingest_token = "file-2"
        viewer_token = "file-3"
        """,
        OTEL_AGENTS_HOME="/env-home",
        OTEL_AGENTS_SINKS="console:, jsonl:/tmp/x.jsonl",
        OTEL_AGENTS_STORE="postgresql+psycopg://env/db",
        OTEL_AGENTS_REDIS_URL="rediss://env",
        OTEL_AGENTS_SERVER="https://env",
        OTEL_AGENTS_SEMCONV="latest",
        OTEL_AGENTS_SPOOL="1",
        OTEL_AGENTS_TOKEN="env-1",
        OTEL_AGENTS_INGEST_TOKEN="env-2",
        OTEL_AGENTS_VIEWER_TOKEN="env-3",
    )

    assert found == Settings(
        file=str(tmp_path / "otel-agents.toml"),
        home="/env-home",
        sinks=("console:", "jsonl:/tmp/x.jsonl"),
        store="postgresql+psycopg://env/db",
        redis_url="rediss://env",
        server="https://env",
        semconv="latest",
        spool="1",
        token="env-1",
        ingest_token="env-2",
        viewer_token="env-3",
    )


def test_the_file_counts_where_a_variable_is_empty_or_wrong(tmp_path: Path) -> None:
    """An empty variable is no setting, and a wrong one is said and left out."""
    text = 'semconv = "latest"\nserver = "http://file"'
    found = read(tmp_path, text, OTEL_AGENTS_SEMCONV="newest", OTEL_AGENTS_SERVER=" ")

    assert (found.semconv, found.server) == ("latest", "http://file")
    assert found.problems == (
        "OTEL_AGENTS_SEMCONV: 'newest' is neither compat nor latest; it is left out.",
    )


def test_paths_go_from_where_they_are_written(tmp_path: Path) -> None:
    """A path of the file starts at the file, one of the environment at the working directory."""
    below = tmp_path / "below"
    below.mkdir()
    written(tmp_path, 'home = "ws"\nspool = "sp"')

    assert load({}, below).home == str(tmp_path / "ws")
    assert load({}, below).spool == str(tmp_path / "sp")
    assert load({"OTEL_AGENTS_SPOOL": "sp"}, below).spool == str(below / "sp")


@pytest.mark.parametrize(
    ("text", "spool"),
    [("true", "1"), ("1", "1"), ("'1'", "1"), ("false", None), ("0", None), ("'off'", None)],
)
def test_the_spool_is_a_switch_too(tmp_path: Path, text: str, spool: str | None) -> None:
    """1 means the workspace's own directory; off in the environment beats on in the file."""
    assert read(tmp_path, f"spool = {text}").spool == spool
    assert read(tmp_path, f"spool = {text}", OTEL_AGENTS_SPOOL="0").spool is None


def test_no_sinks_can_be_said(tmp_path: Path) -> None:
    """None for the default is not the same as no sinks at all."""
    assert load({}, tmp_path).sinks is None
    assert load({"OTEL_AGENTS_SINKS": "none"}, tmp_path).sinks == ()
    assert read(tmp_path, "sinks = []").sinks == ()


def test_one_bad_sink_leaves_the_others(tmp_path: Path) -> None:
    """What is no URL is said with what to write."""
    found = load({"OTEL_AGENTS_SINKS": "console,jsonl:"}, tmp_path)

    assert found.sinks == ("jsonl:",)
    assert found.problems == (
        'sinks: "console" is no URL and is left out; write it as "console:".',
    )


def test_the_store_is_a_url_or_a_table_with_one(tmp_path: Path) -> None:
    """`store` and `[store]` cannot both stand in one file, so the table has a key for the URL."""
    plain = read(tmp_path / "a", 'store = "sqlite:///x.db"')
    table = read(tmp_path / "b", '[store]\nurl = "postgresql://db/x"\nretain_days = 3')

    assert (plain.store, plain.retention) == ("sqlite:///x.db", {})
    assert table.store == "postgresql://db/x"
    assert table.retention == {"url": "postgresql://db/x", "retain_days": 3}


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_AGENTS_SERVER", "s3cret-host"),
        ("OTEL_AGENTS_REDIS_URL", "http://me:s3cret@host"),
        ("OTEL_AGENTS_STORE", "mysql://me:s3cret@host/x"),
        ("OTEL_AGENTS_TOKEN", "s3cret\nX-Header: 1"),
    ],
)
def test_a_wrong_secret_is_not_quoted(tmp_path: Path, variable: str, value: str) -> None:
    """The sentence on a value that may hold a secret does not repeat it."""
    problems = load({variable: value}, tmp_path).problems

    assert len(problems) == 1
    assert problems[0].startswith(f"{variable}: it must be ")
    assert "s3cret" not in problems[0]


@pytest.mark.parametrize("value", ["no_content", "span_only", "event_only", "span_and_event"])
def test_the_conventions_words_switch_capture(tmp_path: Path, value: str) -> None:
    """The four values of the conventions are taken in either case."""
    assert load({CAPTURE: value}, tmp_path).capture == value
    assert load({CAPTURE: value.upper()}, tmp_path).capture == value


@pytest.mark.parametrize("value", ["true", "1", "everything"])
def test_another_word_captures_nothing_and_is_said(tmp_path: Path, value: str) -> None:
    """`true` was right once; content is never sent by a guess."""
    found = load({CAPTURE: value}, tmp_path)

    assert found.capture == "no_content"
    assert found.problems[0].startswith(f"{CAPTURE}: {value!r} is none of no_content, span_only")


@pytest.mark.parametrize(
    ("value", "disabled", "wrong"),
    [("true", True, 0), ("TRUE", True, 0), ("false", False, 0), ("", False, 0), ("1", False, 1)],
)
def test_the_sdk_is_disabled_by_true_alone(
    tmp_path: Path, value: str, disabled: bool, wrong: int
) -> None:
    """OTEL_SDK_DISABLED is a boolean of the OpenTelemetry specification."""
    found = load({"OTEL_SDK_DISABLED": value}, tmp_path)

    assert found.disabled is disabled
    assert len(found.problems) == wrong


# ---------------------------------------------------------------------- tables


def test_a_wrap_is_read_with_its_place(tmp_path: Path) -> None:
    """Templates stay as they are written; numbers and booleans are themselves."""
    found = read(
        tmp_path,
        """
        [[wrap]]
        target = "shop.pipeline:Pipeline.run"
        scope = "run"
        name = "{self.name}"
        fields = { run_id = "{run_id}", max_iterations = 3 }
        attributes = { "shop.order" = "{order.id}", "shop.dry" = true }
        [[wrap]]
        target = "shop.pipeline:check"
        scope = "gate"
        """,
    )

    assert found.problems == ()
    assert found.wraps == (
        Wrap(
            target="shop.pipeline:Pipeline.run",
            scope="run",
            name="{self.name}",
            fields={"run_id": "{run_id}", "max_iterations": 3},
            attributes={"shop.order": "{order.id}", "shop.dry": True},
            place="otel-agents.toml: [[wrap]] 1",
        ),
        Wrap(target="shop.pipeline:check", scope="gate", place="otel-agents.toml: [[wrap]] 2"),
    )


def test_what_is_wrong_in_a_wrap_is_said_and_the_rest_used(tmp_path: Path) -> None:
    """A slip in a key, a value of no use and a table without a target each cost one sentence."""
    found = read(
        tmp_path,
        """
        [[wrap]]
        target = "a:b"
        scope = "run"
        nmae = "x"
        fields = { goal = "{x}", plan_id = [1] }
        attributes.shop.order = "{o}"
        [[wrap]]
        scope = "run"
        [[wrap]]
        target = "a:c"
        scope = "run"
        name = 3
        fields = "x"
        """,
    )
    at = "otel-agents.toml: [[wrap]]"

    assert found.problems == (
        f'{at} 1: there is no key "nmae"; did you mean "name"?',
        f"{at} 1: fields plan_id: it must be a text, a number or a boolean.",
        f'{at} 1: attributes shop: quote a name with dots, as "shop.…".',
        f'{at} 2: it needs a target, as target = "shop.pipeline:Pipeline.run"; it is left out.',
        f"{at} 3: name must be a text, not 3.",
        f'{at} 3: fields must be a table, as fields = {{ NAME = "TEMPLATE" }}.',
    )
    assert [wrap.target for wrap in found.wraps] == ["a:b", "a:c"]
    assert found.wraps[0].fields == {"goal": "{x}"}


def test_a_single_bracket_wrap_is_meant(tmp_path: Path) -> None:
    """[wrap] is one table; it is used, and the sentence says how to write more."""
    found = read(tmp_path, '[wrap]\ntarget = "a:b"\nscope = "run"')

    assert [wrap.target for wrap in found.wraps] == ["a:b"]
    assert found.problems == ("otel-agents.toml: [wrap]: write it with two brackets, as [[wrap]].",)


def test_prices_are_amounts_by_model(tmp_path: Path) -> None:
    """A rate that is none is left out, so that its tokens stay unpriced and are not free."""
    found = read(
        tmp_path,
        """
        [prices."openai:gpt-5"]
        input = 1
        output = 2.5
        [prices.local]
        input = -1
        outptu = 3
        output = true
        cache_read = nan
        [prices.gpt-4.1]
        input = 1
        """,
    )

    assert found.prices == {"openai:gpt-5": {"input": 1.0, "output": 2.5}}
    at = 'otel-agents.toml: [prices."local"]'
    assert found.problems == (
        f"{at} input: -1 is no amount of USD per million tokens, and is left out.",
        f'{at} outptu: there is no such rate; did you mean "output"?',
        f"{at} output: True is no amount of USD per million tokens, and is left out.",
        f"{at} cache_read: nan is no amount of USD per million tokens, and is left out.",
        'otel-agents.toml: [prices."gpt-4"]: quote the whole name of the model, as "gpt-4.1".',
    )


def test_patterns_must_compile_as_they_are_used(tmp_path: Path) -> None:
    """A pattern is joined to others, so what is right alone may be wrong, or hide everything."""
    found = read(
        tmp_path,
        r"""
        [redact]
        names = ["iban", ""]
        patterns = ["\\bDE\\d{20}\\b", "(", "(?i)secret", "x*"]
        """,
    )

    assert found.redact_names == ("iban",)
    assert found.redact_patterns == (r"\bDE\d{20}\b",)
    assert [problem.split(": ", 2)[2][:13] for problem in found.problems] == [
        "'' is no text", "'(' is no reg", "'(?i)secret' ", "'x*' matches ",
    ]  # fmt: skip
    assert "write flags as (?i:…)" in found.problems[2]


def test_the_table_of_the_store_is_kept_as_it_is(tmp_path: Path) -> None:
    """The server reads it; a URL of the store is none."""
    assert read(tmp_path, "[store]\nretain_days = 3").retention == {"retain_days": 3}
    assert read(tmp_path, 'store = "sqlite:///x"').retention == {}


def test_an_unknown_setting_is_said_with_what_was_meant(tmp_path: Path) -> None:
    """Slips in keys, tables and variables are named; other programs' variables are not."""
    found = read(
        tmp_path,
        'semcnov = "latest"\n[redcat]\n[zzz]',
        OTEL_AGENTS_SINK="console:",
        OTEL_AGENTS_OF_OTHERS="1",
    )

    assert found.problems[:2] == (
        'otel-agents.toml: semcnov: there is no such setting; did you mean "semconv"?',
        'otel-agents.toml: redcat: there is no such setting; did you mean "redact"?',
    )
    assert found.problems[2].startswith(
        "otel-agents.toml: zzz: there is no such setting; known are budget, capture_stdout,"
    )
    assert found.problems[3:] == (
        'OTEL_AGENTS_SINK: there is no such variable; did you mean "OTEL_AGENTS_SINKS"?',
    )


@pytest.mark.parametrize("key", ["wrap", "prices", "redact"])
def test_a_value_where_a_table_belongs_is_said(tmp_path: Path, key: str) -> None:
    """A table's name with a plain value is left out."""
    found = read(tmp_path, f"{key} = 3")

    assert len(found.problems) == 1
    assert found.problems[0].startswith(f"otel-agents.toml: {key}: it must be ")


# ---------------------------------------------------------------------- what must hold for all

KEYS = st.sampled_from(
    [
        "home", "sinks", "store", "redis_url", "server", "semconv", "spool", "token", "wrap",
        "prices", "redact", "budget", "names", "patterns", "target", "scope", "fields", "url",
    ]
)  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(KEYS | st.text(), inner), max_leaves=20
)


@given(st.dictionaries(KEYS | st.text(), VALUES))
@example(table={"home": "~nobody-of-this-name"})
def test_no_content_of_a_file_raises(table: dict[str, object]) -> None:
    """Whatever a file holds, settings come out and each problem is one sentence."""
    problems: list[str] = []
    loader = _Loader({}, Path("/nowhere"), problems)
    loader.file = settings_file.SettingsFile(Path("/nowhere/otel-agents.toml"), table)
    loader.table, loader._at = loader.file.table, loader.file.at
    found = loader.settings()

    assert isinstance(found, Settings)
    assert all(problem.endswith((".", "?")) for problem in found.problems)


@given(
    st.dictionaries(st.sampled_from([one.variable for one in SETTINGS if one.variable]), st.text())
)
def test_no_environment_raises(environ: dict[str, str]) -> None:
    """Whatever the variables hold, settings come out."""
    assert isinstance(load(environ, Path("/")), Settings)


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    """Tokens and the passwords of URLs stand in no representation of the settings."""
    found = load(
        {
            "OTEL_AGENTS_TOKEN": "s3cret-1",
            "OTEL_AGENTS_INGEST_TOKEN": "s3cret-2",
            "OTEL_AGENTS_VIEWER_TOKEN": "s3cret-3",
            "OTEL_AGENTS_REDIS_URL": "redis://:s3cret-4@host/0",
            "OTEL_AGENTS_STORE": "postgresql://me:s3cret-5@host/db",
            "OTEL_AGENTS_SINKS": "redis://me:s3cret-6@host",
        },
        tmp_path,
    )

    assert found.problems == ()
    assert found.token == "s3cret-1"
    for text in (repr(found), str(found), f"{found}"):
        assert "s3cret" not in text
        assert "host/db" in text


@pytest.mark.parametrize("name", ["token", "ingest_token", "viewer_token"])
def test_a_token_may_stand_in_a_file(tmp_path: Path, name: str) -> None:
    """Without the line end after it; the variable itself goes before, the settings file after."""
    written(tmp_path, "s3cret\n", "secret")
    variable = f"OTEL_AGENTS_{name.upper()}"
    file = {f"{variable}_FILE": "secret"}
    found = read(tmp_path, f'{name} = "of the settings"', **file)
    assert (getattr(found, name), found.problems) == ("s3cret", ())
    found = load({**file, variable: "given"}, tmp_path)
    assert (getattr(found, name), found.problems) == ("given", ())
    absent = {f"{variable}_FILE": "absent", variable: "given"}
    assert load(absent, tmp_path).problems == ()
    assert (
        getattr(load({f"{variable}_FILE": str(tmp_path / "secret")}, Path("/")), name) == "s3cret"
    )


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "cannot be read: No such file"), (b"", "is empty"), (b"\r\n\n", "is empty"),
        (b"\xff", "holds no text"), (b"x" * 9000, "is too long"), (b"s3cr\net", "printable"),
        ("directory", "cannot be read: Is a directory"),
    ],
)  # fmt: skip
def test_a_file_that_holds_no_token_is_said_to(
    tmp_path: Path, content: bytes | str | None, why: str
) -> None:
    """In one sentence that does not tell what it holds."""
    path = tmp_path / "secret"
    if content == "directory":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    found = load({"OTEL_AGENTS_TOKEN_FILE": str(path)}, tmp_path)
    (problem,) = found.problems
    assert problem.startswith("OTEL_AGENTS_TOKEN_FILE: ")
    assert why in problem
    assert "s3cr" not in problem
    assert found.token is None


def test_the_table_names_every_setting_and_variable() -> None:
    """The table that the reference is made of and the record agree both ways."""
    fields = {field.name: field for field in msgspec.structs.fields(Settings)}
    assert {setting.name for setting in SETTINGS} == set(fields) - {"problems"}
    for setting in SETTINGS:
        assert setting.meaning.endswith((".", "event."))
        assert setting.key or setting.variable


def test_every_variable_of_the_table_has_an_effect(tmp_path: Path) -> None:
    """No variable is documented that is not read."""
    values = {
        "home": "/h", "sinks": "console:", "store": "sqlite:///x", "redis_url": "redis://x",
        "server": "http://x", "semconv": "latest", "spool": "1", "token": "t",
        "ingest_token": "t", "viewer_token": "t", "capture": "span_only", "disabled": "true",
        "jaeger": "http://x", "capture_stdout": "true",
    }  # fmt: skip
    written(tmp_path / "etc", "", "a.toml")
    values["file"] = "etc/a.toml"
    written(tmp_path, "of-a-file", "t")  # the same text as a token, and as the name of its file
    for setting in SETTINGS:
        if setting.variable:
            found = load({setting.variable: values[setting.name]}, tmp_path)
            assert getattr(found, setting.name) != getattr(Settings(), setting.name)
            assert found.problems == ()


def test_reading_is_light() -> None:
    """An instrumented start without a file loads no TOML parser and no matcher of words."""
    code = (
        "import sys; from pathlib import Path; from otel_agents.settings import load; "
        "load({}, Path('/')); print([m for m in ('tomllib', 'difflib') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - ours

    assert found.stdout.strip() == "[]"
