"""Programs with a spool are killed: every span that had ended by then is delivered by the next."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .apps import Apps, assert_delivered, beside, ended, forked, ledger_of, some
from .oracle import judge
from .served import HOST, PATIENCE, free_port, until

if TYPE_CHECKING:
    from .backend import Backend

pytestmark = [
    pytest.mark.xdist_group("chaos"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the spool needs the locks of POSIX"),
]

ROOT = Path(__file__).parents[2]
TASKS = 10
STOPPED_SECONDS = float(os.environ.get("CHAOS_STOPPED_SECONDS") or 2)
KILLS = int(os.environ.get("CHAOS_KILLS") or 30)


def test_kills_lose_no_span_that_had_ended(apps: Apps, backend: Backend, seed: int) -> None:
    """Forked children at random moments, with the backend there or away; once their parent too."""
    chance = random.Random(seed)  # noqa: S311 - to be repeatable
    parent = apps.start("forks")
    for number in range(KILLS):
        child = forked(parent)
        if chance.random() < 0.3:
            backend.down()
        some(apps, chance.randint(1, 1_500))
        time.sleep(chance.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        if number == KILLS // 2:
            ended(parent, signal.SIGKILL)
            parent = apps.start("forks")
        backend.down()
        backend.up()
    ended(parent)

    assert_delivered(apps, spans=KILLS * 100, note=f"{KILLS} kills, seed {seed}")


def test_without_a_spool_the_oracle_finds_what_a_kill_costs(apps: Apps) -> None:
    """The same program with the SDK's own queue, and with a backend that is there."""
    process = apps.start("forever", OTEL_AGENTS_SPOOL="")
    some(apps, 500)
    ended(process, signal.SIGKILL)
    ledger = ledger_of(apps.told)

    assert ledger.acked
    assert judge(ledger, apps.held()).lost


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_multiprocessing_lose_nothing(
    apps: Apps, backend: Backend, method: str
) -> None:
    """One comes to its end, one ends by `os._exit`, and one is killed."""
    backend.down()
    assert ended(apps.start(method)) == 0
    backend.up()

    assert_delivered(apps, spans=100, note=method)


def test_os_exit_loses_nothing(apps: Apps, backend: Backend) -> None:
    """Nothing of the program's end runs, and the backend is away."""
    backend.down()
    assert ended(apps.start("exit")) == 0
    backend.up()

    assert_delivered(apps, spans=50, note="os._exit")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_that_ends_a_program_loses_nothing(
    apps: Apps, backend: Backend, number: signal.Signals
) -> None:
    """Whether Python sees its end or not."""
    process = apps.start("forever")
    some(apps, 500)
    backend.down()
    some(apps, 500)
    assert ended(process, number) in {-number, 1, 130}
    backend.up()

    assert_delivered(apps, spans=200, note=number.name)


def test_celery_with_a_child_for_each_task_loses_nothing(apps: Apps, backend: Backend) -> None:
    """Prefork, `max_tasks_per_child=1`: each child ends by `os._exit` after its task."""
    pytest.importorskip("celery")
    broker = apps.home / "broker"
    (broker / "control").mkdir(parents=True)
    apps.environment |= {"CHAOS_BROKER": str(broker), "PYTHONPATH": str(ROOT)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHAOS_BROKER", str(broker))
        from .celery_app import work
    for _ in range(TASKS):
        work.delay(str(apps.told), 10)
    worker = apps.run(
        beside("celery"), "-A", "tests.chaos.celery_app", "worker", "--pool=prefork",
        "--concurrency=2", "--max-tasks-per-child=1", "--without-gossip", "--without-mingle",
        "--loglevel=ERROR",
    )  # fmt: skip
    until(lambda: len(ledger_of(apps.told).acked) == TASKS * 10, "the tasks", 60)
    backend.down()
    os.killpg(worker.pid, signal.SIGKILL)
    backend.up()

    assert_delivered(apps, spans=100, note="Celery")


@pytest.mark.parametrize("preload", [False, True])
def test_gunicorn_loses_nothing(apps: Apps, backend: Backend, *, preload: bool) -> None:
    """Workers that are killed, a worker that is told to end, and SIGTERM at the end."""
    pytest.importorskip("gunicorn")
    port = free_port()
    apps.environment |= {
        "CHAOS_TOLD": str(apps.told),
        "PYTHONPATH": str(ROOT),
        "HOME": str(apps.home),
    }
    server = apps.run(
        beside("gunicorn"), "--workers=2", f"--bind={HOST}:{port}",
        *(["--preload"] if preload else []), "--log-level=critical", "tests.chaos.wsgi_app:answer",
    )  # fmt: skip

    def ask(path: str) -> int:
        try:
            with closing(HTTPConnection(HOST, port, timeout=PATIENCE)) as made:
                made.request("GET", path)
                return int(made.getresponse().read())
        except (OSError, HTTPException):
            return 0

    until(lambda: ask("/"), "gunicorn", 60)
    for _ in range(5):
        ask("/die")
        until(lambda: ask("/"), "a worker", 60)
    backend.down()
    os.kill(ask("/"), signal.SIGTERM)
    until(lambda: ask("/"), "a worker", 60)
    assert ended(server, signal.SIGTERM) == 0
    backend.up()

    assert_delivered(apps, spans=100, note="gunicorn")


def test_a_program_that_stood_still_loses_nothing(apps: Apps, backend: Backend) -> None:
    """SIGSTOP and SIGCONT, the second time with the backend away."""
    process = apps.start("forever")
    for _ in range(2):
        some(apps, 500)
        process.send_signal(signal.SIGSTOP)
        time.sleep(STOPPED_SECONDS)  # the fault itself
        process.send_signal(signal.SIGCONT)
        backend.down()
    some(apps, 500)
    ended(process, signal.SIGKILL)
    backend.up()

    assert_delivered(apps, spans=500, note="SIGSTOP")
