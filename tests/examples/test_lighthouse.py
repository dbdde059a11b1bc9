"""The example program without any telemetry: it works, it is honest, and it knows nothing of us."""

import ast
import asyncio
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

# One worker has all of them, and runs the example once.
pytestmark = pytest.mark.xdist_group("lighthouse")

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "lighthouse"
PASSAGE = re.compile(r"^\[(\d+)\] (\w+ \d+ \w+)\. (.+)$", re.MULTILINE)
QUOTED = re.compile(r"“([^”]+)” \[(\d+)\]")
CITED = re.compile(r"\[(\d+)\]")

SEEDED = [
    ("name", {1, 35}),
    ("recollection", {28, 44}),
    ("date", {53}),
    ("reference", {54}),
    ("measure", {2, 41, 74}),
    ("reference", {91}),
    ("name", {70, 98}),
    ("date", {104}),
    ("measure", {2, 47, 107}),
    ("recollection", {58, 120}),
]
"""What was put into the log on purpose: the kind of flaw, and the passages that show it."""

FIELDS = {
    "run": {
        "run_id", "work_order_id", "correlation_id", "plan_id", "goal", "strategy",
        "max_iterations",
    },
    "iteration": {"number", "max"},
    "phase": {"number"},
    "task": {"task_id", "feature", "queue", "state", "lease_owner", "persona_id"},
    "gate": {"passed"},
    "validation": {"passed"},
    "delivery": {"success", "url", "ci_status"},
    "worker": {"worker_id", "agent_type"},
}  # fmt: skip
"""The fields that a `[[wrap]]` table may give a scope, beside `done` and `total`."""


