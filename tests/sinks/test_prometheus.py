"""The endpoint that a program serves its own metrics at."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import threading
from contextlib import closing, suppress
from typing import TYPE_CHECKING, NamedTuple

import pytest

from otel_agents import agent, iteration, phase, run
from otel_agents.errors import SettingsError
from otel_agents.sinks import prometheus as sink
from otel_agents.sinks.prometheus import PrometheusReader, make
from tests.scraping import Prometheus, prometheus, promtool, samples, value

__all__ = ["prometheus", "promtool"]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from otel_agents.testing import Captured

    Reading = Callable[..., PrometheusReader]

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
VIEWER = "viewer-token-0123456789"
ADMIN = "admin-token-0123456789"


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


def ask(
    reader: PrometheusReader, path: str = "/metrics", method: str = "GET", **headers: str
) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", reader.port, timeout=20)
    with closing(connection):
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, found, answer.read())


@pytest.fixture
def reading() -> Iterator[Reading]:
    """Return what serves on a free port; all are closed at the end."""
    made: list[PrometheusReader] = []

    def start(*tokens: str, host: str = "127.0.0.1") -> PrometheusReader:
        made.append(PrometheusReader(host, 0, tokens))
        return made[-1]

    yield start
    for reader in made:
        reader.close()


def work(error: BaseException | None = None) -> None:
    with suppress(ValueError, KeyboardInterrupt):
        with run("shop"), iteration(), phase("plan"), agent("planner"):
            if error is not None:
                raise error


def test_a_program_serves_what_it_counted(
    captured: Captured, reading: Reading, promtool: Callable[[bytes], None]
) -> None:
    """In both formats, with the numbers of the SDK's reader, for runs of each result."""
    for error in (None, ValueError("no"), KeyboardInterrupt()):
        work(error)
    reader = reading()

    plain = ask(reader)
    assert plain.status == 200
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    promtool(plain.body)
    found = samples(plain.text)
    for result in ("succeeded", "failed", "canceled"):
        counted = captured.metric("otelagents.runs.completed", result=result)
        assert value(found, "otelagents_runs_completed_total", result=result) == counted == 1
    assert samples(ask(reader, Accept=OPENMETRICS).text, openmetrics=True) == found


def test_the_real_prometheus_scrapes_a_program(
    captured: Captured, reading: Reading, prometheus: Prometheus
) -> None:
    """It answers quantiles of durations, and the counts are the program's."""
    for error in (None, None, ValueError("no"), KeyboardInterrupt()):
        work(error)
    reader = reading()
    job = prometheus.scrape(f"http://127.0.0.1:{reader.port}")

    completed = f'otelagents_runs_completed_total{{workflow="shop",job="{job}",result="%s"}}'
    for result, count in (("succeeded", 2), ("failed", 1), ("canceled", 1)):
        assert prometheus.number(completed % result) == count
        assert captured.metric("otelagents.runs.completed", result=result) == count
    durations = f'otelagents_run_duration_seconds_%s{{job="{job}"}}'
    assert prometheus.number(f"sum({durations % 'count'})") == 4
    quantile = f"histogram_quantile(0.95, sum by (le) ({durations % 'bucket'}))"
    p95 = prometheus.number(quantile)
    assert p95 is not None
    assert 0 < p95 <= 0.25
    # More comes in between scrapes, while several threads are at it.
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert prometheus.eventually(lambda: prometheus.number(completed % "succeeded") == 10)


def test_hostile_names_reach_prometheus_as_they_are(
    captured: Captured, reading: Reading, prometheus: Prometheus
) -> None:
    """A name that looks like a query or a line of the text is a name and nothing else."""
    names = {'"} or vector(1) #', "two\nlines", "back\\slash", "x" * 4000, "nul\x00l", "a\rb"}
    for name in names:
        with run(name):
            pass
    with run("half \ud800 a pair"):
        pass
    job = prometheus.scrape(f"http://127.0.0.1:{reading().port}")
    found = prometheus.query(f'otelagents_runs_started_total{{job="{job}"}}')
    assert {one["metric"]["workflow"] for one in found} == {*names, "half ? a pair"}


def test_nothing_but_reading_the_metrics_is_answered(captured: Captured, reading: Reading) -> None:
    """HEAD gives the headers alone; other methods and paths are refused."""
    work()
    reader = reading()
    head = ask(reader, method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert int(head.headers["content-length"]) > 1000
    assert ask(reader, "/metrics?name=x").status == 200
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        refused = ask(reader, method=method)
        assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")
    for path in ("/", "/metrics/", "/metrics/../etc", "/%6detrics"):
        assert ask(reader, path).status == 404


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9464", "localhost.evil.example", "", "127.0.0.1.", "a b"]
)
def test_a_foreign_name_that_leads_here_is_not_answered(
    captured: Captured, reading: Reading, host: str
) -> None:
    """A page of a foreign site can have its own name lead to this address (DNS rebinding)."""
    work()
    answer = ask(reading(), Host=host)
    assert answer.status == 421
    assert "otelagents" not in answer.text


@pytest.mark.parametrize("host", ["localhost", "localhost:9464", "127.0.0.1", "[::1]:9464"])
def test_the_names_of_this_machine_are_answered(
    captured: Captured, reading: Reading, host: str
) -> None:
    """Whoever asks from here knows it by one of these."""
    assert ask(reading(), Host=host).status == 200


