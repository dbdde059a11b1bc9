"""Gemini's words: generateContent, and streamGenerateContent as server-sent events."""

import json
from collections.abc import Iterator
from typing import Any

from .answers import Answer, Failure, pieces

Json = dict[str, Any]
_ERRORS = {400: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE"}


def error(failure: Failure) -> Json:
    """Return the body of a failure."""
    status = _ERRORS.get(failure.status, "INTERNAL")
    return {"error": {"code": failure.status, "message": failure.message, "status": status}}


def content(answer: Answer, _request: Json) -> Json:
    """Return a whole answer."""
    parts = _parts(answer, [answer.reasoning], [answer.text])
    return _chunk(answer, parts, answer.tokens.output - answer.tokens.reasoning, last=True)


def content_stream(answer: Answer, _request: Json) -> Iterator[str]:
    """Yield the chunks of a streamed answer, each with the counts so far."""
    parts = _parts(answer, pieces(answer.reasoning), answer.words) or [{"text": ""}]
    candidates = answer.tokens.output - answer.tokens.reasoning
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        so_far = candidates if last else min(index, candidates)
        body = _chunk(answer, [part], so_far, last=last)
        yield f"data: {json.dumps(body)}\r\n\r\n"


def usage(answer: Answer, candidates: int) -> Json:
    """Return the usage metadata; what is 0 is left out, as protobuf does."""
    tokens = answer.tokens
    if tokens.cache_write:
        message = "Gemini does not bill tokens for being written to its cache"
        raise ValueError(message)
    counts = {
        "promptTokenCount": tokens.input,
        "cachedContentTokenCount": tokens.cache_read,
        "candidatesTokenCount": candidates,
        "thoughtsTokenCount": tokens.reasoning,
        "totalTokenCount": tokens.input + candidates + tokens.reasoning,
    }
    told: Json = {name: number for name, number in counts.items() if number}
    told["promptTokensDetails"] = [{"modality": "TEXT", "tokenCount": tokens.input}]
    if tokens.cache_read:
        told["cacheTokensDetails"] = [{"modality": "TEXT", "tokenCount": tokens.cache_read}]
    return told


def _chunk(answer: Answer, parts: list[Json], candidates: int, *, last: bool) -> Json:
    candidate: Json = {"content": {"role": "model", "parts": parts}, "index": 0}
    if last:
        candidate["finishReason"] = "STOP"
    body: Json = {
        "candidates": [candidate],
        "modelVersion": answer.model,
        "responseId": "local",
    }
    if answer.with_usage:
        body["usageMetadata"] = usage(answer, candidates)
    return body


def _parts(answer: Answer, thoughts: list[str], words: list[str]) -> list[Json]:
    return [
        *({"text": piece, "thought": True} for piece in thoughts if piece),
        *({"text": word} for word in words if word),
        *(
            {"functionCall": {"name": call.name, "args": dict(call.arguments)}}
            for call in answer.tool_calls
        ),
    ]
