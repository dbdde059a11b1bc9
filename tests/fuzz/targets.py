"""Every target: what it is called, what it holds to, and how its inputs are changed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.fuzz import mutate, otlp, segments, served, texts, wires

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

CORPUS: Final = Path(__file__).with_name("corpus")


class Target(NamedTuple):
    """What takes any bytes and raises where a property does not hold; and who changes the bytes.

    The first line of `run`'s docstring says what the property is.
    """

    name: str
    run: Callable[[bytes], None]
    mutator: Callable[[bytes, Random], bytes]

    @property
    def seeds(self) -> list[Path]:
        """The inputs in the repository: where to begin, and all that ever failed."""
        return sorted(path for path in (CORPUS / self.name).iterdir() if path.is_file())


_TOML: Final = (
    '[[wrap]]\ntarget = "a:b"\nscope = "run"\n', '[prices."m"]\ninput = 1.0\n', "[redact]\n",
    "[[budget]]\nusd = 5.0\n", "[checkpoint]\nauto = true\n", "[store]\n", "---\n", "names = []\n",
    'sinks = ["jsonl:"]\n', "OTEL_AGENTS_TOKEN=", "OTEL_AGENTS_SINKS=none\n", "spool = 1\n", "nan",
    'patterns = ["("]\n', 'name = "{x}"\n', "fields = {a = 1}\n", "1e400", "1" * 400, "inf", "[]",
    "OTEL_AGENTS_HOME=~nobody\n", '"\\u0000"', "2020-01-01", "attributes.a.b = 1\n", "{}", "true",
    "url = 1\n", "warn_at = 2\n", "enforce = 1\n", "scope = []\n", "name = {}\n", "tokens = 1.5\n",
    "[tool.otel-agents]\n", "keep = 0\n", "max_seconds = 1\n", "redis_url = 1\n", "=", "[", "]",
    'semconv = "latest"\n', 'write_tools = ["x"]\n', "capture_stdout = 2\n", "usd", "seconds", '"',
    "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=x\n", "OTEL_SDK_DISABLED=x\n", "-", "'''",
)  # fmt: skip
_TEMPLATE: Final = (
    "{", "}", "{{", "}}", "{x}", "{self.a}", "{x[0]}", "{x[-1].b}", "{x['k']}", '{x["k"]}', ".",
    "{x[k]}", "{result}", "._x", "__class__", "[", "]", "{x.fails}", "()", "!r", ":>9", "9" * 5000,
    "\u0663", "\u00b2", "\ud800", "\U0001f600", "'", '"', "\n", "cls",
)  # fmt: skip
_SIGNAL_KEYS: Final = (
    "id", "kind", "edge", "time", "scope_id", "parent_id", "name", "ids", "trace_id", "span_id",
    "result", "duration", "usage", "cost", "unpriced_tokens", "models", "error", "attributes",
    "pid", "host", "run_id", "agent_id", "agent", "task_id", "iteration", "phase", "worker_id",
    "parent_agent_id", "work_order_id", "correlation_id", "workflow", "type", "message", "where",
    "otelagents.event.type", "otelagents.event.payload", "otelagents.task.state", "payload", "seq",
    "timestamp", "from", "to", "input_tokens", "output_tokens", "provider", "model", "unpriced",
    "otelagents.progress.details", "otelagents.run.goal", "otelagents.passed", "edge", "kind",
    "otelagents.wait.id", "otelagents.usage.total.input_tokens", "otelagents.cost.total", "wait",
    "otelagents.iteration.max", "otelagents.progress.share", "kind", "duration_seconds", "cost_usd",
)  # fmt: skip
_SIGNAL_VALUES: Final = (
    *mutate._VALUES, "run", "agent", "phase", "gate", "iteration", "task", "human", "validation",
    "worker", "breaker", "runtime", "delivery", "budget", "checkpoint", "start", "progress", "end",
    "fact", "success", "failure", "cancelled", "skipped", "PENDING", "task_queued", 1e308, 5e-324,
    "agent_started", "critic_decision", "2026-11-21T14:00:00Z", "0000-00-00", [{"model": "m"}],
    "run:started", {"run_id": "r"}, {"task_spec": {"goal": 1}}, {"metrics": []}, "gap", "pong",
    {"type": "E", "message": "m"}, {"input_tokens": 5}, "runtime", "tool", "model",
    "hitl_escalated",
)  # fmt: skip
_QUERY: Final = (
    *(f"{path}\n" for path in served.LISTS), "cursor=", "limit=500", "limit=0", "q=", "q=%25_%00",
    "status=ok", "status=running", "from=", "to=", "from=2026-01-31T12:00:00+01:00", "&", "=", "%",
    "from=1e999", "to=nan", "after=9223372036854775807", "run_id=run-1", "by=day", "window=1h",
    "severity=9", "stuck=true", "since=0", "type=agent.start", "&&", "%ff", "%u0000", "\xff", "+",
    "after=" + "9" * 5000, "limit=" + "9" * 5000, "from=" + "9" * 400, "seq=1", "format=events",
    "cursor=WyJydW5zIiwxLCJ4Il0", "reasonCode=timeout", "layer=tool_runtime", "name=%E2%80%AE",
)  # fmt: skip
_SOCKET: Final = (
    *served.WORDS, *_QUERY[24:], '{"type": "ping"}', '{"token": "viewer-token-0123456789"}', "[]",
    '{"token": null}', "{}", "null", "\x01{", '{"type": ["ping"]}', "\n", "since=" + "9" * 5000,
    "format=progress", "run_id=", "type=,", "seq=2", "since=-1", "since=\u0663", " ", '"\\ud800"',
)  # fmt: skip
_LOG: Final = (
    "2026-11-21T14:00:00.000Z INFO logger message\n", "\f", "\fR", "\r\n", "\n", "\x1b[2J", "\x85",
    "\u2028", "\u202e", "\x00", "\x0b", "\x1c", "    | more\n", "a" * 300, "\udc80", "\x9b",
)  # fmt: skip
_HTTP: Final = (
    "POST /v1/traces HTTP/1.1\n", "POST /v1/logs HTTP/1.1\n", "GET / HTTP/1.1\n", "Host: a\n", "\n",
    "Content-Type: application/x-protobuf\n", "Content-Type: application/json\n", "\f", "\n\n",
    "Content-Length: 2\n", "Content-Length: -1\n", "Content-Length: 99999999999\n", "{}", "\r",
    "\t",
    "Content-Length: " + "9" * 30 + "\n", "Transfer-Encoding: chunked\n", "2\n{}\n0\n\n",
    "HTTP/1.0\n",
    "Transfer-Encoding: identity\n", "ffffffffffffffff\n", "Expect: 100-continue\n", ": x\n",
    "\x00",
    "Connection: close\n", "Connection: Upgrade\nUpgrade: websocket\n", "X: " + "y" * 9000 + "\n",
    "POST http://[ HTTP/1.1\n", "POST // HTTP/1.1\n", "POST /v1/traces%2 HTTP/1.1\n",
    "PRI * HTTP/2.0\n",
    "Content-Encoding: gzip\n", "X: y\n" * 101, "baggage: " + "a=b," * 2000 + "\n",
    "OPTIONS * HTTP/1.1\n",
)  # fmt: skip
_FRAMES: Final = (
    't{"type": "ping"}\n', "t+ab\n", "c+\n", "ccd\n", "p\n", "pabc\n", "o\n", "x\x03\xe8bye\n",
    "b\xff\n",
    "x\n", "x\x00\n", "!\x81\xff\n", "!\x81\xfe\xff\xff\n", "!\xc1\x80\n", "t" + "a" * 4097 + "\n",
    "\n",
    "!\x81\x05hello\n", "!\x8f\x80\x00\x00\x00\x00\n", "t\xed\xa0\x80\n", "p" + "a" * 126 + "\n",
    "c+\n" * 70,
)  # fmt: skip


def _json_lines(keys: tuple[str, ...], values: tuple[object, ...]) -> mutate.Mutator:
    """Return a mutator of one line of several, each JSON."""

    def change(data: bytes, random: Random) -> bytes:
        lines = data.split(b"\n")
        at = random.randrange(len(lines))
        if random.randrange(4) == 0:
            lines.insert(at, random.choice(lines))
        lines[at] = mutate.of_json(lines[at], random, keys, values)
        return b"\n".join(lines[:40])

    return change


_RECORDS: Final = (
    "\n", "1000001", "2000002", "3000102", "3100202", "3200302", "40zzzz", "4001zz", "\xa7rec",
    "h00", "hzz", "\x00\x00\x00\x00", "\xff\xff\xff\xff", "\x01\x00\x00\x00", "5000000",
)  # fmt: skip
_WIRE: Final = mutate.headed(otlp.HEAD)
_ABOUT_SIGNALS: Final = _json_lines(_SIGNAL_KEYS, _SIGNAL_VALUES)

TARGETS: Final = {
    target.name: target
    for target in (
        Target("http", otlp.http, _WIRE),
        Target("protobuf", otlp.protobuf, mutate.headed(otlp.HEAD, mutate.of_wire)),
        Target("texts", otlp.texts, mutate.headed(otlp.HEAD, mutate.of_wire)),
        Target("json", otlp.as_json, mutate.headed(otlp.HEAD, mutate.of_json)),
        Target("gzip", otlp.packed, mutate.headed(otlp.HEAD, mutate.of_bytes)),
        Target("record", otlp.record, _ABOUT_SIGNALS),
        Target("signal", texts.signal, _ABOUT_SIGNALS),
        Target("store", served.stored, _ABOUT_SIGNALS),
        Target("settings", texts.configured, mutate.of_words(_TOML)),
        Target("template", texts.compiled, mutate.of_words(_TEMPLATE)),
        Target("cursor", texts.cursor, mutate.of_bytes),
        Target("query", served.queried, mutate.of_words(_QUERY)),
        Target("socket", served.socket, mutate.of_words(_SOCKET)),
        Target("connection", wires.connected, mutate.of_words(_HTTP)),
        Target("frames", wires.framed, mutate.of_words(_FRAMES)),
        Target("log", texts.logged, mutate.of_words(_LOG)),
        Target("stream", texts.streamed, _ABOUT_SIGNALS),
        Target("segment", segments.read, mutate.of_words(_RECORDS)),
    )
}
