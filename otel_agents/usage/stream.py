"""Streamed answers of providers: usage folded from chunks and events."""

from collections.abc import Iterator
from typing import Any

import msgspec

from otel_agents.usage import anthropic, payload
from otel_agents.usage.reading import get, items
from otel_agents.usage.record import UNSEEN, Usage, metered

_RESPONSE_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})


class StreamUsage:
    """The usage of one streamed answer, as far as it was seen.

    Feed it every chunk or event in turn: OpenAI chat chunks, OpenAI responses events, Anthropic
    message events, Gemini chunks, Bedrock Converse events; as dicts, as SDK objects, or as the
    text of a server-sent event with its `data:` line. What it does not know is passed over.

    The counts that providers stream are cumulative, so feeding a chunk twice changes nothing.
    A stream that broke off keeps what it gave (Anthropic's and Gemini's first event has the
    input tokens) and stays incomplete; one that never gave any usage has no tokens and is
    incomplete, not zero. An OpenAI chat stream gives its usage only when asked to with
    `stream_options={"include_usage": True}`.
    """

    __slots__ = ("_anthropic", "_ended", "_seen")

    def __init__(self) -> None:
        self._seen: Usage | None = None
        self._anthropic: dict[str, Any] = {}
        self._ended = False

    @property
    def usage(self) -> Usage:
        """The usage so far: one request, complete once the stream has ended and said so."""
        if self._seen is None:
            return UNSEEN
        if self._seen.complete and not self._ended:
            return msgspec.structs.replace(self._seen, complete=False)
        return self._seen

    @property
    def complete(self) -> bool:
        """Whether the provider has given its final counts."""
        return self._ended and self._seen is not None and self._seen.complete

    def feed(self, chunk: object) -> None:
        """Take in the next chunk, event or line; never raises."""
        try:
            for body in _bodies(chunk):
                self._take(body)
        except Exception:  # noqa: BLE001 - hostile objects raise anything; the host must not see it
            return

    def _take(self, body: object) -> None:
        kind = get(body, "type")
        if isinstance(kind, str):
            self._take_event(kind, body)
            return
        node = get(body, "usageMetadata") or get(body, "usage_metadata") or get(body, "usage")
        if node is None:
            node = get(get(body, "metadata"), "usage")  # Converse: its last event
            self._ended = self._ended or node is not None
        choices = get(body, "choices")
        if node is not None:
            self._keep(payload.read(node))
            # With `include_usage` the counts come last, in a chunk of their own.
            self._ended = self._ended or (choices is not None and not items(choices))
        for choice in (*items(choices), *items(get(body, "candidates"))):
            reason = get(choice, "finish_reason") or get(choice, "finishReason")
            self._ended = self._ended or reason is not None
        refusal = get(body, "promptFeedback") or get(body, "prompt_feedback")
        reason = get(refusal, "blockReason") or get(refusal, "block_reason")
        self._ended = self._ended or reason is not None

    def _take_event(self, kind: str, body: object) -> None:
        if kind == "message_start":
            self._lay_over(get(get(body, "message"), "usage"))
        elif kind == "message_delta":
            node = get(body, "usage")
            self._lay_over(node)
            stopped = get(get(body, "delta"), "stop_reason") is not None
            # The output in the first event is but a beginning: only counts at the stop are final.
            self._ended = self._ended or (stopped and node is not None)
        elif kind.startswith("response."):
            node = get(get(body, "response"), "usage")
            if node is not None:
                self._keep(payload.read(node))
            self._ended = self._ended or kind in _RESPONSE_ENDS

    def _lay_over(self, node: object) -> None:
        if node is not None:
            self._seen = anthropic.read(anthropic.merged(self._anthropic, node))

    def _keep(self, usage: Usage) -> None:
        """Keep the larger of each count: a later chunk may leave one out."""
        self._seen = usage if self._seen is None else _larger(self._seen, usage)


def _bodies(chunk: object) -> Iterator[object]:
    """Yield what a chunk holds: itself, or the JSON of its text or of its `data:` lines."""
    if isinstance(chunk, bytes | bytearray):
        chunk = chunk.decode()
    if not isinstance(chunk, str):
        yield chunk
        return
    text = chunk.strip()
    if text.startswith("{"):
        yield msgspec.json.decode(text)
        return
    for line in text.splitlines():
        if line.startswith("data:") and "{" in line:
            yield msgspec.json.decode(line.removeprefix("data:"))


def _larger(left: Usage, right: Usage) -> Usage:
    larger = Usage(
        input_tokens=max(left.input_tokens, right.input_tokens),
        output_tokens=max(left.output_tokens, right.output_tokens),
        cache_read_tokens=max(left.cache_read_tokens, right.cache_read_tokens),
        cache_write_tokens=max(left.cache_write_tokens, right.cache_write_tokens),
        reasoning_tokens=max(left.reasoning_tokens, right.reasoning_tokens),
        requests=1,
        complete=left.complete or right.complete,
    )
    names = {**left.extras, **right.extras}
    return metered(
        larger, {name: max(left.extras.get(name, 0), right.extras.get(name, 0)) for name in names}
    )