def run(
    *arguments: str | Path, app: str | Path = EXAMPLE / "app.py", cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Run the program as a user does, warnings being errors and no key being set."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "PYTHON"))}
    environment = {k: v for k, v in environment.items() if not k.endswith("_API_KEY")}
    command = [sys.executable, "-W", "error", app, "--pace", "0", *arguments]
    return subprocess.run(  # noqa: S603 - our own program
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture(scope="module")
def passages() -> dict[int, tuple[str, str]]:
    """Day and text of each passage of the log, by number."""
    text = (EXAMPLE / "input" / "log-1911.md").read_text(encoding="utf-8")
    return {int(number): (day, words) for number, day, words in PASSAGE.findall(text)}


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run the program, and return its output folder and what it printed."""
    out = tmp_path_factory.mktemp("delivered")
    done = run("--out", out, "--run-id", "run-1")
    assert (done.returncode, done.stderr) == (0, "")
    return out, done.stdout


@pytest.fixture(scope="module")
def report(delivered: tuple[Path, str]) -> dict[str, Any]:
    """Load the report for programs."""
    loaded: dict[str, Any] = json.loads((delivered[0] / "report.json").read_text(encoding="utf-8"))
    return loaded


@pytest.fixture
def logbook(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Return a function that imports a module of the example's package."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    return lambda name: importlib.import_module(f"logbook.{name}")


def test_log_has_passages_numbered_from_one(passages: dict[int, tuple[str, str]]) -> None:
    """The log shipped with the example has 132 passages, without a gap in their numbers."""
    assert list(passages) == list(range(1, 133))


def test_run_says_what_it_does_and_where_the_report_lies(delivered: tuple[Path, str]) -> None:
    """The account names the run, at least two iterations, and the file's address."""
    out, account = delivered

    assert account.startswith("Run run-1 of order TSL-1911: ")
    assert "iteration 2: " in account
    assert account.endswith(f"Read {(out / 'report.md').resolve().as_uri()}\n")


def test_critic_rejects_before_it_approves(delivered: tuple[Path, str]) -> None:
    """Drafts are rejected for all three kinds of reason, and all are approved in the end."""
    account = delivered[1]

    rejections = {reason for reason in ("uncovered", "quote", "citation") if reason in account}
    approved = [int(n) for n in re.findall(r"(\d+) of 12 items approved", account)]

    assert rejections == {"uncovered", "quote", "citation"}
    assert approved == sorted(approved)
    assert approved[0] < approved[-1] == 12


def test_findings_are_exactly_the_seeded_flaws(report: dict[str, Any]) -> None:
    """Each flaw put into the log is found, with its passages, and nothing else is."""
    found = [
        (finding["kind"], {evidence["passage"] for evidence in finding["evidence"]})
        for finding in report["findings"]
    ]

    assert found == SEEDED


def test_json_quotes_are_verbatim(
    report: dict[str, Any], passages: dict[int, tuple[str, str]]
) -> None:
    """Every quote in the report for programs stands word for word in the passage it names."""
    evidence = [e for entry in report["index"] for e in entry["mentions"]]
    evidence += [event["event"] for event in report["timeline"]]
    evidence += [e for finding in report["findings"] for e in finding["evidence"]]

    assert len(evidence) > 300
    assert [e for e in evidence if e["quote"] not in passages[e["passage"]][1]] == []


def test_markdown_citations_are_real_and_quotes_verbatim(
    delivered: tuple[Path, str], passages: dict[int, tuple[str, str]]
) -> None:
    """Every number in brackets is a passage, and every quote before one stands in it."""
    text = (delivered[0] / "report.md").read_text(encoding="utf-8")
    quotes = QUOTED.findall(text)

    assert {int(n) for n in CITED.findall(text)} == set(passages)
    assert len(quotes) > 132
    assert [(q, n) for q, n in quotes if q not in passages[int(n)][1]] == []


def test_timeline_has_each_passage_once_in_the_order_of_dates(
    report: dict[str, Any], passages: dict[int, tuple[str, str]]
) -> None:
    """No passage is left out, none comes twice, and the days are those of the log."""
    timeline = report["timeline"]
    days = {event["event"]["passage"]: event["day"] for event in timeline}

    assert days == {number: day for number, (day, _) in passages.items()}
    assert len(timeline) == len(passages)
    assert [event["date"] for event in timeline] == sorted(event["date"] for event in timeline)


def test_digests_are_made_of_cited_words(
    report: dict[str, Any], passages: dict[int, tuple[str, str]]
) -> None:
    """Each of six digests is made of pieces of passages, each followed by its number."""
    assert len(report["digests"]) == 6
    for digest in report["digests"]:
        pieces = re.findall(r"(.+?) \[(\d+)\]\.\s*", digest["text"])
        assert len(pieces) == 4
        assert [(p, n) for p, n in pieces if p not in passages[int(n)][1]] == []


def test_index_knows_people_ships_places_and_instruments(report: dict[str, Any]) -> None:
    """The index has one of each kind, and finds the dog wherever he is named."""
    index = {entry["name"]: {e["passage"] for e in entry["mentions"]} for entry in report["index"]}

    assert {"Miss Amory", "Kittiwake", "Gannet Stack", "fog bell"} <= set(index)
    assert index["Bosun"] == {6, 21, 50, 69, 77}


def test_every_draft_is_a_file(delivered: tuple[Path, str]) -> None:
    """The readers' drafts lie in the output folder, one for each work item."""
    names = sorted(path.name for path in (delivered[0] / "drafts").iterdir())

    assert names == [f"item-{n:02}.json" for n in range(1, 13)]


def test_same_input_same_output_from_inside_the_folder(
    delivered: tuple[Path, str], tmp_path: Path
) -> None:
    """A second run, started in the example's folder, delivers the same bytes."""
    again = run("--out", tmp_path, app="app.py", cwd=EXAMPLE)

    assert again.returncode == 0
    for name in ("report.md", "report.json"):
        assert (tmp_path / name).read_bytes() == (delivered[0] / name).read_bytes()


def test_chapters_limit_the_work(tmp_path: Path) -> None:
    """With one chapter there are its 22 passages, and none of the later flaws."""
    done = run("--out", tmp_path, "--chapters", "1")
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))

    assert done.returncode == 0
    assert (report["passages"], report["findings"]) == (22, [])


def test_failure_ends_in_a_question_to_a_person(tmp_path: Path) -> None:
    """With a second passage 9 nothing is delivered; it is said who must decide what."""
    done = run("--out", tmp_path, "--failure")

    assert (done.returncode, done.stderr) == (1, "")
    assert "the editor of the log must decide what holds for passage 9" in done.stdout
    assert "[9] Sunday 15 January. Gale from the north-west." in done.stdout
    assert "[9] Sunday 15 January. Light airs from the south" in done.stdout
    assert "after 3 attempts" in done.stdout
    assert not (tmp_path / "report.md").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--model", "openai:gpt-5"], id="no key or no package"),
        pytest.param(["--model", "nobody:nothing"], id="no such provider"),
        pytest.param(["--model", "nonsense"], id="no provider"),
    ],
)
def test_model_that_cannot_be_had_is_one_sentence(arguments: list[str], tmp_path: Path) -> None:
    """A model without key, package or provider ends the program at once, with code 2."""
    done = run("--out", tmp_path, *arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"The model '{arguments[1]}' cannot be used: ")
    assert done.stderr.count("\n") == 1


