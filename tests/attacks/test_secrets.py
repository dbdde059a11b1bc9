"""Secrets in everything that a program does: on no way out is one of them (attack 40)."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.routing import Route
from websockets.sync.client import connect

from otel_agents.boundary import boundary
from otel_agents.checkpoint.record import About, Record
from otel_agents.checkpoint.repository import Repository
from otel_agents.checkpoint.snapshot import create
from otel_agents.server.app import bare_app
from otel_agents.server.guard import Guard
from otel_agents.server.serve import Options, Server
from otel_agents.settings import Settings
from otel_agents.signals import decode_lines
from otel_agents.sinks.redis import RedisSink
from otel_agents.values import CUT, REDACTED, redact, redactor
from tests.sinks.conftest import server, stopped_server

from .canaries import (
    KINDS,
    NAMES,
    PLACES,
    SHAPES,
    THEIRS,
    as_json,
    found_in,
    found_in_all,
    mark,
    secret,
    text,
    unpacked,
    words,
)
from .recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.sinks.conftest import Server as Redis

__all__ = ["server", "stopped_server"]

ROOT: Final = Path(__file__).parents[2]
PROGRAM: Final = Path(__file__).with_name("secretive.py")
PATIENCE: Final = 120.0
# What only the capture of content brings into telemetry.
CONTENT: Final = ("prompt", "instructions", "tool argument", "tool result", "tool error", "answer",
                  "thought", "exception")  # fmt: skip
# Its secrets reach nothing of ours: other libraries' baggage is not read, nor is an exception's
# cause, and a breaker keeps the class of what it counted.
NOWHERE: Final = ("baggage", "cause", "breaker", "checkpoint")


class Ran(NamedTuple):
    """What came of a program: its directory, what it sent and what it said."""

    home: Path
    recorder: Recorder
    said: bytes

    def files(self) -> dict[str, bytes]:
        """Return every file that it left, and what is packed in it too."""
        return {
            str(path.relative_to(self.home)): unpacked(path.read_bytes())
            for path in sorted(self.home.rglob("*"))
            if path.is_file()
        }

    @property
    def store(self) -> Path:
        """The workspace's database."""
        return self.home / ".otel-agents" / "otel-agents.db"


def ran(home: Path, *arguments: str, **more: str) -> Ran:
    """Run the program in a workspace of its own under `opentelemetry-instrument`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "PYTEST"))}
    cli = [sys.executable, "-m", "otel_agents.cli"]
    subprocess.run([*cli, "init", str(home)], env=kept, check=True, capture_output=True)  # noqa: S603
    with Recorder() as recorder:
        environment = kept | {
            "OTEL_AGENTS_HOME": str(home / ".otel-agents"),
            "OTEL_AGENTS_SINKS": "jsonl:,sqlite:,otlp:,events:,console:",
            "OTEL_AGENTS_CAPTURE_STDOUT": "true",
            "OTEL_EXPORTER_OTLP_ENDPOINT": recorder.endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED": "true",
            "OTEL_RESOURCE_ATTRIBUTES": f"deploy.token={mark('their resource', 99)}",
            "SECRETS": text("environment"), "PYTHONPATH": str(ROOT), **more,
        }  # fmt: skip
        done = subprocess.run(  # noqa: S603 - the test's own program
            [
                str(Path(sys.executable).with_name("opentelemetry-instrument")),
                sys.executable, str(PROGRAM), *arguments,
            ],
            cwd=home, env=environment, capture_output=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return Ran(home, recorder, done.stderr)


_CAPTURING: Final = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "span_and_event"}


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The program with content captured and nothing hidden."""
    return ran(tmp_path_factory.mktemp("shown"), "open", **_CAPTURING)


