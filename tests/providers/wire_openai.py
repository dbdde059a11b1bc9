"""OpenAI's words: chat completions and responses, whole and streamed."""

import json
from collections.abc import Iterator
from itertools import count
from typing import Any

from .answers import Answer, Failure, pieces

Json = dict[str, Any]
CREATED = 1_760_000_000
_ERRORS = {401: "invalid_api_key", 429: "rate_limit_exceeded", 500: "server_error"}


def error(failure: Failure) -> Json:
    """Return the body of a failure."""
    code = _ERRORS.get(failure.status, "invalid_request_error")
    return {"error": {"message": failure.message, "type": code, "param": None, "code": code}}


# ---- chat completions


def chat(answer: Answer, _request: Json) -> Json:
    """Return a whole chat completion."""
    message: Json = {"role": "assistant", "content": answer.text or None, "refusal": None}
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if answer.tool_calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
            }
            for call in answer.tool_calls
        ]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _reason(answer)}
    body = {**_head(answer, "chat.completion"), "choices": [choice]}
    return {**body, "usage": chat_usage(answer)} if answer.with_usage else body


def chat_stream(answer: Answer, request: Json) -> Iterator[str]:
    """Yield the events of a streamed chat completion: role first, then reasoning, then text."""
    asked = bool((request.get("stream_options") or {}).get("include_usage"))
    head: Json = _head(answer, "chat.completion.chunk")
    if asked:
        head["usage"] = None

    def chunk(delta: Json, reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return _data({**head, "choices": [choice]})

    yield chunk({"role": "assistant", "content": "", "refusal": None})
    for piece in pieces(answer.reasoning):
        yield chunk({"reasoning_content": piece})
    for word in answer.words:
        yield chunk({"content": word})
    for index, call in enumerate(answer.tool_calls):
        named = {"name": call.name, "arguments": ""}
        first = {"index": index, "id": call.id, "type": "function", "function": named}
        yield chunk({"tool_calls": [first]})
        for piece in pieces(json.dumps(call.arguments)):
            part = {"index": index, "function": {"arguments": piece}}
            yield chunk({"tool_calls": [part]})
    yield chunk({}, _reason(answer))
    if asked and answer.with_usage:
        yield _data({**head, "choices": [], "usage": chat_usage(answer)})
    yield "data: [DONE]\n\n"


def chat_usage(answer: Answer) -> Json:
    """Return the usage of a chat completion."""
    tokens = answer.tokens
    cached = {"cached_tokens": tokens.cache_read, "audio_tokens": 0}
    if tokens.cache_write:
        cached["cache_write_tokens"] = tokens.cache_write
    return {
        "prompt_tokens": tokens.input,
        "completion_tokens": tokens.output,
        "total_tokens": tokens.input + tokens.output,
        "prompt_tokens_details": cached,
        "completion_tokens_details": {
            "reasoning_tokens": tokens.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _head(answer: Answer, kind: str) -> Json:
    return {
        "id": "chatcmpl-local",
        "object": kind,
        "created": CREATED,
        "model": answer.model,
        "service_tier": "default",
        "system_fingerprint": "fp_local",
    }


def _reason(answer: Answer) -> str:
    return "tool_calls" if answer.tool_calls else "stop"


# ---- responses


def response(answer: Answer, request: Json) -> Json:
    """Return a whole response."""
    items = _items(answer)
    usage = responses_usage(answer) if answer.with_usage else None
    return {**_response(answer, request, "completed"), "output": items, "usage": usage}


def response_stream(answer: Answer, request: Json) -> Iterator[str]:
    """Yield the events of a streamed response."""
    numbers = count()

    def event(kind: str, **fields: Any) -> str:
        body = {"type": kind, "sequence_number": next(numbers), **fields}
        return f"event: {kind}\n{_data(body)}"

    begun = _response(answer, request, "in_progress")
    yield event("response.created", response=begun)
    yield event("response.in_progress", response=begun)
    for index, item in enumerate(_items(answer)):
        at = {"output_index": index, "item_id": item["id"]}
        empty = {**item, "status": "in_progress", **_EMPTY[item["type"]]}
        yield event("response.output_item.added", output_index=index, item=empty)
        for kind, fields in _item_events(item):
            yield event(kind, **at, **fields)
        yield event("response.output_item.done", output_index=index, item=item)
    yield event("response.completed", response=response(answer, request))


_EMPTY: dict[str, Json] = {
    "reasoning": {"summary": []},
    "message": {"content": []},
    "function_call": {"arguments": ""},
}


def _item_events(item: Json) -> Iterator[tuple[str, Json]]:
    """Yield the kind and fields of the events between an item's first and its last."""
    if item["type"] == "reasoning":
        (part,) = item["summary"]
        nothing, place, name = {**part, "text": ""}, {"summary_index": 0}, "reasoning_summary"
    elif item["type"] == "message":
        (part,) = item["content"]
        nothing, place, name = {**part, "text": ""}, {"content_index": 0}, "content"
    else:
        for piece in pieces(item["arguments"]):
            yield "response.function_call_arguments.delta", {"delta": piece}
        done = {"arguments": item["arguments"], "name": item["name"]}
        yield "response.function_call_arguments.done", done
        return
    text = "output_text" if name == "content" else f"{name}_text"
    more: Json = {"logprobs": []} if name == "content" else {}
    yield f"response.{name}_part.added", {**place, "part": nothing}
    for piece in pieces(part["text"]):
        yield f"response.{text}.delta", {**place, **more, "delta": piece}
    yield f"response.{text}.done", {**place, **more, "text": part["text"]}
    yield f"response.{name}_part.done", {**place, "part": part}


def responses_usage(answer: Answer) -> Json:
    """Return the usage of a response."""
    tokens = answer.tokens
    return {
        "input_tokens": tokens.input,
        "input_tokens_details": {
            "cached_tokens": tokens.cache_read,
            "cache_write_tokens": tokens.cache_write,
        },
        "output_tokens": tokens.output,
        "output_tokens_details": {"reasoning_tokens": tokens.reasoning},
        "total_tokens": tokens.input + tokens.output,
    }


def _response(answer: Answer, request: Json, status: str) -> Json:
    return {
        "id": "resp_local",
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": request.get("instructions"),
        "max_output_tokens": None,
        "model": answer.model,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "service_tier": "default",
        "store": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": None,
        "metadata": {},
    }


def _items(answer: Answer) -> list[Json]:
    items: list[Json] = []
    if answer.reasoning:
        summary = [{"type": "summary_text", "text": answer.reasoning}]
        items.append({"id": "rs_local", "type": "reasoning", "summary": summary})
    if answer.text:
        part = {"type": "output_text", "text": answer.text, "annotations": [], "logprobs": []}
        message = {"id": "msg_local", "type": "message", "role": "assistant"}
        items.append({**message, "status": "completed", "content": [part]})
    items.extend(
        {
            "id": f"fc_{call.id}",
            "type": "function_call",
            "status": "completed",
            "call_id": call.id,
            "name": call.name,
            "arguments": json.dumps(call.arguments),
        }
        for call in answer.tool_calls
    )
    return items


def _data(body: Json) -> str:
    return f"data: {json.dumps(body)}\n\n"
