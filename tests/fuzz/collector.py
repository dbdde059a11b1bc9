"""The real collector beside our receiver: the same bytes to both, and what each makes of them."""

from __future__ import annotations

import gzip
import http.client
import http.server
import json
import os
import sys
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from google.protobuf.message import DecodeError

from otel_agents.receiver.decode import KINDS, METRICS
from tests.fuzz import reference
from tests.fuzz.mutate import mutated, of_json, of_wire
from tests.fuzz.otlp import headed
from tests.fuzz.targets import CORPUS
from tests.receiver.kit import Remembering, http_receiver
from tests.receiver.messages import elements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "deploy" / "native"))

import components
import parts
import processes

# Each request is answered once it was sent on, so that what came of it is known then.
_CONFIG: Final = """
receivers: {{otlp: {{protocols: {{http: {{endpoint: "{endpoint}"}}}}}}}}
exporters:
  otlp_http:
    endpoint: "{sink}"
    compression: none
    sending_queue: {{enabled: false}}
    retry_on_failure: {{enabled: false}}
service:
  telemetry: {{metrics: {{level: none}}, logs: {{level: error}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [otlp_http]}}
    metrics: {{receivers: [otlp], exporters: [otlp_http]}}
    logs: {{receivers: [otlp], exporters: [otlp_http]}}
"""
_KINDS: Final = {kind.path: kind for kind in KINDS}


class Said(NamedTuple):
    """What became of a request: the class of its status, items taken and rejected, and the answer.

    The class is 2 for a success, 4 for a request that is not to be sent again.
    """

    answer: int
    taken: int
    rejected: int
    body: bytes


def program() -> Path | None:
    """Return the collector where it is installed."""
    found = parts.collector_path()
    return found if found.is_file() else None


class Departure(NamedTuple):
    """Where the two differ on purpose: what each answers, and what shows that this is the case.

    `shown` is asked with the body, whether it is JSON, and what each said.
    """

    name: str
    ours: int
    theirs: int
    shown: Callable[[bytes, bool, Said, Said], bool]


def _utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _says(*words: bytes) -> Callable[[bytes, bool, Said, Said], bool]:
    return lambda _body, _json, _ours, theirs: any(word in theirs.body for word in words)


def _we_say(*words: bytes) -> Callable[[bytes, bool, Said, Said], bool]:
    return lambda _body, _json, ours, _theirs: any(word in ours.body for word in words)


def _twice(body: bytes, as_json: bool, _ours: Said, _theirs: Said) -> bool:
    """Say whether a key comes twice in one object."""
    if not as_json:
        return False
    found = []

    def pairs(members: list[tuple[str, Any]]) -> None:
        names = [name for name, _ in members]
        found.append(len(names) > len(set(names)))

    json.loads(body.decode(), object_pairs_hook=pairs)
    return any(found)


def _spelled_oddly(body: bytes, as_json: bool, _ours: Said, _theirs: Said) -> bool:
    if not as_json:
        return False
    found = [reference.from_json(kind.request, body)[1] for kind in KINDS]
    return bool(set().union(*found) & {"no number of an enum", "no number", "no base64"})


DEPARTURES: Final = (
    Departure("an id of a wrong length: it refuses all, we take what else there is", 2, 4,
              _says(b"invalid TraceID length", b"invalid SpanID length", b"length mismatch")),
    Departure("a known field of another wire type: unknown to us, as protobuf has it", 2, 4,
              _says(b"wrong wireType")),
    Departure("no body at all is an empty request in JSON too", 2, 4,
              lambda body, as_json, *_: as_json and not body),
    Departure("text that is not UTF-8: it takes it, and sends it on", 4, 2,
              lambda body, *_: not _utf8(body)),
    Departure("what is no JSON and no text: its own answer cannot be written", 4, 5,
              _says(b"failed to marshal error message")),
    Departure("something behind the JSON: it does not look", 4, 2,
              _we_say(b"trailing characters")),
    Departure("a key that comes twice: it joins the lists, we keep the last", 2, 2, _twice),
    Departure("a key that comes twice: it reads what we pass over", 2, 4, _twice),
    Departure("a key that comes twice: it passes over what we read", 4, 2, _twice),
    Departure("an empty key: its reader ends the object there", 2, 4,
              lambda body, as_json, *_: as_json and b'"":' in body),
    Departure("a name for a number, or a number or base64 that no specification has", 4, 2,
              _spelled_oddly),
    Departure("null in a list: it takes it for an empty message", 4, 2,
              _we_say(b"is not a JSON object")),
    Departure("values nested deeper than 40", 4, 2,
              _we_say(b"nested deeper", b"nested too deeply")),
    Departure("a metric's data given twice: protobuf joins them, it keeps the last", 2, 2,
              lambda body, as_json, *_: not as_json and reference.has_two_of_one(METRICS, body)),
)  # fmt: skip


