"""What hosts put on spans: values of every type, odd ones too, and spans that hold them."""

from __future__ import annotations

import enum
import math
import os
from collections import UserDict, UserList
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceState

from tests.spool.same import held

if TYPE_CHECKING:
    from collections.abc import Callable


class Text(str):
    """A host's own text."""

    __slots__ = ()

    def encode(self, *_: Any) -> bytes:
        return b"not what it holds"


class Whole(int):
    def __int__(self) -> int:
        return 7

    def __index__(self) -> int:
        return 7

    def __and__(self, other: int) -> int:
        return 7


class Real(float):
    def __float__(self) -> float:
        return 7.0


class Raw(bytes):
    def __len__(self) -> int:
        return 1


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Word(enum.StrEnum):
    YES = "yes"


class LikeNumber:
    """A number of another library: it can be asked for one, and is of no type of ours."""

    def __index__(self) -> int:
        return 3

    def __int__(self) -> int:
        return 3

    def __float__(self) -> float:
        return 3.0

    def __array__(self) -> list[int]:
        return [3]

    def item(self) -> int:
        return 3


class Posing:
    """A proxy: it says that it is what it stands for."""

    def __init__(self, value: Any) -> None:
        self._value = value

    @property
    def __class__(self) -> Any:
        return type(self._value)

    def __index__(self) -> int:
        return self._value.__index__()

    def __float__(self) -> float:
        return float(self._value)

    def __len__(self) -> int:
        return len(self._value)


class Raising:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __hash__ = __eq__ = __len__ = __iter__ = __repr__ = __str__  # type: ignore[assignment]


class Broken(UserList[Any]):
    def __iter__(self) -> Any:
        raise RuntimeError("no items")


def nested(levels: int, inner: Any, around: Callable[[Any], Any]) -> Any:
    for _ in range(levels):
        inner = around(inner)
    return inner


def recursive() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


VALUES: dict[str, Any] = {
    "text": "plain",
    "empty text": "",
    "long text": "x" * 200,
    "longer text": "é" * 20_000,
    "text of 63 bytes": "x" * 63,
    "text of 64 bytes": "x" * 64,
    "text of 65 bytes": "x" * 65,
    "text of 125 bytes": "x" * 125,
    "text of 126 bytes": "x" * 126,
    "any plane": "a\x00\x7f\u0080\uffff\U0010ffff",
    "half a pair": "a\ud800b",
    "true": True,
    "false": False,
    "zero": 0,
    "a byte": 127,
    "two bytes": 128,
    "three bytes": 1 << 14,
    "four bytes": 1 << 21,
    "negative": -1,
    "most": 2**63 - 1,
    "least": -(2**63),
    "more than 64 bits": 2**63,
    "less than 64 bits": -(2**63) - 1,
    "huge": 10**5000,
    "float": 2.5,
    "negative zero": -0.0,
    "whole float": 1.0,
    "nan": math.nan,
    "infinite": -math.inf,
    "none": None,
    "bytes": b"\x00\xff",
    "empty bytes": b"",
    "byte array": bytearray(b"ab"),
    "memory": memoryview(b"ab"),
    "empty list": [],
    "empty tuple": (),
    "empty mapping": {},
    "texts": ("stop",),
    "many texts": ["a", "b", "c" * 300],
    "a half pair in it": ["a", "\udfff"],
    "ints": [1, 2, 3],
    "bools among ints": (1, True, 0, False),
    "floats": (1.0, -0.0, math.nan),
    "none in it": ["a", None, "b"],
    "mixed": ["a", 1, 2.5, True, b"x", None, ["b", {"c": 1}]],
    "too large in it": [1, 2**64],
    "mapping": {"a": 1, "b": {"c": [1, "x"]}, "": None},
    "keys of any type": {1: "a", None: "b", ("x",): "c"},
    "a half pair as key": {"\ud800": 1},
    "own mapping": UserDict({"a": 1}),
    "own list": UserList([1, "a"]),
    "range": range(3),
    "set": {1},
    "generator": (number for number in (1, 2)),
    "own text": Text("real"),
    "own int": Whole(300),
    "own negative int": Whole(-2),
    "own float": Real(2.5),
    "own bytes": Raw(b"abc"),
    "enumeration": Colour.RED,
    "int enumeration": Level.HIGH,
    "text enumeration": Word.YES,
    "decimal": Decimal("1.5"),
    "complex": 1j,
    "like a number": LikeNumber(),
    "like a number, in a list": [LikeNumber()],
    "posing as text": Posing("a"),
    "posing as int": Posing(300),
    "posing as bool": Posing(True),
    "posing as float": Posing(2.5),
    "posing as bytes": Posing(b"a"),
    "raising": Raising(),
    "object": object(),
    "type": int,
    "broken list": Broken(),
    "inside itself": recursive(),
    "47 lists": nested(47, 1, lambda inner: [inner]),
    "31 mappings": nested(31, 1, lambda inner: {"a": inner}),
}