def test_model_that_answers_nonsense_is_one_sentence(tmp_path: Path) -> None:
    """A model whose plan never covers the log ends the run with code 1; nothing is delivered."""
    done = run("--out", tmp_path, "--model", "test")

    assert done.returncode == 1
    assert re.fullmatch(r"A model failed: .+\n", done.stderr)
    assert not (tmp_path / "report.md").exists()


def test_validation_finds_what_the_log_does_not_say(
    logbook: Callable[[str], ModuleType], report: dict[str, Any]
) -> None:
    """A book with an invented quote, a lost passage and a stray citation passes no longer."""
    log = logbook("source").Logbook.load(EXAMPLE / "input" / "log-1911.md")
    book = logbook("book").Book.model_validate(report)
    assert book.faults(log) == []

    book.timeline = book.timeline[1:]
    book.index[0].mentions[0].quote = "Here be dragons."
    book.digests[0].text = "All was well [131]."

    assert book.faults(log) == [
        'passage 95 has no words "Here be dragons."',
        "passage 1 is not in the timeline",
        "the digest of I. The Winter Relief cites passage 131",
    ]


def test_example_imports_no_telemetry() -> None:
    """No module of the example imports OpenTelemetry or otel-agents, anywhere in it."""
    imported = set()
    modules = sorted(EXAMPLE.rglob("*.py"))
    for module in modules:
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(str(node.module).split(".")[0])

    assert len(modules) > 5
    assert "pydantic_ai" in imported
    assert imported.isdisjoint({"opentelemetry", "otel_agents", "logfire", "importlib"})


def wraps() -> list[dict[str, Any]]:
    """Return the `[[wrap]]` tables of the example."""
    tables: list[dict[str, Any]] = tomllib.loads(
        (EXAMPLE / "otel-agents.toml").read_text(encoding="utf-8")
    )["wrap"]
    return tables


def test_wraps_cover_an_orchestrators_scopes() -> None:
    """The tables map a run, iterations, phases, workers, tasks, gate, validation and delivery."""
    assert {wrap["scope"] for wrap in wraps()} == set(FIELDS)
    assert len({wrap["target"] for wrap in wraps()}) == len(wraps())


@pytest.mark.parametrize("wrap", wraps(), ids=lambda wrap: str(wrap["target"]))
def test_wrap_fits_its_target(wrap: dict[str, Any], logbook: Callable[[str], ModuleType]) -> None:
    """The target is a function of an importable module; keys, fields and arguments exist."""
    module, _, path = wrap["target"].partition(":")
    package, _, name = module.partition(".")
    target: Any = logbook(name)
    for step in path.split("."):
        target = getattr(target, step)
    known = {*inspect.signature(target).parameters, "result"}
    templates = [wrap.get("name", ""), *wrap.get("fields", {}).values()]
    templates += wrap.get("attributes", {}).values()
    used = {match for template in templates for match in re.findall(r"\{(\w+)", template)}

    assert (package, inspect.isfunction(target)) == ("logbook", True)
    assert set(wrap) <= {"target", "scope", "name", "fields", "attributes"}
    assert set(wrap.get("fields", {})) <= FIELDS[wrap["scope"]] | {"done", "total"}
    assert used <= known


