"""The guarded example, run as a user runs it: all who tell of it say the same figures.

The same in Jaeger stands in tests/stack/test_guarded_in_stack.py.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# One worker has all of them, and runs the example once.
pytestmark = pytest.mark.xdist_group("guarded")

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "guarded"
README = (
    (ROOT / "examples" / "README.md")
    .read_text("utf-8")
    .partition("## The ticket machines")[2]
    .partition("\n## ")[0]
)
TOOLS = Path(sys.executable).parent
RUN = "ferry-1"
WAIT = f"commit-{RUN[:8]}"
STAGES = ["gannet-stairs", "kelp-wharf", "lantern-quay", "old-slip", "pilot-steps", "tern-skerry"]
SECONDS = 120
NOWHERE = {f"OTEL_{name}_EXPORTER": "none" for name in ("TRACES", "METRICS", "LOGS")}


def environment(**given: str) -> dict[str, str]:
    """Return the environment without settings of ours or of git, and with what is given."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "PYTHON", "GIT_"))}
    config = str(EXAMPLE / "otel-agents.toml")
    return kept | {"OTEL_AGENTS_CONFIG": config} | NOWHERE | given


def command(where: Path, *arguments: str, **given: str) -> subprocess.CompletedProcess[str]:
    """Run `otel-agents …` in a folder, as somebody at another terminal does."""
    return subprocess.run(  # noqa: S603 - ourselves
        [TOOLS / "otel-agents", *arguments],
        cwd=where, env=environment(**given), capture_output=True, text=True, timeout=SECONDS,
        check=False,
    )  # fmt: skip


def data(where: Path, *arguments: str) -> Any:
    """Return the data of `otel-agents … --json`."""
    done = command(where, *arguments, "--json")
    assert done.stdout, done.stderr
    return json.loads(done.stdout)["data"]


