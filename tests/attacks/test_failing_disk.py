"""A disk that is full, has no inode left or fails, and a process without descriptors (48).

The faults are put between the program and the C library, for its store's directory only, while
the program runs. Clocks that jump, forks and SIGSTOP are tests/chaos' and tests/boundary's.
"""

from __future__ import annotations

import http.client
import json
import os
import resource
import shutil
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from otel_agents.receiver.decode import TRACES
from otel_agents.store import Store
from tests.chaos.clients import once
from tests.chaos.served import HOST, PATIENCE, Served, until
from tests.store.build import number, request, trace_number

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="preloading as Linux does it")

SOURCE: Final = Path(__file__).with_name("faults.c")
ROOT: Final = Path(__file__).parents[2]
FAULTS: Final = ("write ENOSPC", "write EIO", "sync EIO", "create ENOSPC")


@pytest.fixture(scope="session")
def preloaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that makes the disk fail."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        message = "no C compiler (Debian: gcc)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    made = tmp_path_factory.mktemp("faults") / "faults.so"
    subprocess.run(  # noqa: S603
        [compiler, "-shared", "-fPIC", "-O1", "-o", str(made), str(SOURCE), "-ldl"], check=True
    )
    return made


class Disk:
    """A directory whose disk a test can make fail."""

    def __init__(self, home: Path, library: Path) -> None:
        self.home = home / "disk"
        self.home.mkdir()
        self._says = home / "fault"
        self.environment = {
            "LD_PRELOAD": str(library), "FAULT_ROOT": str(self.home), "FAULT_FILE": str(self._says),
        }  # fmt: skip

    def fails(self, how: str) -> None:
        """Have it fail from now on; with "" it is well again."""
        self._says.write_text(how)


@pytest.fixture
def disk(tmp_path: Path, preloaded: Path) -> Disk:
    """A disk that is well."""
    return Disk(tmp_path, preloaded)


def post(connection: http.client.HTTPConnection, one: int) -> http.client.HTTPResponse:
    """Send a trace; the answer's body is read."""
    body = request({"trace": trace_number(one), "span": number(one)}).SerializeToString()
    connection.request("POST", TRACES.path, body, {"Content-Type": "application/x-protobuf"})
    answer = connection.getresponse()
    answer.read()
    return answer


def sent(served: Served, one: int) -> http.client.HTTPResponse:
    """Send a trace on a connection of its own."""
    made = http.client.HTTPConnection(HOST, served.otlp_http, timeout=PATIENCE)
    with closing(made):
        return post(made, one)


def status(served: Served, path: str) -> int:
    """Return the status of an answer of the console's port."""
    made = http.client.HTTPConnection(HOST, served.console, timeout=PATIENCE)
    with closing(made):
        made.request("GET", path)
        answer = made.getresponse()
        answer.read()
        return answer.status


@pytest.mark.parametrize("how", FAULTS)
def test_a_server_whose_disk_fails_turns_away_reads_on_and_recovers(
    tmp_path: Path, disk: Disk, how: str
) -> None:
    """503 with Retry-After, and not ready; what was acknowledged is read all the time."""
    url = f"sqlite:///{disk.home / 'store.db'}"
    with Served(tmp_path, url, environment=disk.environment) as served:
        before = once(served, 1, "before")
        assert sent(served, 1).status == 200
        until(served.caught_up, "the index")
        disk.fails(how)
        refused = sent(served, 2)
        if how != "create ENOSPC":  # nothing has to be made: the files are there
            assert refused.status == 503
            assert int(refused.headers["Retry-After"]) > 0
            until(lambda: status(served, "/readyz") == 503, "not ready", 30)
            assert [sent(served, 2).status for _ in range(20)] == [503] * 20
        assert status(served, "/healthz") == 200
        assert {one["run_id"] for one in served.pages("/api/runs")} >= set(before.runs)
        assert served.data(f"/api/traces/{trace_number(1).hex()}")["spans"]
        disk.fails("")
        until(lambda: status(served, "/readyz") == 200, "ready again")
        after = once(served, 2, "after")
        assert sent(served, 3).status == 200
        until(served.caught_up, "the index")
        runs = {one["run_id"] for one in served.pages("/api/runs")}
        traces = {one["trace_id"] for one in served.pages("/api/traces")}

    assert runs >= {*before.runs, *after.runs}
    assert {trace_number(one).hex() for one in (1, 3)} <= traces
    assert trace_number(2).hex() not in traces or how == "create ENOSPC"
    assert "Traceback" not in served.said


