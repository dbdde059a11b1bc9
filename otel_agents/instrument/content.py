"""Message content in the conventions' form, made only where its capture was asked for."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from otel_agents.values import CUT, cut, redact

MAX_CONTENT: Final = 65_536  # characters of one attribute


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return msgspec.json.encode(
            value, enc_hook=lambda item: f"<{type(item).__qualname__}>"
        ).decode()
    except (TypeError, ValueError, RecursionError):
        return f"<{type(value).__qualname__}>"


def tool_text(value: Any) -> str:
    """Return a tool's arguments or result as bounded, redacted text."""
    return str(redact("", cut(_text(value), MAX_CONTENT)))


def _part(part: Any) -> dict[str, Any]:
    kind = getattr(part, "part_kind", "")
    if kind == "tool-call":
        return {
            "type": "tool_call", "id": part.tool_call_id, "name": part.tool_name,
            "arguments": _text(part.args),
        }  # fmt: skip
    if kind in {"tool-return", "retry-prompt"} and getattr(part, "tool_call_id", None):
        return {
            "type": "tool_call_response", "id": part.tool_call_id, "response": _text(part.content),
        }  # fmt: skip
    return {
        "type": "reasoning" if kind == "thinking" else "text",
        "content": _text(getattr(part, "content", "")),
    }


_ROLES: Final = {"system-prompt": "system", "tool-return": "tool", "retry-prompt": "tool"}


def input_messages(messages: Any) -> str:
    """Return a request's messages as JSON: role and parts each; the oldest are cut first."""
    found: list[dict[str, Any]] = []
    for message in messages:
        answer = getattr(message, "kind", "") == "response"
        for part in message.parts:
            role = "assistant" if answer else _ROLES.get(getattr(part, "part_kind", ""), "user")
            if found and found[-1]["role"] == role:
                found[-1]["parts"].append(_part(part))
            else:
                found.append({"role": role, "parts": [_part(part)]})
    text = _text(found)
    while len(text) > MAX_CONTENT and len(found) > 1:
        del found[0]
        text = _text(found)
    return str(redact("", text if len(text) <= MAX_CONTENT else cut(text, MAX_CONTENT - len(CUT))))


def output_messages(parts: Any) -> str:
    """Return an answer's parts as JSON: one message of the assistant."""
    return tool_text([{"role": "assistant", "parts": [_part(part) for part in parts]}])
