"""Attributes on a span of the SDK, without checking again what is known to be plain.

The SDK checks each attribute's type as it is set, some 0.7 µs each; a scope sets a dozen and has
made them plain itself. Where the span is not the SDK's, or limits apply, the public way is taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.attributes import BoundedAttributes

if TYPE_CHECKING:
    from opentelemetry.trace import Span


def put(span: Span, attributes: dict[str, Any]) -> None:
    """Set attributes that are text, bool, int, float or tuples of these."""
    held = getattr(span, "_attributes", None)
    if type(held) is BoundedAttributes and held.max_value_len is None:
        kept = held._dict  # noqa: SLF001 - what this module is for
        with held._lock:  # noqa: SLF001
            if held.maxlen is None or len(kept) + len(attributes) <= held.maxlen:
                kept.update(attributes)
                return
    span.set_attributes(attributes)