def test_a_server_that_cannot_read_says_so_and_recovers(tmp_path: Path, disk: Disk) -> None:
    """An answer of the API is 503 in a sentence; once the disk reads again all is there."""
    url = f"sqlite:///{disk.home / 'store.db'}"
    with Served(tmp_path, url, environment=disk.environment) as served:
        before = once(served, 1, "before")
        served.kill()
        served.start()  # what it has in memory it need not read
        disk.fails("read EIO")
        failed = status(served, "/api/logs")
        assert failed in {200, 503}
        assert status(served, "/healthz") == 200
        disk.fails("")
        until(lambda: status(served, "/api/logs") == 200, "reads")
        runs = {one["run_id"] for one in served.pages("/api/runs")}

    assert runs >= set(before.runs)
    assert "Traceback" not in served.said


@pytest.mark.parametrize("how", ["write ENOSPC", "write EIO", "create ENOSPC", "read EIO"])
def test_a_server_that_cannot_make_its_store_says_why(disk: Disk, how: str) -> None:
    """One sentence and exit code 1; without the fault it starts."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
    disk.fails(how)
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "otel_agents.cli", "serve", "--port", "0", "--otlp-http-port", "0",
         "--otlp-grpc-port", "0", "--store", f"sqlite:///{disk.home / 'store.db'}"],
        cwd=disk.home.parent, env={**kept, **disk.environment}, capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip

    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("otel-agents: ")
    assert done.stderr.count("\n") == 1


def test_a_server_without_descriptors_goes_on_with_whom_it_knows(tmp_path: Path) -> None:
    """New connections wait; those that are open are answered, and all is well afterwards."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    with Served(tmp_path, url) as served:
        once(served, 1, "before")
        known = http.client.HTTPConnection(HOST, served.otlp_http, timeout=PATIENCE)
        reader = http.client.HTTPConnection(HOST, served.console, timeout=PATIENCE)
        with closing(known), closing(reader):
            assert post(known, 1).status == 200
            reader.request("GET", "/healthz")
            reader.getresponse().read()
            pid = served.running.pid
            limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            used = {int(one.name) for one in Path(f"/proc/{pid}/fd").iterdir()}
            free = min(set(range(len(used) + 1)) - used)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (free, limits[1]))
            late = http.client.HTTPConnection(HOST, served.console, timeout=2)
            late.request("GET", "/healthz")
            with pytest.raises((TimeoutError, ConnectionError)):  # the control: there is none
                late.getresponse()
            late.close()
            assert post(known, 2).status in {200, 503}
            reader.request("GET", "/healthz")
            answer = reader.getresponse()
            answer.read()
            assert answer.status == 200
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
            until(served.is_ready, "new connections")
            assert post(known, 3).status == 200
        until(served.caught_up, "the index")
        traces = {one["trace_id"] for one in served.pages("/api/traces")}

    assert {trace_number(one).hex() for one in (1, 3)} <= traces


