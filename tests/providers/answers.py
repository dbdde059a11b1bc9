"""What a scripted provider answers, before it is put into one provider's words."""

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """What the provider bills: input with its cached parts, output with its reasoning."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0

    def __add__(self, other: "Tokens") -> "Tokens":
        """Add two bills up."""
        return Tokens(
            input=self.input + other.input,
            output=self.output + other.output,
            cache_read=self.cache_read + other.cache_read,
            cache_write=self.cache_write + other.cache_write,
            reasoning=self.reasoning + other.reasoning,
        )

    @property
    def fresh(self) -> int:
        """The input that was neither read from nor written to the cache."""
        return self.input - self.cache_read - self.cache_write


@dataclass(frozen=True)
class ToolCall:
    """A tool that the answer asks for."""

    name: str
    arguments: Mapping[str, Any]
    id: str = "call_1"


@dataclass(frozen=True)
class Hold:
    """A streamed answer stands still after some events until it is released.

    `reached` is set when it does; set `release` to let it go on. The server's end releases all.
    """

    after: int
    reached: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A good answer (200), billed; sent whole or streamed as the request asks.

    Attributes:
        text: The text; streamed a word at a time.
        reasoning: What the model thought first; streamed before the text.
        tool_calls: The tools asked for, after the text.
        tokens: What it is billed at, whatever the answer says of it.
        with_usage: False leaves the usage out of the answer.
        break_after: Close the socket after so many events of a stream, or in the middle of an
            answer that is sent whole.
        hold: Where a streamed answer stands still.
        model: The model that says it answered; None: the one asked for.

    """

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tokens: Tokens = Tokens(input=10, output=5)
    with_usage: bool = True
    break_after: int | None = None
    hold: Hold | None = None
    model: str | None = None

    @property
    def words(self) -> list[str]:
        """The text in the pieces it is streamed in."""
        return pieces(self.text)

    def named(self, model: str) -> "Answer":
        """Return the answer with the name of the model that gives it."""
        return self if self.model else replace(self, model=model)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An answer in the provider's own form of an error; not billed."""

    status: int
    message: str = "the server had an error"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Raw:
    """Any bytes at all, such as a 200 that is no answer; not billed."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"


Reply = Answer | Failure | Raw


def rate_limited(milliseconds: int = 1) -> Failure:
    """Make a 429 that asks to be retried after some milliseconds."""
    return Failure(
        status=429,
        message="rate limit reached",
        headers={"retry-after": "1", "retry-after-ms": str(milliseconds)},
    )


def pieces(text: str) -> list[str]:
    """Cut text into words, each with the space after it."""
    return re.findall(r"\s*\S+\s*", text)