def a_span(**fields: Any) -> ReadableSpan:
    """A span as the SDK hands it over, with other fields where they are given."""
    context = SpanContext(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, is_remote=False)
    plain: dict[str, Any] = {
        "name": "chat",
        "context": context,
        "parent": SpanContext(context.trace_id, 0xFF, is_remote=False),
        "resource": Resource({"service.name": "shop"}),
        "attributes": held({"a": "x", "b": 1}),
        "events": BoundedList(8),
        "links": BoundedList(8),
        "kind": SpanKind.CLIENT,
        "status": Status(StatusCode.UNSET),
        "start_time": 1_700_000_000_000_000_000,
        "end_time": 1_700_000_001_000_000_000,
    }
    return ReadableSpan(**{**plain, **fields})


def listed(items: list[Any], dropped: int = 0) -> BoundedList:
    found = BoundedList.from_seq(None, items)
    found.dropped = dropped
    return found


# Each takes some 50 ms, most of it to make them up; continuous integration tries more.
EXAMPLES = 500 if os.environ.get("CI") else 100

texts = st.text(max_size=70)
broken_texts = st.text(st.one_of(st.characters(), st.characters(categories=["Cs"])), max_size=20)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-300, 300), st.floats(), texts,
    broken_texts, st.binary(max_size=20), texts.map(Text), st.integers().map(Whole),
    st.floats().map(Real), st.sampled_from([Colour.RED, Level.HIGH, Word.YES, Decimal(1), 1j]),
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.one_of(texts, st.integers()), inner, max_size=4),
    ),
    max_leaves=8,
)
attributes = st.builds(
    held, st.dictionaries(st.one_of(texts, broken_texts), values, max_size=12), st.integers(0, 300)
)
times = st.none() | st.integers(0, 2**64 - 1)
states = st.none() | st.lists(
    st.tuples(st.text("abc", min_size=1, max_size=9), st.text("abc09-:/", min_size=1, max_size=9)),
    max_size=3,
    unique_by=lambda pair: pair[0],
).map(TraceState)
contexts = st.builds(
    SpanContext, st.integers(0, 2**128 - 1), st.integers(0, 2**64 - 1), st.booleans(),
    st.just(trace.TraceFlags(1)), states,
)  # fmt: skip
statuses = st.one_of(
    st.builds(Status, st.sampled_from(StatusCode)),
    st.builds(Status, st.just(StatusCode.ERROR), texts),
)
events = st.builds(Event, texts, attributes, st.integers(0, 2**64 - 1))
spans = st.builds(
    a_span,
    name=texts,
    context=contexts,
    parent=st.none() | contexts,
    attributes=attributes,
    events=st.builds(listed, st.lists(events, max_size=3), st.integers(0, 2**32 - 1)),
    links=st.builds(
        listed, st.lists(st.builds(Link, contexts, attributes), max_size=2), st.integers(0, 9)
    ),
    kind=st.sampled_from(SpanKind),
    status=statuses,
    start_time=times,
    end_time=times,
)
