"""The example of the event stream: what it tells is true, and counts the same wherever it is read.

The KPIs are counted here once more, from the event file alone and by nothing of the product's.
"""

import ast
import csv
import importlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from tests import patient
from tests.patient import PATIENT

# One worker has all of them, and runs the example once.
pytestmark = pytest.mark.xdist_group("event-stream")

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "event-stream"
EVENTS = Path("logs/agent-events.jsonl")
PATIENTLY = Path(patient.__file__)
SERVER_PACKAGES = ("fastapi", "starlette", "uvicorn", "httptools", "websockets", "jinja2")
TASKS = [f"page-{n}/{column}" for n in (1, 2, 3) for column in ("day", "paid", "weight")]
QUESTION = (
    "A person must decide on stained-page/weight, after 2 attempts: "
    "the sum is 3549 lb, the page says 3577."
)


class Done(NamedTuple):
    """One run of the example as a process, and the events that it left."""

    code: int
    out: str
    err: str
    where: Path

    @property
    def events(self) -> list[dict[str, Any]]:
        """The lines of the event file."""
        return [json.loads(line) for line in (self.where / EVENTS).read_text("utf-8").splitlines()]

    @property
    def table(self) -> dict[str, float]:
        """The KPIs and counts that it printed, shares as fractions."""
        found = {}
        for name, figure in re.findall(r"^  (\w+) +([\d.]+%?)(?:  |$)", self.out, re.MULTILINE):
            share = figure.endswith("%")
            found[name] = float(figure.rstrip("%")) / (100 if share else 1)
        return found


def environment(**given: str) -> dict[str, str]:
    """Return the environment without settings of ours, and with what is given."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "PYTHON"))}
    return kept | given


def run(where: Path, *arguments: str, **given: str) -> Done:
    """Run the program as a user does, in a directory, warnings being errors."""
    command = [
        sys.executable, "-W", "error", PATIENTLY, EXAMPLE / "app.py", "--out", "out", *arguments,
    ]  # fmt: skip
    done = subprocess.run(  # noqa: S603 - our own program
        command, cwd=where, env=environment(**given),
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr, where)


def command(where: Path, *arguments: str) -> Any:
    """Run `otel-agents … --json` in a directory, and return its data."""
    done = subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, "-m", "otel_agents.cli", *arguments, "--json"],
        cwd=where, env=environment(), capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    return json.loads(done.stdout)["data"]


def wait_for(what: Callable[[], Any], seconds: float = 90) -> Any:
    """Ask until there is an answer, and return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = what()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


# ------------------------------------------------------------------ the count, once more


def recount(events: list[dict[str, Any]]) -> dict[str, float]:
    """Count the KPIs as their definitions say, in exact fractions, slowly and plainly."""
    by_type: dict[str, list[tuple[float, dict[str, Any]]]] = defaultdict(list)
    for event in events:
        by_type[event["event_type"]].append((event["timestamp"], event["payload"]))
    times = [event["timestamp"] for event in events]
    started, completed = by_type["agent_started"], by_type["agent_completed"]
    validations = by_type["validation_complete"]
    # One agent works at a time here: each start is closed by the end that comes next.
    active = sum(end - begin for (begin, _), (end, _) in zip(started, completed, strict=True))
    cost = sum(Fraction(str(said["cost_usd"])) for _, said in completed)
    cost += sum(Fraction(str(said["cost"])) for _, said in validations)
    feature_of = {said["task_id"]: said["feature"] for _, said in by_type["task_queued"]}
    passed = [said["task_id"] for _, said in validations if said["result"] == "passed"]
    features = {feature_of[task] for task in passed}
    attempts = Counter((said["task_id"], said["agent"]) for _, said in started)
    retries = sum(count - 1 for count in attempts.values())
    rejected = [said["rejected"] for _, said in by_type["critic_decision"]]
    queued = {said["task_id"]: when for when, said in by_type["task_queued"]}
    last = {}
    for when, said in sorted(completed + validations, key=lambda pair: pair[0]):
        if said.get("status") in {"success", "approved"} or said.get("result") == "passed":
            last[said["task_id"]] = when
    seconds = sum(when - queued[task] for task, when in last.items())
    return {
        "agent_utilization": active / (max(times) - min(times)),
        "cost_per_feature": float(cost / len(features)),
        "average_retry_count": retries / len(queued),
        "critic_rejection_rate": sum(rejected) / len(rejected),
        "validation_pass_rate": len(passed) / len(validations),
        "time_to_completion": seconds / len(last),
        "events": len(events),
        "agents_started": len(started),
        "agents_completed": len(completed),
        "agents_active": 0,
        "active_seconds": active,
        "window_seconds": max(times) - min(times),
        "total_cost_usd": float(cost),
        "unpriced_agents": 0,
        "features_completed": len(features),
        "tasks": len(queued),
        "retries": retries,
        "critic_decisions": len(rejected),
        "critic_rejections": sum(rejected),
        "validations": len(validations),
        "validations_passed": len(passed),
        "tasks_completed": len(last),
        "completion_seconds": seconds,
    }