def departure(data: bytes, ours: Said, theirs: Said) -> str | None:
    """Return why the two differ: "" where they do not, None where nothing documented says so."""
    if ours.answer == theirs.answer and ours.taken + ours.rejected == theirs.taken:
        return ""
    words, body = headed(data)
    for one in DEPARTURES:
        same = one.ours == ours.answer and one.theirs == theirs.answer
        if same and one.shown(body, "json" in words, ours, theirs):
            return one.name
    return None


_SEEDS: Final = ("traces", "metrics", "logs", "traces-in-json", "metrics-in-json", "logs-in-json")


def requests(count: int, first: int = 0) -> Iterator[bytes]:
    """Yield requests that are always the same: good ones, and those changed once or more."""
    seeds = [(CORPUS / "http" / name).read_bytes() for name in _SEEDS]
    for number in range(first, first + count):
        random = Random(number)  # noqa: S311 - chance, no secret
        head, _, body = random.choice(seeds).partition(b"\n")
        kind, *words = head.split()
        as_json = b"json" in words
        for _ in range(random.randint(0, 2)):
            body = mutated(body, of_json if as_json else of_wire, random)
        said = b" ".join((kind, b"json" if as_json else b"protobuf"))
        yield said + (b" gzipped\n" if random.randrange(5) == 0 else b"\n") + body


class Both:
    """A collector and a receiver of ours, asked the same."""

    def __init__(self, collector: str, counted: list[int], ours: Any) -> None:
        self._collector = http.client.HTTPConnection(collector, timeout=20)
        self._counted = counted
        self._ours = http.client.HTTPConnection("127.0.0.1", ours.port, timeout=20)
        self._store: Remembering = ours.store

    def close(self) -> None:
        """Hang up."""
        self._collector.close()
        self._ours.close()

    def ask(self, data: bytes) -> tuple[Said, Said]:
        """Send one input of the target `http` to both; return what we say, and what it says."""
        words, body = headed(data)
        path = next((f"/v1/{name}" for name in words if f"/v1/{name}" in _KINDS), "/v1/traces")
        headers = {"content-type": f"application/{'json' if 'json' in words else 'x-protobuf'}"}
        if "gzipped" in words:
            body = gzip.compress(body, 1, mtime=0)
            headers["content-encoding"] = "gzip"
        self._store.batches.clear()
        status, answer = _sent(self._ours, path, body, headers)
        taken = (
            self._store.spans + len(self._store.logs) + len(self._store.signals)
            + len(self._store.points)
        )  # fmt: skip
        ours = Said(status // 100, taken, _rejected(path, answer, headers), answer)
        self._counted.clear()
        status, answer = _sent(self._collector, path, body, headers)
        return ours, Said(status // 100, sum(self._counted), 0, answer)


def _sent(
    connection: http.client.HTTPConnection, path: str, body: bytes, headers: dict[str, str]
) -> tuple[int, bytes]:
    for again in (True, False):
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            connection.close()  # closed after a refusal; opened anew by the next request
            if not again:
                raise
    raise AssertionError


def _rejected(path: str, answer: bytes, headers: dict[str, str]) -> int:
    kind = _KINDS[path]
    if "json" in headers["content-type"]:
        partial = json.loads(answer).get("partialSuccess", {})
        return int(next((value for name, value in partial.items() if name != "errorMessage"), 0))
    try:
        response: Any = kind.response.FromString(answer)
    except Exception:  # noqa: BLE001 - a Status
        return 0
    return int(getattr(response.partial_success, kind.rejected))


@contextmanager
def both(otelcol: Path, folder: Path) -> Iterator[Both]:
    """Run the collector, what it sends to, and our receiver."""
    counted: list[int] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            try:
                counted.append(len(list(elements(_KINDS[self.path].request.FromString(body)))))
            except DecodeError:  # what it takes in and sends on need not be text
                counted.append(0)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with ExitStack() as stack:
        sink = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        sink.daemon_threads = True
        thread = threading.Thread(target=sink.serve_forever)
        thread.start()
        stack.callback(thread.join)
        stack.callback(sink.server_close)
        stack.callback(sink.shutdown)
        endpoint = f"127.0.0.1:{components.choose_ports(default=False)['otlp_http']}"
        file = folder / "collector.yaml"
        address = f"http://127.0.0.1:{sink.server_port}"
        file.write_text(_CONFIG.format(endpoint=endpoint, sink=address))
        log = folder / "collector.log"
        running = processes.spawn((otelcol, f"--config={file}"), {"PATH": os.environ["PATH"]}, log)
        stack.callback(processes.end, [running])
        assert processes.wait_for(lambda: _answers(endpoint), 30), log.read_text()[-2000:]
        made = Both(endpoint, counted, stack.enter_context(http_receiver(Remembering())))
        stack.callback(made.close)
        yield made


def _answers(endpoint: str) -> bool:
    connection = http.client.HTTPConnection(endpoint, timeout=2)
    try:
        connection.request("POST", "/v1/traces", b"", {"content-type": "application/x-protobuf"})
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
