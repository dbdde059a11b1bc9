"""Anthropic's words: messages, whole and streamed."""

import json
from collections.abc import Iterator
from typing import Any

from .answers import Answer, Failure, pieces

Json = dict[str, Any]
_ERRORS = {401: "authentication_error", 429: "rate_limit_error", 529: "overloaded_error"}


def error(failure: Failure) -> Json:
    """Return the body of a failure."""
    kind = _ERRORS.get(failure.status, "api_error")
    return {"type": "error", "error": {"type": kind, "message": failure.message}}


def message(answer: Answer, _request: Json) -> Json:
    """Return a whole message."""
    body = {**_head(answer), "content": _blocks(answer), "stop_reason": _reason(answer)}
    return {**body, "usage": usage(answer)} if answer.with_usage else body


def message_stream(answer: Answer, _request: Json) -> Iterator[str]:
    """Yield the events of a streamed message: the input's tokens first, the output's last."""
    begun: Json = {**_head(answer), "content": [], "stop_reason": None}
    if answer.with_usage:
        begun["usage"] = {**usage(answer), "output_tokens": min(1, answer.tokens.output)}
        del begun["usage"]["output_tokens_details"]
    yield _event("message_start", message=begun)
    for index, block in enumerate(_blocks(answer)):
        kind = block["type"]
        yield _event("content_block_start", index=index, content_block={**block, **_EMPTY[kind]})
        if index == 0:
            yield _event("ping")
        for delta in _deltas(block):
            yield _event("content_block_delta", index=index, delta=delta)
        yield _event("content_block_stop", index=index)
    end: Json = {"delta": {"stop_reason": _reason(answer), "stop_sequence": None}}
    if answer.with_usage:
        end["usage"] = {
            "output_tokens": answer.tokens.output,
            "output_tokens_details": {"thinking_tokens": answer.tokens.reasoning},
        }
    yield _event("message_delta", **end)
    yield _event("message_stop")


_EMPTY: dict[str, Json] = {
    "thinking": {"thinking": "", "signature": ""},
    "text": {"text": ""},
    "tool_use": {"input": {}},
}


def usage(answer: Answer) -> Json:
    """Return the usage of a message: its input leaves the cached tokens out."""
    tokens = answer.tokens
    return {
        "input_tokens": tokens.fresh,
        "cache_creation_input_tokens": tokens.cache_write,
        "cache_read_input_tokens": tokens.cache_read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": tokens.cache_write,
            "ephemeral_1h_input_tokens": 0,
        },
        "output_tokens": tokens.output,
        "output_tokens_details": {"thinking_tokens": tokens.reasoning},
        "service_tier": "standard",
    }


def _head(answer: Answer) -> Json:
    return {
        "id": "msg_local",
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "stop_sequence": None,
    }


def _reason(answer: Answer) -> str:
    return "tool_use" if answer.tool_calls else "end_turn"


def _blocks(answer: Answer) -> list[Json]:
    blocks: list[Json] = []
    if answer.reasoning:
        blocks.append({"type": "thinking", "thinking": answer.reasoning, "signature": "c2ln"})
    if answer.text:
        blocks.append({"type": "text", "text": answer.text, "citations": None})
    blocks.extend(
        {"type": "tool_use", "id": call.id, "name": call.name, "input": dict(call.arguments)}
        for call in answer.tool_calls
    )
    return blocks


def _deltas(block: Json) -> Iterator[Json]:
    if block["type"] == "thinking":
        for piece in pieces(block["thinking"]):
            yield {"type": "thinking_delta", "thinking": piece}
        yield {"type": "signature_delta", "signature": block["signature"]}
    elif block["type"] == "text":
        for piece in pieces(block["text"]):
            yield {"type": "text_delta", "text": piece}
    else:
        for piece in pieces(json.dumps(block["input"])):
            yield {"type": "input_json_delta", "partial_json": piece}


def _event(kind: str, **fields: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n"