@pytest.fixture(scope="module")
def captured_content(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The program with content captured."""
    return ran(tmp_path_factory.mktemp("captured"), **_CAPTURING)


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The program as it is run without a setting."""
    return ran(tmp_path_factory.mktemp("usual"))


@pytest.fixture(params=["captured_content", "usual"])
def either(request: pytest.FixtureRequest) -> Ran:
    """The program with content captured, and without."""
    found: Ran = request.getfixturevalue(request.param)
    return found


def test_the_secrets_are_found_where_nothing_is_hidden(shown: Ran) -> None:
    """The control: every kind of secret in every place comes out, and each way out is searched."""
    sent = found_in(shown.recorder.everything())
    files = shown.files()
    logs = b"".join(data for name, data in files.items() if "/logs/" in name)

    places = set(PLACES) - set(NOWHERE) - {"json log", "printed"}
    assert {place for place, _ in sent} == places
    whole = places - {"their span name", "their resource"}
    assert {(place, kind) for place in whole for kind in KINDS} <= sent
    assert ("their resource", "by name") in sent
    assert {("run attribute", "by name"), ("event", "by name"), ("feedback", "by name")} <= sent
    assert {(place, kind) for place in ("log line", "printed") for kind in KINDS} <= found_in(logs)
    assert {("json log", kind) for kind in KINDS} <= found_in(files["json.log"])
    assert {("event", kind) for kind in KINDS} <= found_in(files["logs/agent-events.jsonl"])
    for where in ("otel-agents.db", "signals.jsonl"):
        kept = found_in(files[f".otel-agents/{where}"])
        assert {("run goal", kind) for kind in KINDS} <= kept
        assert {(place, kind) for place in ("exception", "worker") for kind in KINDS} <= kept
    assert {("exception", kind) for kind in KINDS} <= found_in(shown.said)


def test_no_secret_is_in_what_we_send(either: Ran) -> None:
    """Spans, metrics and log records of ours on the wire, whether content is captured or not."""
    ours = either.recorder.scopes()

    assert ours.count(REDACTED.encode()) > 100
    assert found_in(ours) == set()
    places = ("run attribute", "event", "reason", "feedback", "worker", "wait")
    assert [place for place in places if words(place).encode() not in ours] == []


def test_no_secret_is_in_a_file_or_on_the_console(either: Ran) -> None:
    """The store and its log, JSON lines, events, agents' logs, JSON logs, standard error."""
    files = either.files()

    assert {".otel-agents/otel-agents.db", ".otel-agents/signals.jsonl", "json.log",
            "logs/agent-events.jsonl"} <= set(files)  # fmt: skip
    assert any("/logs/" in name and words("printed").encode() in files[name] for name in files)
    leaks = {name: found for name, data in files.items() if (found := found_in(data))}
    assert leaks == {}
    # The handler of last resort prints what the program logs: that is the program's own output.
    assert {one for one in found_in(either.said) if one[0] not in THEIRS} == set()


def test_content_is_in_nothing_unless_it_was_asked_for(usual: Ran, captured_content: Ran) -> None:
    """Prompts, arguments, results, answers and exceptions' texts, harmless words included."""
    places = [words(place).encode() for place in CONTENT]
    everything = b"".join([usual.recorder.scopes(), usual.said, *usual.files().values()])
    sent = captured_content.recorder.scopes()

    assert [place for place in places if place in everything] == []
    assert [place for place in places if place not in sent] == []


def test_what_others_write_leaves_by_the_sdk_as_they_wrote_it(usual: Ran) -> None:
    """The line that docs/security.md draws: the SDK's exporter is not ours; a collector hides."""
    others = [body for _, body in usual.recorder.requests_of(ours=False)]

    assert {place for place, _ in found_in_all(others)} == set(THEIRS)


def test_what_others_write_leaves_by_the_spool_without_secrets(tmp_path: Path) -> None:
    """On the wire: of others' secrets those in names of spans are left, which join everything."""
    sent = ran(tmp_path, **_CAPTURING, OTEL_AGENTS_SPOOL="true").recorder.everything()

    assert {place for place, _ in found_in(sent)} == {"their span name"}
    assert sent.count(REDACTED.encode()) > 100
    named_here = ("their attribute", "their log", "their metric", "run attribute")
    assert [place for place in named_here if words(place).encode() not in sent] == []


def spooled(folder: Path, *arguments: str) -> Path:
    """Run the program while its backend is away; return the spool's directory."""
    spool, home = folder / "spool", folder / "home"
    home.mkdir()
    with closing(socket.create_server(("127.0.0.1", 0))) as nobody:
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    ran(home, *arguments, **_CAPTURING, OTEL_AGENTS_SPOOL=str(spool),
        OTEL_EXPORTER_OTLP_ENDPOINT=address)  # fmt: skip
    return spool


def in_files(spool: Path) -> bytes:
    """Return what waits in a spool."""
    return b"".join(unpacked(one.read_bytes()) for one in spool.rglob("*") if one.is_file())


def test_no_secret_is_in_the_spool(tmp_path: Path) -> None:
    """What waits on the disk for a backend that is away, ours and others'; for the owner alone."""
    spool = spooled(tmp_path)
    kept = in_files(spool)

    assert words("run attribute").encode() in kept
    assert words("their attribute").encode() in kept
    assert {place for place, _ in found_in(kept)} == {"their span name"}
    modes = {stat.S_IMODE(one.stat().st_mode) & 0o077 for one in [spool, *spool.rglob("*")]}
    assert modes == {0}


def test_with_hiding_off_the_spool_holds_every_secret(tmp_path: Path) -> None:
    """The control: what others write, in every place, and what is ours."""
    kept = {place for place, _ in found_in(in_files(spooled(tmp_path, "open")))}

    assert kept >= {*THEIRS, "run attribute", "event"}


# ---------------------------------------------------------------- what is made of it elsewhere


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Callable[[Ran], tuple[Server, str]]]:
    """Serve what a program left and sent, all of it ours; stopped at the end."""
    servers: list[Server] = []

    def serve(left: Ran) -> tuple[Server, str]:
        path = tmp_path / f"served-{len(servers)}.db"
        shutil.copy(left.store, path)
        options = Options(
            port=0, otlp_http_port=0, otlp_grpc_port=None, store=f"sqlite:///{path}"
        )  # fmt: skip
        one = Server(options, Settings(), None)
        servers.append(one)
        addresses = one.start()
        for kind, body in left.recorder.requests_of(ours=True):
            headers = {"Content-Type": "application/x-protobuf"}
            answer = httpx.post(
                f"{addresses.otlp_http}{kind}", content=body, headers=headers, trust_env=False
            )
            assert answer.status_code == 200, answer.text
        assert one.store is not None
        assert one.store.settle()
        return one, addresses.console

    yield serve
    for one in servers:
        one.stop()