_PROGRAM: Final = """
    import json, logging, os, resource, sys
    from pathlib import Path
    import otel_agents as oa
    from otel_agents import runtime
    from otel_agents.metrics import Metrics
    from opentelemetry import metrics
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    says, how = Path(os.environ["FAULT_FILE"]), sys.argv[1]
    oa.run, oa.agent  # what cannot be imported cannot be used: as any module of the program

    def work(name):
        done = 0
        for number in range(50):
            try:
                with oa.run(name, id=f"{name}-{number}"), oa.agent("writer"):
                    logging.getLogger("host").warning("%s %d", name, number)
                    if number % 10 == 9:
                        raise ValueError(number)
            except ValueError:
                pass
            done += 1
        return done

    def fails(on):
        if how == "descriptors":
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (3 if on else hard, hard))
        else:
            says.write_text(how if on else "")

    pipeline = lambda: runtime.get().require_pipeline()
    if "late" not in sys.argv:
        assert work("before") == 50
        assert pipeline().flush(60)
    fails(True)
    during = work("during")
    try:
        pipeline().flush(0.5)
    except OSError:
        pass  # there is none: it could not be set up
    fails(False)
    runtime._holder._again = 0.0  # as if the minute were over until it is set up again
    after = work("after")
    flushed = pipeline().flush(60)
    dropped = 0
    for of_resource in reader.get_metrics_data().resource_metrics:
        for scope in of_resource.scope_metrics:
            for metric in scope.metrics:
                if metric.name == "otelagents.telemetry.dropped":
                    for point in metric.data.data_points:
                        if point.attributes["sink"] != "agent_logs":
                            dropped += point.value
    print(json.dumps({"during": during, "after": after, "dropped": dropped}))
    sys.exit(7)
"""


@pytest.mark.parametrize("how", [*FAULTS, "descriptors"])
@pytest.mark.parametrize("when", ["open", "late"])
def test_a_program_whose_disk_fails_goes_on(disk: Disk, how: str, when: str) -> None:
    """Its work and exit code are its own; what is missing was counted; afterwards all is kept."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
    home = disk.home / ".otel-agents"
    cli = [sys.executable, "-m", "otel_agents.cli", "init", str(disk.home)]
    subprocess.run(cli, env=kept, check=True, capture_output=True)  # noqa: S603
    done = subprocess.run(  # noqa: S603 - the test's own program
        [sys.executable, "-c", textwrap.dedent(_PROGRAM), how, when],
        cwd=disk.home.parent, env={
            **kept, **disk.environment, "OTEL_AGENTS_HOME": str(home), "PYTHONPATH": str(ROOT),
            "OTEL_AGENTS_SINKS": "jsonl:,sqlite:", "OTEL_TRACES_EXPORTER": "none",
        },
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip

    assert done.returncode == 7, done.stderr
    said = json.loads(done.stdout)
    assert (said["during"], said["after"]) == (50, 50)
    assert "Traceback" not in done.stderr
    after = {f"after-{one}" for one in range(50)}
    told, stored = _told(home), _stored(home)
    assert after <= told
    assert stored >= (after if when == "open" else set())
    if when == "open":
        assert {f"before-{one}" for one in range(50)} <= told & stored
    elif not after <= stored:  # it could not be opened a moment ago, and is not tried at once
        assert said["dropped"] >= len(after - stored)
    if (how, when) == ("descriptors", "late"):  # nothing was there yet that could count
        assert "Too many open files" in done.stderr
        return
    for kept in (told, stored):
        assert {f"during-{one}" for one in range(50)} <= kept or said["dropped"] > 0


def _told(home: Path) -> set[str]:
    """Return the runs whose end is in the file of signals."""
    lines = [json.loads(one) for one in (home / "signals.jsonl").read_bytes().splitlines() if one]
    return {one["ids"]["run_id"] for one in lines if (one["kind"], one["edge"]) == ("run", "end")}


def _stored(home: Path) -> set[str]:
    """Return the runs whose end is in the store."""
    store = Store(f"sqlite:///{home / 'otel-agents.db'}")
    try:
        assert store.settle()
        rows: list[dict[str, Any]] = []
        cursor = None
        while True:
            page = store.runs(limit=500, cursor=cursor)
            rows += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                break
    finally:
        store.close()
    return {one["run_id"] for one in rows if one["ended_at"]}