def test_templates_reach_attributes_that_are_there(
    logbook: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    """Called for real, each target has under each path of its templates something to show."""
    seen: dict[str, list[str]] = {}
    pipeline = logbook("pipeline")
    with pytest.MonkeyPatch.context() as patch:
        for wrap in wraps():
            owner_name, method = wrap["target"].partition(":")[2].split(".")
            owner = getattr(pipeline, owner_name)
            patch.setattr(owner, method, recorder(getattr(owner, method), wrap, seen))
        asyncio.run(small_run(logbook, tmp_path))

    assert set(seen) == {wrap["target"] for wrap in wraps()}
    assert seen["logbook.pipeline:Pipeline.iterate"][:4] == ["1", "3", "0", "2"]
    assert [value for values in seen.values() for value in values if not value] == []


def recorder(
    target: Callable[..., Any], wrap: dict[str, Any], seen: dict[str, list[str]]
) -> Callable[..., Any]:
    """Wrap a target so that the values of its templates are kept after each call."""
    signature = inspect.signature(target)
    templates = [wrap.get("name", ""), *wrap.get("fields", {}).values()]
    templates += wrap.get("attributes", {}).values()

    def keep(result: object, *args: object, **kwargs: object) -> None:
        known = {**signature.bind(*args, **kwargs).arguments, "result": result}
        filled = [template.format(**known) for template in templates if "{" in template]
        seen.setdefault(wrap["target"], []).extend(filled)

    if inspect.iscoroutinefunction(target):

        async def wrapped(*args: object, **kwargs: object) -> object:
            result = await target(*args, **kwargs)
            keep(result, *args, **kwargs)
            return result

        return wrapped

    def wrapped_sync(*args: object, **kwargs: object) -> object:
        result = target(*args, **kwargs)
        keep(result, *args, **kwargs)
        return result

    return wrapped_sync


async def small_run(
    logbook: Callable[[str], ModuleType], out: Path, models: dict[str, Any] | None = None
) -> Any:
    """Run the pipeline in this process on the first chapter."""
    source, pipeline = logbook("source"), logbook("pipeline")
    log = source.Logbook.load(EXAMPLE / "input" / "log-1911.md").first_chapters(1)
    (out / "drafts").mkdir()
    offline = logbook("models").models("offline", 0)
    desk = logbook("agents").Desk(log, out / "drafts", offline | (models or {}))
    order = pipeline.Order("order-1", "index a chapter", out)
    return await pipeline.Pipeline(desk).run(order, "run-1")


def test_outcome_of_a_run(logbook: Callable[[str], ModuleType], tmp_path: Path) -> None:
    """A run in this process returns its id, iterations and the address of the report."""
    outcome = asyncio.run(small_run(logbook, tmp_path))

    assert (outcome.run_id, outcome.iterations) == ("run-1", 2)
    assert outcome.url == (tmp_path / "report.md").resolve().as_uri()


def test_failing_model_fails_the_run_as_itself(
    logbook: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    """An error in one of several readers leaves the run as that error, not as a group."""

    def broken(_talk: object) -> None:
        message = "the lamp is out"
        raise OSError(message)

    model = logbook("offline.model").OfflineModel(broken, name="broken", pace=0)

    with pytest.raises(OSError, match="the lamp is out"):
        asyncio.run(small_run(logbook, tmp_path, {"reader": model}))


def test_cancelled_run_is_cancelled(logbook: Callable[[str], ModuleType], tmp_path: Path) -> None:
    """Cancelling a run in the middle of its readers ends it, with no task left behind."""
    function_model = importlib.import_module("pydantic_ai.models.function").FunctionModel
    reading = asyncio.Event()

    async def endless(_messages: object, _info: object) -> None:
        reading.set()
        await asyncio.Event().wait()

    async def cancel() -> set[asyncio.Task[Any]]:
        models = {"reader": function_model(endless)}
        running = asyncio.create_task(small_run(logbook, tmp_path, models))
        await asyncio.wait_for(reading.wait(), 90)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}

    assert asyncio.run(cancel()) == set()


def test_offline_models_count_what_they_were_told(logbook: Callable[[str], ModuleType]) -> None:
    """Tokens follow the text; what an earlier call of the run has sent is read from the cache."""
    offline = logbook("offline.model")
    agent = importlib.import_module("pydantic_ai").Agent(name="counter")
    agent.tool_plain(lambda: "y" * 400, name="fetch")

    def role(talk: Any) -> object:
        return "z" * 40 if talk.answers("fetch") else [offline.Call("fetch", {})]

    model = offline.OfflineModel(role, name="offline-x", pace=0)
    result = asyncio.run(agent.run("x" * 80, model=model))
    first, second = (m for m in result.all_messages() if m.kind == "response")

    assert first.model_name == second.model_name == "offline-x"
    assert (first.usage.input_tokens, first.usage.cache_read_tokens) == (20, 0)
    assert second.usage.input_tokens == 20 + first.usage.output_tokens + 100
    assert second.usage.cache_read_tokens == 20 + first.usage.output_tokens
    assert second.usage.output_tokens == 10


def test_streamed_calls_count_their_input(logbook: Callable[[str], ModuleType]) -> None:
    """A streamed call reports the input it was sent, and the words that came."""
    offline = logbook("offline.model")
    agent = importlib.import_module("pydantic_ai").Agent(name="streamer")
    model = offline.OfflineModel(lambda _talk: "one two three", name="offline-x", pace=0)

    async def stream() -> tuple[list[str], int, int]:
        async with agent.run_stream("x" * 80, model=model) as result:
            words = [w async for w in result.stream_text(delta=True, debounce_by=None)]
            return words, result.usage.input_tokens, result.usage.output_tokens

    words, sent, received = asyncio.run(stream())

    assert words == ["one ", "two ", "three "]
    assert (sent, received > 0) == (20, True)