def pages(running: Server, url: str) -> dict[str, bytes]:
    """Return what a server tells by every route that reads, for some of all that is there."""
    assert running.store is not None
    routes = [one for one in bare_app(running.store, Guard(Settings(), "127.0.0.1")).routes
              if isinstance(one, Route) and "GET" in (one.methods or ())]  # fmt: skip
    found: dict[str, bytes] = {}
    with httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False) as client:

        def ids(path: str, key: str) -> list[str]:
            return [one[key] for one in client.get(f"{path}?limit=500").json()["data"]["items"]]

        runs, traces = ids("/api/runs", "run_id"), ids("/api/traces", "trace_id")
        known = {
            "run_id": ["run-1", "run-2", *runs[:2]], "trace_id": traces,
            "agent_id": ids("/api/agents", "id"), "name": ["X"],
            "wait_id": ids("/api/hitl", "scope_id"),
        }  # fmt: skip
        for route in routes:
            (name,) = route.param_convertors or ("",)
            for value in known.get(name, [""]):
                path = route.path_format.format(**{name: value})
                answer = client.get(f"{path}?limit=500", follow_redirects=True)
                assert answer.status_code < 500, (path, answer.status_code)
                found[path] = answer.content
        for run in known["run_id"]:
            for tab in ("agents", "cost", "events", "logs", "spans"):
                found[f"{run} {tab}"] = client.get(f"/runs/{run}?tab={tab}").content
    return found


def feed(url: str) -> bytes:
    """Return what the live feed replays."""
    heard = []
    address = f"{url.replace('http', 'ws', 1)}/ws?since=0"
    with connect(address, compression=None, proxy=None, open_timeout=20) as socket:
        while True:
            try:
                heard.append(socket.recv(1.0))
            except TimeoutError:
                return "\n".join(map(str, heard)).encode()


