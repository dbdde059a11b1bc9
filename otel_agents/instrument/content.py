"""Message content in the conventions' form, made only where its capture was asked for."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from otel_agents.values import cut, redact

MAX_CONTENT: Final = 65_536  # characters of one attribute
# A secret at the end of what is kept is recognised by what follows.
_MARGIN: Final = 4_096


def _plain(item: Any) -> Any:
    """Return the fields of a value that has no JSON form of its own; else name it by its class."""
    fields = getattr(item, "__dict__", None)
    if hasattr(type(item), "__pydantic_serializer__") and isinstance(fields, dict):
        return fields
    return f"<{type(item).__qualname__}>"


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return msgspec.json.encode(value, enc_hook=_plain).decode()
    except (TypeError, ValueError, RecursionError):
        return f"<{type(value).__qualname__}>"


def _bounded(text: str) -> str:
    """Return text without secrets, cut and marked where it is too long."""
    return cut(str(redact("", text[: MAX_CONTENT + _MARGIN])), MAX_CONTENT)


def tool_text(value: Any) -> str:
    """Return a tool's arguments or result as bounded, redacted text."""
    return _bounded(_text(value))


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
    content = getattr(part, "content", "")
    if isinstance(content, list | tuple):
        content = "\n".join(map(_item, content))
    return {"type": "reasoning" if kind == "thinking" else "text", "content": _text(content)}


def _item(item: Any) -> str:
    """Return one item of a prompt: its text, or what kind of file it is."""
    media = getattr(item, "media_type", None) if not isinstance(item, str) else None
    if media is None:
        return _text(item)
    data = getattr(item, "data", b"")
    return f"<{media}, {len(data)} bytes>" if isinstance(data, bytes) else f"<{media}>"


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
    return _bounded(text)


def output_messages(parts: Any) -> str:
    """Return an answer's parts as JSON: one message of the assistant."""
    return tool_text([{"role": "assistant", "parts": [_part(part) for part in parts]}])


def system_instructions(messages: Any, parameters: Any) -> str:
    """Return the instructions of a request as JSON, "" where there are none."""
    parts = getattr(parameters, "instruction_parts", None)
    texts = [part.content for part in parts or ()]
    if not texts:
        given = [getattr(message, "instructions", None) for message in messages]
        texts = [text for text in given if text][-1:]
    return tool_text([{"type": "text", "content": text} for text in texts]) if texts else ""