def eventually(question: Callable[[], Any]) -> Any:
    """Ask until there is an answer, and return it."""
    deadline = time.monotonic() + SECONDS
    while not (found := question()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return found


def begin(where: Path, *arguments: str, **given: str) -> subprocess.Popen[str]:
    """Make the repository and start the example in it, instrumented."""
    example = [sys.executable, EXAMPLE / "app.py"]
    made = where / "ferry"
    subprocess.run(  # noqa: S603 - our own program
        [*example, "--new", made], env=environment(), check=True, timeout=SECONDS
    )
    return subprocess.Popen(  # noqa: S603 - our own program
        [TOOLS / "opentelemetry-instrument", *example, "--pace", "0", *arguments],
        cwd=made, env=environment(**given), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def lines_until(process: subprocess.Popen[str], word: str) -> list[str]:
    """Return what a program says, up to a line with a word in it."""
    assert process.stdout is not None
    found: list[str] = []
    for line in process.stdout:
        found.append(line.rstrip("\n"))
        if word in line:
            return found
    raise AssertionError(found, process.stderr.read() if process.stderr else "")


class Seen(NamedTuple):
    """A run: its end, what it said, the repository, and the open wait as others saw it."""

    code: int
    said: list[str]
    wrong: str
    folder: Path
    asked: dict[str, Any]
    server: str

    def api(self, path: str) -> Any:
        """Return the data that the server answers."""
        with urllib.request.urlopen(f"{self.server}{path}", timeout=20) as answer:  # noqa: S310
            return json.load(answer)["data"]

    @property
    def status(self) -> dict[str, Any]:
        """What `otel-agents status` says of the run."""
        found: dict[str, Any] = data(self.folder, "status", "--run-id", RUN)
        return found

    def told(self, type_: str) -> list[dict[str, Any]]:
        """Return the attributes of what the server was told of a type, the earliest first."""
        found = self.api(f"/api/runs/{RUN}/events?limit=500")["items"]
        return [one["payload"]["attributes"] for one in found if one["type"] == type_]

    def events(self, type_: str) -> list[dict[str, Any]]:
        """Return the payloads of the run's events of a type."""
        return [
            one["otelagents.event.payload"]
            for told in (type_, "human.start")
            for one in self.told(told)
            if one.get("otelagents.event.type") == type_
        ]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """Start `otel-agents serve` with a workspace of its own; return the folder and the address."""
    where = tmp_path_factory.mktemp("guarded")
    ports = ("--port", "0", "--otlp-http-port", "0", "--otlp-grpc-port", "0")
    process = subprocess.Popen(  # noqa: S603 - ourselves
        [TOOLS / "otel-agents", "serve", "--json", *ports],
        cwd=where, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield where, json.loads(process.stdout.readline())["data"]["console"]
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)


@pytest.fixture(scope="module")
def seen(server: tuple[Path, str]) -> Seen:
    """Run it; answer its question by the command that it prints, in a process of its own."""
    where, address = server
    folder = where / "ferry"
    with begin(where, "--run-id", RUN) as process:
        said = lines_until(process, "hitl resolve")
        (asked,) = eventually(lambda: data(folder, "hitl", "list"))
        answered = command(folder, *said[-1].split()[1:], "--answer", "as agreed by telephone")
        rest, wrong = process.communicate(timeout=SECONDS)
    assert answered.returncode == 0, answered.stderr
    said += rest.splitlines()
    found = Seen(process.returncode, said, wrong, folder, asked, address)
    eventually(lambda: found.api(f"/api/runs/{RUN}")["status"] == "succeeded")
    return found


def git(folder: Path, *arguments: str) -> list[str]:
    """Return the lines that git says in the example's repository."""
    done = subprocess.run(  # noqa: S603
        ["git", *arguments],  # noqa: S607
        cwd=folder, env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


# ------------------------------------------------------------------ what it did


def test_account_of_the_run(seen: Seen) -> None:
    """It says who did what, who was stopped, what was wrong, and who decided."""
    account = re.sub(r"Committed as \w+", "Committed as COMMIT", "\n".join(seen.said))
    assert (seen.code, seen.wrong) == (0, "")
    for line in account.splitlines():
        assert line.strip() in README
    assert account.splitlines()[-1] == "Committed as COMMIT."


def test_all_settings_are_in_the_new_format_and_nothing_is_lost(seen: Seen) -> None:
    """Each stage's new file has what the old one had, and the old ones are gone."""
    there = sorted(path.name for path in seen.folder.iterdir() if path.name != ".git")
    assert there == [f"{stage}.toml" for stage in STAGES]
    for stage in STAGES:
        old = (EXAMPLE / "input" / f"{stage}.ini").read_text("utf-8")
        new = tomllib.loads((seen.folder / f"{stage}.toml").read_text("utf-8"))
        pence = {
            who: round(100 * float(fare)) for who, fare in re.findall(r"(\w+) = (\d.\d\d)", old)
        }
        days = {day: times.split() for day, times in re.findall(r"(\w+day) = (.+(?:\n .+)*)", old)}
        assert (new["pence"], new["crossings"]) == (pence, days)
        assert (new["stage"]["name"], str(new["stage"]["zone"])) == tuple(
            re.findall(r"(?:name|zone) = (.+)", old)
        )


def test_git_has_the_owners_commit_and_nothing_of_the_checkpoints(seen: Seen) -> None:
    """Two commits on the one branch, a clean tree, no stash: checkpoints are refs of their own."""
    refs = git(seen.folder, "for-each-ref", "--format=%(refname)")
    assert git(seen.folder, "log", "--format=%s") == [
        "Settings in the new format", "Settings as the machines have them",
    ]  # fmt: skip
    assert git(seen.folder, "status", "--short") == []
    assert git(seen.folder, "stash", "list") == []
    assert [ref for ref in refs if not ref.startswith("refs/otel-agents/")] == ["refs/heads/main"]


# ------------------------------------------------------------------ the same figures


def test_tokens_and_cost_are_the_same_everywhere(seen: Seen) -> None:
    """Status, report and usage of the API, and the README, to the token and beyond the cent."""
    status = seen.status
    report = seen.api(f"/api/runs/{RUN}")
    usage = seen.api(f"/api/usage?by=agent&run_id={RUN}")["items"]
    tokens = status["usage"]["total_tokens"]

    assert report["usage"]["total_tokens"] == tokens
    assert sum(one["usage"]["total_tokens"] for one in usage) == tokens
    assert (
        report["cost_usd"]
        == status["cost_usd"]
        == pytest.approx(sum(one["cost_usd"] for one in usage))
    )
    assert f"some {round(tokens, -2):,} tokens, USD {status['cost_usd']:.3f}" in README


def test_budgets_warn_and_stop_once_each(seen: Seen) -> None:
    """The migrator's is spent and enforced, the run's is nearly spent: events and status agree."""
    budgets = {one["scope"]: one for one in seen.status["budgets"]}
    warned = [(one["scope"], one["unit"]) for one in seen.events("budget_warning")]
    exceeded = seen.events("budget_exceeded")

    assert warned == [("agent migrator", "USD"), ("run", "USD")]
    assert [one["scope"] for one in exceeded] == ["agent migrator"]
    assert budgets == {one["scope"]: one for one in seen.api(f"/api/runs/{RUN}")["budgets"]}
    agent, run = budgets["agent"], budgets["run"]
    assert (agent["name"], agent["state"], agent["enforced"]) == ("migrator", "exceeded", True)
    assert (run["state"], run["enforced"]) == ("warning", False)
    assert exceeded[0]["spent"] == pytest.approx(agent["spent"])
    assert run["spent"] == pytest.approx(seen.status["cost_usd"])
    assert f"USD {agent['spent']:.4f}" in README


def test_wait_is_open_and_then_answered_from_the_other_terminal(seen: Seen) -> None:
    """While it is open it can be listed; then the answer stands in the API and the run's events."""
    item = seen.api(f"/api/hitl/{WAIT}")
    told = seen.events("hitl_escalated")

    assert (seen.asked["id"], seen.asked["status"]) == (WAIT, "open")
    assert (seen.asked["agent"], seen.asked["priority"]) == ("clerk", "high")
    assert seen.asked["reason"] == "Commit the new settings of 6 stages?"
    assert (item["decision"], item["answer"], item["answered_by"]) == (
        "approved", "as agreed by telephone", "cli",
    )  # fmt: skip
    assert item["closed_at"] is not None
    assert [(one["wait_id"], one["priority"]) for one in told] == [(WAIT, "high")]
    assert data(seen.folder, "hitl", "list") == []


def test_waiting_is_no_work(seen: Seen) -> None:
    """The seconds waited are those of the wait, on the run and on the clerk, beside its work."""
    waited = seen.api(f"/api/hitl/{WAIT}")["age_seconds"]
    status = seen.status
    agents = {one["name"]: one["waiting_seconds"] for one in status["agents"]["items"]}
    phases = {one["name"]: one["waiting_seconds"] for one in status["phases"]}
    (ended,) = seen.told("run.end")

    assert waited > 0
    assert status["waiting_seconds"] == pytest.approx(waited, abs=0.002)
    assert agents["clerk"] == phases["publish"] == status["waiting_seconds"]
    assert sum(agents.values()) == agents["clerk"]
    assert ended["otelagents.wait.seconds"] == pytest.approx(waited, abs=0.002)


def test_events_and_kpis_are_the_same_in_terminal_and_server(seen: Seen) -> None:
    """The command finds each guard's event, and both count the same six tasks and one retry."""
    types = ("budget_warning", "budget_exceeded", "hitl_escalated")
    listed = data(seen.folder, "events", "--run-id", RUN, "--type", ",".join(types))
    kpis = dict(seen.status["kpis"])
    counts = kpis.pop("counts")
    served = seen.api(f"/api/kpis?run_id={RUN}")

    told = [(type_, payload) for type_ in types for payload in seen.events(type_)]
    assert len(told) == 4
    assert sorted(((one["type"], one["payload"]) for one in listed), key=str) == sorted(
        told, key=str
    )
    assert (counts["tasks"], counts["retries"], counts["validations_passed"]) == (6, 1, 6)
    assert (served["kpis"], served["counts"]) == (kpis, counts)


def test_restore_went_back_to_a_checkpoint_of_this_run(seen: Seen) -> None:
    """The command lists the checkpoint that was restored, and the one that undoes that."""
    kept = {one["id"]: one for one in data(seen.folder, "checkpoint", "list")}
    (began,) = seen.told("restore.start")
    (ended,) = seen.told("restore.end")
    restored = kept[began["otelagents.checkpoint.id"]]
    undo = kept[ended["otelagents.restore.undo.id"]]

    assert (restored["run_id"], restored["task_id"]) == (RUN, "pilot-steps")
    assert undo["undo_of"] == restored["id"]
    assert ended["otelagents.restore.changed"] == 2
    told = {one["otelagents.checkpoint.id"] for one in seen.told("checkpoint")}
    assert told == kept.keys() - {undo["id"]}
    spoiled = git(seen.folder, "show", f"{undo['commit']}:pilot-steps.toml")
    assert 'weekday = ["07:30", "08:10", "08:50", "12:30", "13:10"]' in spoiled
    assert "pilot-steps.ini" not in git(seen.folder, "ls-tree", "--name-only", undo["commit"])


# ------------------------------------------------------------------ otherwise


def test_rejected_settings_are_not_committed(tmp_path: Path) -> None:
    """The owner may say no: the work lies in the tree, and the program says so."""
    command(tmp_path, "init")
    with begin(tmp_path, "--answer", "reject") as process:
        said, wrong = process.communicate(timeout=SECONDS)
    assert (process.returncode, wrong) == (1, "")
    assert said.endswith("Nothing is committed: the owner's answer was rejected.\n")
    assert len(git(tmp_path / "ferry", "log", "--format=%h")) == 1
    assert (tmp_path / "ferry" / "tern-skerry.toml").is_file()


def test_interrupted_wait_is_cancelled_and_asks_nobody_any_more(tmp_path: Path) -> None:
    """Ctrl-C while the owner is asked: exit code 130, a cancelled run, a wait that is closed."""
    command(tmp_path, "init")
    with begin(tmp_path, "--run-id", RUN) as process:
        lines_until(process, "hitl resolve")
        eventually(lambda: data(tmp_path, "hitl", "list"))
        process.send_signal(signal.SIGINT)
        said, wrong = process.communicate(timeout=SECONDS)
    assert (process.returncode, wrong) == (130, "")
    assert said == "Interrupted; nothing is committed.\n"
    assert data(tmp_path, "status")["status"] == "canceled"
    assert data(tmp_path, "hitl", "list") == []
    late = command(tmp_path, "hitl", "resolve", WAIT, "--approve")
    assert late.returncode == 1


def test_without_telemetry_it_is_careless_and_waits_for_its_own_answer(tmp_path: Path) -> None:
    """Not instrumented, nothing is stopped nor restored: the dear agent does everything itself."""
    made = tmp_path / "ferry"
    example = [sys.executable, EXAMPLE / "app.py"]
    kept = {name: value for name, value in environment().items() if not name.startswith("OTEL_")}
    for arguments in (["--new", made], ["--pace", "0", "--answer", "approve"]):
        done = subprocess.run(  # noqa: S603 - our own program
            [*example, *arguments],
            cwd=made if made.exists() else tmp_path, env=kept, capture_output=True, text=True,
            timeout=SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0
        assert all(line.startswith("otel-agents: ") for line in done.stderr.splitlines())
    assert "apprentice" not in done.stdout
    assert git(made, "status", "--short") == []


def test_outside_of_such_a_repository_it_says_how_to_make_one(tmp_path: Path) -> None:
    """A folder without settings is wrong usage, and an own folder is never overwritten."""
    with subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, EXAMPLE / "app.py"],
        cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        _, wrong = process.communicate(timeout=SECONDS)
    assert (process.returncode, "--new" in wrong) == (2, True)

    (tmp_path / "mine.txt").write_text("mine")
    again = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, EXAMPLE / "app.py", "--new", tmp_path],
        env=environment(), capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert again.returncode == 2
    assert "left alone" in again.stderr
    assert (tmp_path / "mine.txt").read_text() == "mine"