def commands(left: Ran, folder: Path) -> dict[str, bytes]:
    """Return what the command line prints and exports of a workspace."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
    kept["OTEL_AGENTS_HOME"] = str(left.home / ".otel-agents")
    found = {}
    for words_ in (
        ("status", "--json"), ("monitor", "list", "--json"), ("verify", "--json"),
        ("events", "--json", "--run-id", "run-1"), ("events", "--run-id", "run-1"),
        ("hitl", "list", "--json"),
        ("events", "--export", "html", "--run-id", "run-1", "--output", "-"),
    ):  # fmt: skip
        done = subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-m", "otel_agents.cli", *words_],
            cwd=folder, env=kept, capture_output=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert done.returncode in {0, 1}, (words_, done.stderr[-500:])
        found[" ".join(words_)] = done.stdout + done.stderr
    return found


def test_no_secret_is_shown(
    captured_content: Ran,
    shown: Ran,
    console: Callable[[Ran], tuple[Server, str]],
    tmp_path: Path,
) -> None:
    """API, pages, live feed, commands and export tell all but the secrets; the control has them."""
    one, url = console(captured_content)
    told = {**pages(one, url), "/ws": feed(url), **commands(captured_content, tmp_path)}

    assert words("run attribute").encode() in told["/api/runs/run-1/spans"]
    assert words("event").encode() in told["/ws"]
    export = "events --export html --run-id run-1 --output -"
    assert words("event").encode() in told[export]
    assert {name: found for name, data in told.items() if (found := found_in(data))} == {}

    another, control = console(shown)
    open_ = {**pages(another, control), "/ws": feed(control)}
    for where in ("/api/runs/run-1/spans", "/api/logs", "/ws", "run-1 spans"):
        assert found_in(open_[where]) != set(), where
    assert found_in(commands(shown, tmp_path)[export]) != set()


def test_no_secret_is_in_redis(captured_content: Ran, server: Redis) -> None:
    """Keys, values and the companion's entries; the figures are there."""
    lines = (captured_content.home / ".otel-agents" / "signals.jsonl").read_bytes().splitlines()
    sink = RedisSink(server.url)
    sink.write(list(decode_lines(lines)))
    sink.close()
    kept = []
    with closing(server.client()) as client:
        for key in client.keys("*"):
            value = client.get(key) if client.type(key) == "string" else client.hgetall(key)
            kept.append(as_json([key, value]))

    assert len(kept) > 3
    assert found_in_all(kept) == set()


def test_no_secret_is_in_a_checkpoint_s_message(tmp_path: Path) -> None:
    """Neither what it was taken before nor any name; the files are what is saved, as they are."""
    git = shutil.which("git")
    assert git is not None
    subprocess.run([git, "init", "-q", str(tmp_path)], check=True)  # noqa: S603
    (tmp_path / "a.txt").write_text("a")
    every = text("checkpoint")
    about = About(message=every, agent=every, phase=every, task_id=every, run_id=every)
    repository = Repository.find(tmp_path)
    made = create(repository, about)
    log = subprocess.run(  # noqa: S603
        [git, "-C", str(tmp_path), "cat-file", "commit", made.commit],
        check=True, capture_output=True,
    ).stdout  # fmt: skip

    assert Record.read(log.partition(b"\n\n")[2]) is not None
    assert words("checkpoint").encode() in log
    assert found_in(log) == set()