def test_a_token_that_is_set_is_needed(captured: Captured, reading: Reading) -> None:
    """The admin's and the viewer's are taken, and no other."""
    work()
    reader = reading(ADMIN, VIEWER)
    for token in (ADMIN, VIEWER):
        assert ask(reader, Authorization=f"Bearer {token}").status == 200
    for header in ({}, {"Authorization": "Bearer no"}, {"Authorization": f"Basic {ADMIN}"}):
        answer = ask(reader, **header)
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == 'Bearer realm="otel-agents"'
        assert "otelagents" not in answer.text


def test_prometheus_scrapes_with_the_token(
    captured: Captured, reading: Reading, prometheus: Prometheus
) -> None:
    """As `authorization: {credentials: …}` of its configuration sends it."""
    work()
    job = prometheus.scrape(f"http://127.0.0.1:{reading(VIEWER).port}", token=VIEWER)
    assert prometheus.number(f'otelagents_runs_started_total{{job="{job}"}}') == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "metrics.example"])  # noqa: S104
def test_an_address_that_others_reach_needs_a_token(host: str) -> None:
    """Without one it is refused, in one sentence that says what to set."""
    with pytest.raises(SettingsError, match="OTEL_AGENTS_VIEWER_TOKEN") as raised:
        PrometheusReader(host, 0)
    assert "\n" not in str(raised.value)


def test_all_addresses_are_served_with_a_token(captured: Captured, reading: Reading) -> None:
    """A server in a container is asked by names that it does not know."""
    reader = reading(VIEWER, host="0.0.0.0")  # noqa: S104
    bearer = f"Bearer {VIEWER}"
    assert ask(reader, Host="shop.internal:9464", Authorization=bearer).status == 200
    assert ask(reader, Host="shop.internal:9464").status == 401


def test_a_port_that_is_taken_costs_one_sentence() -> None:
    """The sink is not made, which the program is warned of, and it goes on."""
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(SettingsError, match=f"127.0.0.1:{port} .* the port is taken"):
            make(f"//127.0.0.1:{port}", None)


def test_the_address_is_read_from_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """Host and port can be left out; the tokens are those of the settings."""
    made: list[tuple[str, int, list[str]]] = []
    monkeypatch.setattr(sink, "PrometheusReader", lambda *given: made.append(given))
    monkeypatch.setenv("OTEL_AGENTS_VIEWER_TOKEN", VIEWER)
    for rest in ("", "//", "//localhost", "//:9000", "//[::1]:9000/"):
        make(rest, None)
    assert made == [
        ("127.0.0.1", 9464, [VIEWER]), ("127.0.0.1", 9464, [VIEWER]),
        ("localhost", 9464, [VIEWER]), ("127.0.0.1", 9000, [VIEWER]), ("::1", 9000, [VIEWER]),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "rest",
    ["//127.0.0.1:x", "//127.0.0.1:99999", "//127.0.0.1/m", "//u@127.0.0.1", "//[::1", "9464"],
)
def test_a_url_that_is_no_address_is_refused(rest: str) -> None:
    """In one sentence that gives an example."""
    with pytest.raises(SettingsError, match=r"prometheus://127\.0\.0\.1:9464"):
        make(rest, None)


def test_a_closed_reader_frees_its_port(reading: Reading) -> None:
    """Another can take it at once; closing twice does no harm."""
    first = reading()
    assert ask(first).status == 200
    first.close()
    first.close()
    second = PrometheusReader("127.0.0.1", first.port)
    assert ask(second).status == 200
    second.close()


def test_connections_that_send_nothing_do_not_keep_others_out(
    captured: Captured, reading: Reading
) -> None:
    """The oldest is closed for the newest, and so few are held that threads cannot run out."""
    reader = reading()
    address = ("127.0.0.1", reader.port)
    silent = [socket.create_connection(address, timeout=20) for _ in range(sink._MOST * 3)]
    for _ in range(3):
        assert ask(reader).status == 200
    assert silent[0].recv(1) == b""

    def held() -> int:
        return sum("process_request_thread" in one.name for one in threading.enumerate())

    assert Prometheus.eventually(lambda: held() <= sink._MOST)
    for one in silent:
        one.close()


FORKING = """
import os, sys, urllib.request
from otel_agents import run
from otel_agents.sinks.prometheus import PrometheusReader

reader = PrometheusReader("127.0.0.1", 0)
url = f"http://127.0.0.1:{reader.port}/metrics"
with run("parent"):
    pass
ready, go = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    with run("child"):
        pass
    os.write(ready[1], b"x")
    os.read(go[0], 1)  # the parent has closed its socket by then
    try:
        PrometheusReader("127.0.0.1", reader.port).close()
    except Exception as error:
        print("child:", error, flush=True)
        os._exit(1)
    os._exit(0)
os.read(ready[0], 1)
said = urllib.request.urlopen(url, timeout=20).read().decode()
print("parent" in said, "child" in said)
reader.close()
os.write(go[1], b"x")
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_child_does_not_serve_its_parents_socket(tmp_path: Path) -> None:
    """The parent answers for itself; once it has closed, its port is free though a child lives."""
    environment = {**os.environ, "OTEL_AGENTS_SINKS": "", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", FORKING], env=environment, cwd=tmp_path, timeout=60,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["True", "False", "0"], done.stderr