def flat(reading: dict[str, Any]) -> dict[str, float]:
    """Return KPIs and counts side by side, whether the KPIs stand apart or not."""
    kpis = reading.get("kpis") or {k: v for k, v in reading.items() if k != "counts"}
    found: dict[str, float] = {**kpis, **reading["counts"]}
    return found


def near(figures: dict[str, float], places: int) -> Any:
    """Return figures to be compared: times have microseconds, and a table so many places."""
    return pytest.approx(figures, abs=10**-places, rel=1e-3 if places > 4 else 0)


# ------------------------------------------------------------------ the runs


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """Run it in a workspace, to its good end."""
    where = tmp_path_factory.mktemp("delivered")
    command(where, "init")
    return run(where, "--no-serve", "--pace", "0.01", "--run-id", "run-1")


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """Run it in a workspace, to its end with a person."""
    where = tmp_path_factory.mktemp("failed")
    command(where, "init")
    return run(where, "--no-serve", "--pace", "0.01", "--run-id", "run-2", "--failure")


def told(done: Done, *types: str) -> list[dict[str, Any]]:
    """Return the payloads of some types, in their order."""
    return [event["payload"] for event in done.events if event["event_type"] in types]


def steps(done: Done, task: str) -> list[tuple[str, Any]]:
    """Return what was told of a task: types, with what was decided where something was."""
    found = []
    for event in done.events:
        said = event["payload"]
        if said.get("task_id") == task or event["event_type"].startswith("budget_"):
            verdict = said.get("status") or said.get("result") or said.get("rejected")
            found.append((event["event_type"], verdict))
    return found