def test_a_failure_of_ours_does_not_quote_a_secret(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ends at the boundary is logged without what the host's values held."""
    monkeypatch.setattr(boundary, "strict", False)
    boundary.caught("a place of the test", ValueError(text("exception")))

    assert words("exception") in caplog.text
    assert found_in(caplog.text.encode()) == set()


# ---------------------------------------------------------------- what is a secret


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("around", ["{}", '"{}"', "({})", "\n{}\n", "äß {} 東", "x={}", "\t{};"])
def test_a_secret_is_hidden_whatever_stands_around_it(kind: str, around: str) -> None:
    """And what is hidden once stays as it is."""
    hidden = redact("", around.format(secret("prompt", kind)))

    assert found_in(hidden.encode()) == set()
    assert REDACTED in hidden
    assert redact("", hidden) == hidden


@pytest.mark.parametrize(
    "name", [*NAMES, "DB_PASSWORD", "Set-Cookie", "refreshToken", "passphrase"]
)
def test_a_value_is_hidden_by_its_key(name: str) -> None:
    """Text and lists; a figure or truth is none."""
    assert [redact(name, one) for one in ("plain", ("a", "b"), 5, True)] == [
        REDACTED, REDACTED, 5, True,
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["gen_ai.token.type", "gen_ai.token.modality", "tokenType"])
def test_of_what_type_a_token_is_is_no_secret(name: str) -> None:
    """Series of metrics are told apart by it; a name of the settings hides it all the same."""
    assert redact(name, "input") == "input"
    assert redact(f"{name}.token", "input") == REDACTED
    assert redactor((name,))(name, "input") == REDACTED


_PLAIN: Final = (
    "max_tokens=100, total_tokens: 345, token: 5", '{"input_tokens": 12, "token": null}',
    "def login(password: str, token: str = None) -> bool", "https://example.com:8080/a@b?page=2",
    "pass the bearer the risk-assessment-of-the-year", "task-01hzzzzzzzzzzzzzzzzzzzzzzz",
    "see http://host:8080 and write to a@example.com", "the basic responsibilities of a secretary",
    "tokenizer=o200k", "PWD=/srv/app", "Asia and its keys", "a monkey: 3, a turkey=4",
)  # fmt: skip


@pytest.mark.parametrize("plain", _PLAIN)
def test_what_is_no_secret_stays(plain: str) -> None:
    """Counts, types, addresses and words that hold the name of a secret."""
    assert redact("note", plain) == plain


@given(st.text(), st.sampled_from(KINDS), st.text())
def test_json_stays_json(before: str, kind: str, after: str) -> None:
    """Whatever is hidden in it, with the rest of it where the secret is a text of its own."""
    value = {"before": before[:20], "held": secret("prompt", kind), "n": 3, "after": after[:20]}
    hidden = json.loads(redact("", json.dumps(value, ensure_ascii=False)))

    assert hidden["n"] == 3
    assert found_in(json.dumps(hidden).encode()) == set()


@given(st.text(max_size=40), st.sampled_from(KINDS), st.text(max_size=40))
def test_no_text_around_it_saves_a_secret(before: str, kind: str, after: str) -> None:
    """Words that touch a key of a known shape may be part of it: a space stands between."""
    hidden = redact("", f"{before} {secret('prompt', kind)} {after}")

    assert found_in(hidden.encode()) == set()


def test_names_of_the_settings_hide_within_a_text_too() -> None:
    """As words of their own, in any letters, and patterns beside them."""
    hide = redactor(("ssn", "home_address"), (r"\bcust-\d+\b",))

    assert hide("", "SSN=123-45, cust-77, lessn=1") == f"SSN={REDACTED}, {REDACTED}, lessn=1"
    assert hide("homeAddress", "x") == REDACTED
    assert hide("", '{"home_address": "1 Main St"}') == f'{{"home_address": "{REDACTED}"}}'


def test_a_login_whose_text_was_cut_is_hidden() -> None:
    """Its @ is not there any more."""
    assert redact("", f"postgresql://app:hunter2{CUT}") == f"postgresql://{REDACTED}{CUT}"


def test_many_starts_of_secrets_cost_no_more_than_their_length() -> None:
    """Texts that nearly match everywhere are done with: no pattern goes back over them."""
    for start in ("-----BEGIN PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----!", "password:",
                  'password="\\', "://a:", "://", "cookie ", "token = ", "Basic ", "eyJaaaaaaaa.",
                  "sk-", 'secret\\\\\\"'):  # fmt: skip
        thread = threading.Thread(target=redact, args=("", start * (200_000 // len(start)) + "@"))
        thread.daemon = True
        thread.start()
        thread.join(PATIENCE)
        assert not thread.is_alive(), start


def test_every_shape_has_its_canary() -> None:
    """The marks tell places and kinds apart."""
    assert found_in(text("prompt").encode()) == {("prompt", kind) for kind in SHAPES}