def test_book_is_delivered_in_figures_that_add_up(delivered: Done) -> None:
    """All 36 rows are there, and each page's sums are those that the office wrote below it."""
    with (delivered.where / "out" / "landings.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))

    assert (delivered.code, [int(row["no"]) for row in rows]) == (0, list(range(1, 37)))
    for page in (1, 2, 3):
        text = (EXAMPLE / "input" / f"page-{page}.csv").read_text("utf-8")
        below = text.splitlines()[-1].split(",")
        part = rows[12 * (page - 1) : 12 * page]
        assert str(sum(int(row["weight_lb"]) for row in part)) == below[3]
        assert str(sum(int(row["paid_pence"]) for row in part)) == below[4]
        assert part[-1]["day"] == below[1]


def test_events_of_a_good_run_by_type(delivered: Done) -> None:
    """So many of each type: every attempt has its critic, and no budget nor person is asked."""
    assert Counter(event["event_type"] for event in delivered.events) == {
        "task_queued": 9,
        "agent_started": 30,
        "agent_completed": 30,
        "critic_decision": 15,
        "validation_complete": 10,
    }
    assert [said["task_id"] for said in told(delivered, "task_queued")] == TASKS


def test_every_task_goes_from_coder_to_critic_to_validator(delivered: Done) -> None:
    """A task that needs three drafts: unread cells, then a wrong sum, then all is well."""
    draft = [("agent_started", None), ("agent_completed", "success"), ("agent_started", None)]
    approved = [("agent_completed", "approved"), ("critic_decision", False)]

    assert steps(delivered, "page-2/weight") == [
        ("task_queued", None),
        *draft, ("agent_completed", "rejected"), ("critic_decision", True),
        *draft, *approved, ("validation_complete", "failed"),
        *draft, *approved, ("validation_complete", "passed"),
    ]  # fmt: skip


def test_events_stand_in_the_order_of_their_times(delivered: Done, failed: Done) -> None:
    """No line of the file is older than the one before."""
    for done in (delivered, failed):
        times = [event["timestamp"] for event in done.events]
        assert all(before <= after for before, after in pairwise(times))


def test_failure_warns_exceeds_tries_twice_and_asks_a_person(failed: Done) -> None:
    """The stained page: warned at four fifths, spent in the second attempt, and then a person."""
    draft = [("agent_started", None), ("agent_completed", "success")]
    found = steps(failed, "stained-page/weight")

    assert failed.code == 1
    assert found[found.index(("budget_warning", None)) :] == [
        ("budget_warning", None),
        *draft, ("agent_started", None), ("agent_completed", "rejected"), ("critic_decision", True),
        *draft, ("budget_exceeded", None),
        ("agent_started", None), ("agent_completed", "approved"), ("critic_decision", False),
        ("validation_complete", "failed"),
        ("hitl_escalated", None),
    ]  # fmt: skip
    assert failed.events[-1]["payload"] == {
        "task_id": "stained-page/weight",
        "attempts": 2,
        "last_error": "the sum is 3549 lb, the page says 3577",
        "priority": "high",
    }
    assert not (failed.where / "out").exists()


def test_budget_events_say_what_was_spent_until_then(failed: Done) -> None:
    """The warning comes with the payment that passes 80 %, the other with the one past 100 %."""
    before = spent = Fraction(0)
    for event in failed.events:
        said = event["payload"]
        if event["event_type"].startswith("budget_"):
            level = Fraction(8, 10) if event["event_type"] == "budget_warning" else 1
            assert (said["scope"], said["limit"]) == ("landing-book", 0.26)
            assert Fraction(str(said["spent"])) == spent
            assert before < level * Fraction("0.26") <= spent
        cost = said.get("cost_usd", said.get("cost"))
        if cost is not None:
            before, spent = spent, spent + Fraction(str(cost))


def test_account_says_what_a_person_needs(delivered: Done, failed: Done) -> None:
    """It says where the result and the events are, or what must be decided."""
    assert delivered.out.endswith(
        f"Delivered out/landings.csv\nUSD 0.2013 of 0.26 spent. "
        f"The events are in {delivered.where.resolve() / EVENTS}\n"
    )
    assert f"Not delivered. {QUESTION}\n" in failed.out
    assert "  42, May 20, Ocean Gift, 2 cwt ? qr 3 lb, £1 13s 1d\n" in failed.out


def test_costs_are_the_characters_that_were_counted(
    delivered: Done, landings: Callable[[str], ModuleType]
) -> None:
    """The critic's first price is that of the text it was handed and of its answer."""
    agents, book = landings("agents"), landings("book")
    page = book.load(EXAMPLE / "input" / "page-1.csv")
    handed = "\n".join((agents.BRIEFS["critic"], "3 April", *page.cells("day")))
    first = next(said for said in told(delivered, "agent_completed") if said["agent"] == "critic")

    price = Fraction(2, 100_000) * len(handed) + Fraction(1, 10_000) * len("approved")
    assert Fraction(str(first["cost_usd"])) == price


def test_two_runs_tell_the_same(delivered: Done, tmp_path: Path) -> None:
    """Apart from times, the same lines in the same order and the same counts."""

    def timeless(done: Done) -> list[Any]:
        lines = [(event["event_type"], event["payload"]) for event in done.events]
        return [(type_, {k: v for k, v in said.items() if k != "duration_ms"})
                for type_, said in lines]  # fmt: skip

    again = run(tmp_path, "--no-serve", "--pace", "0")

    assert timeless(again) == timeless(delivered)


# ------------------------------------------------------------------ the same numbers everywhere


@pytest.mark.parametrize("which", ["delivered", "failed"])
def test_printed_metrics_are_those_of_the_event_file(
    which: str, request: pytest.FixtureRequest
) -> None:
    """What `get_metrics` says is what the lines of the file add up to."""
    done: Done = request.getfixturevalue(which)

    # Shares are printed with three places, the rest with four.
    assert done.table == near(recount(done.events), 3)


@pytest.mark.parametrize(("which", "code", "status"), [
    ("delivered", 0, "succeeded"), ("failed", 1, "failed"),
])  # fmt: skip
def test_status_shows_one_run_with_the_same_figures(
    which: str, code: int, status: str, request: pytest.FixtureRequest
) -> None:
    """In its workspace: the run, its agents by how they ended, and the cost of the events."""
    done: Done = request.getfixturevalue(which)
    figures = recount(done.events)

    shown = command(done.where, "status")

    assert (done.code, shown["status"], shown["workflow"]) == (code, status, "landing-book")
    assert shown["run_id"] == ("run-1" if which == "delivered" else "run-2")
    assert shown["agents"]["by_status"] == {"completed": figures["agents_completed"]}
    assert shown["cost_usd"] == pytest.approx(figures["total_cost_usd"])
    assert (shown["error"] or {}).get("message") == (QUESTION if code else None)
    assert flat(shown["kpis"]) == near(figures, 5)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[int]:
    """Start a Redis of its own, and return its port."""
    server = shutil.which("redis-server")
    if server is None:
        pytest.skip("no redis-server here")
    pytest.importorskip("redis")
    port = free_port()
    process = subprocess.Popen(  # noqa: S603 - found on the path
        [server, "--port", str(port), "--bind", "127.0.0.1", "--save", ""],
        cwd=tmp_path, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(lambda: answers(port))
        yield port
    finally:
        process.terminate()
        process.wait(120)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def answers(port: int) -> bool:
    """Return whether somebody listens."""
    with socket.socket() as asking:
        asking.settimeout(1)
        return asking.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("by", ["--redis", "OTEL_AGENTS_REDIS_URL"])
def test_redis_has_the_same_kpis_by_hour_and_day(redis: int, by: str, tmp_path: Path) -> None:
    """After the program's end the buckets hold what the file adds up to, for as long as said."""
    url = f"redis://127.0.0.1:{redis}"
    if by == "--redis":
        done = run(tmp_path, "--no-serve", "--pace", "0.01", "--redis", url)
    else:
        done = run(tmp_path, "--no-serve", "--pace", "0.01", **{by: url})
    client = importlib.import_module("redis").Redis(port=redis)
    try:
        keys = {key.decode(): client.ttl(key) for key in client.keys("metrics:*")}
        values = {key: json.loads(client.get(key)) for key in keys}
    finally:
        client.close()
    first, last = (time.gmtime(done.events[n]["timestamp"]) for n in (0, -1))
    if first.tm_hour != last.tm_hour:
        pytest.skip("the run went on past the hour")

    assert {key: flat(value) for key, value in values.items()} == {
        time.strftime("metrics:hourly:%Y-%m-%dT%H:00:00", first): near(recount(done.events), 5),
        time.strftime("metrics:daily:%Y-%m-%d", first): near(recount(done.events), 5),
    }
    lives = [keys[key] / 86_400 for key in sorted(keys)]
    assert lives == [pytest.approx(30, abs=0.01), pytest.approx(7, abs=0.01)]


def test_tutorials_program_counts_what_its_page_says(redis: int, tmp_path: Path) -> None:
    """The program of the how-to, short as it is, leaves its events, its KPIs and its buckets."""
    page = (ROOT / "docs" / "how-to" / "event-stream.md").read_text("utf-8")
    code = re.search(r"```python\n(.+?)```", page, re.DOTALL)
    said = dict(re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", page, re.MULTILINE))
    assert code is not None

    done = subprocess.run(  # noqa: S603 - our own page
        [sys.executable, "-W", "error", "-c", f"{PATIENT}\n{code[1]}"],
        cwd=tmp_path, env=environment(OTEL_AGENTS_REDIS_URL=f"redis://127.0.0.1:{redis}"),
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    metrics = ast.literal_eval(done.stdout)
    client = importlib.import_module("redis").Redis(port=redis)
    try:
        kept = [json.loads(client.get(key)) for key in client.keys("metrics:daily:*")]
    finally:
        client.close()

    assert len(said) == 4
    assert {name: metrics[name] for name in said} == {
        name: pytest.approx(float(value)) for name, value in said.items()
    }
    assert len((tmp_path / EVENTS).read_text().splitlines()) == metrics["counts"]["events"] == 8
    assert [flat(one) for one in kept] == [near(flat(metrics), 5)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Start `otel-agents serve` on free ports, and return the address of its console."""
    where = tmp_path / "server"
    where.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "otel_agents.cli", "serve", "--json",
         "--port", "0", "--otlp-http-port", "0", "--otlp-grpc-port", "0"],
        cwd=where, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())["data"]["console"]
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)


def get(address: str) -> str:
    """Return what a server answers."""
    with urllib.request.urlopen(address, timeout=20) as answer:  # noqa: S310 - on this machine
        text: str = answer.read().decode()
        return text


def gauge(text: str, name: str) -> float:
    """Return the value of a metric without labels."""
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    assert found is not None, name
    return float(found[1])


def test_server_that_has_the_port_shows_the_same(server: str, tmp_path: Path) -> None:
    """Sent to another otel-agents server, the events count the same in its API and `/metrics`."""
    before = get(f"{server}/metrics")
    done = run(tmp_path, "--port", server.rpartition(":")[2], "--pace", "0.01", "--run-id", "run-3",
               "--failure")  # fmt: skip
    figures = recount(done.events)

    def complete(query: str) -> dict[str, float] | None:
        found = flat(json.loads(get(f"{server}/api/kpis?{query}"))["data"])
        return found if found["events"] == len(done.events) else None

    assert "otelagents_hitl" not in before
    assert done.out.startswith(f"Watch it at {server}/live\n")
    assert wait_for(lambda: complete("run_id=run-3")) == near(figures, 5)
    assert wait_for(lambda: complete("window=24h")) == near(figures, 5)
    metrics = get(f"{server}/metrics")
    for name in ("agent_utilization", "critic_rejection_rate", "validation_pass_rate"):
        assert gauge(metrics, f"otelagents_kpi_{name}") == pytest.approx(figures[name], rel=1e-3)
    assert total(metrics, "otelagents_cost_total") == pytest.approx(figures["total_cost_usd"])
    assert total(metrics, "otelagents_critic_decisions_total") == figures["critic_decisions"]
    assert total(metrics, "otelagents_validations_total") == figures["validations"]
    assert total(metrics, "otelagents_agent_attempts_total") == figures["agents_completed"]
    assert total(metrics, "otelagents_hitl_escalations_total") == 1
    assert total(metrics, "otelagents_budget_events_total") == 2


def total(text: str, name: str) -> float:
    """Return the sum of a counter over its labels."""
    found = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)
    assert found, name
    return sum(float(value) for value in found)


# ------------------------------------------------------------------ without this and that


def test_stream_is_served_while_it_runs(tmp_path: Path) -> None:
    """With the server inside, the API knows the run while it goes on; then the port is free."""
    port = free_port()
    command = [sys.executable, EXAMPLE / "app.py", "--out", "out", "--pace", "0.1",
               "--port", str(port), "--run-id", "run-4"]  # fmt: skip
    with subprocess.Popen(  # noqa: S603 - our own program
        command, cwd=tmp_path, env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == f"Watch it at http://127.0.0.1:{port}/live\n"

        def counted() -> dict[str, Any] | None:
            text = get(f"http://127.0.0.1:{port}/api/kpis?run_id=run-4")
            counts: dict[str, Any] = json.loads(text)["data"]["counts"]
            return counts if counts["agents_completed"] else None

        while_it_ran = wait_for(counted)
        process.communicate(timeout=180)

    assert while_it_ran["tasks"] == 9
    assert process.returncode == 0
    assert not answers(port)


def test_without_the_servers_packages_it_says_one_sentence(tmp_path: Path) -> None:
    """It runs on to its end, having said what is missing and how to get it."""
    code = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({SERVER_PACKAGES!r})); "
        f"sys.path.insert(0, {str(EXAMPLE)!r}); sys.argv[1:] = ['--pace', '0', '--out', 'out']; "
        f"runpy.run_path({str(EXAMPLE / 'app.py')!r}, run_name='__main__')"
    )
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(),
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip

    assert done.returncode == 0
    assert "Delivered" in done.stdout
    said = [line for line in done.stderr.splitlines() if line.startswith("otel-agents")]
    assert len(said) == 1
    assert said[0].endswith("it needs more packages; pip install 'otel-agents[server]'")


def test_interrupted_run_is_cancelled(tmp_path: Path) -> None:
    """Ctrl-C in the midst of it: nothing is delivered, and the run is a cancelled one."""
    command(tmp_path, "init")
    started = [sys.executable, EXAMPLE / "app.py", "--out", "out", "--pace", "10", "--no-serve"]
    with subprocess.Popen(  # noqa: S603 - our own program
        started, cwd=tmp_path, env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        path = tmp_path / EVENTS
        wait_for(lambda: path.exists() and "agent_started" in path.read_text())
        process.send_signal(signal.SIGINT)
        out = process.communicate(timeout=20)[0]

    assert (process.returncode, out) == (130, "Interrupted; nothing is delivered.\n")
    assert command(tmp_path, "status")["status"] == "canceled"
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------ the agents' own work


@pytest.fixture
def landings(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Return a function that imports a module of the example's package."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    return lambda name: importlib.import_module(f"landings.{name}")


@pytest.mark.parametrize(
    ("column", "name", "cell", "value"),
    [
        ("day", "3 April", "3 April", "1911-04-03"),
        ("day", "month/day", "5/13", "1911-05-13"),
        ("day", "day/month", "5/13", None),
        ("paid", "£4 7s 6d", "£4 7s 6d", 1050),
        ("paid", "7/-", "87/-", 1044),
        ("weight", "3 cwt 2 qr 14 lb", "3 cwt 14 lb", 350),
        ("weight", "cwt-qr", "19-3", 2212),
        ("weight", "st-lb", "19-3", 269),
        ("weight", "nought for a stain", "2 cwt ? qr 3 lb", 227),
    ],
)
def test_notations_read_what_they_name(
    landings: Callable[[str], ModuleType], column: str, name: str, cell: str, value: object
) -> None:
    """Days are ISO dates, money is pence, weights are pounds; what is written otherwise is not."""
    found = {one.name: one for one in landings("notations").NOTATIONS[column]}

    assert found[name].read(cell) == value


def test_coder_gives_up_when_every_draft_was_turned_down(
    landings: Callable[[str], ModuleType],
) -> None:
    """Cells that no notation reads leave no draft, and the answer is not a good one."""
    agents, book = landings("agents"), landings("book")
    page = book.Page("page", [{"day": "the day after"}], {"day": ""})
    task = book.Task(page, "day")

    answer = agents.coder(task, agents.Memory(task))

    assert (answer.good, answer.draft) == (False, None)
    assert answer.cost > 0
