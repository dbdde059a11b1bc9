"""What OTLP requests are made of, as far as cutting them on the wire needs to know.

Field numbers are those of opentelemetry-proto 1.x; tests/receiver compares them with the generated
classes.
"""

from __future__ import annotations

from typing import Final


class Shape:
    """A message type on the wire.

    Attributes:
        fields: The messages in it, by field number.
        texts: The numbers of the fields that hold text or bytes and may be cut.
        inner: The numbers of `fields` at which a large request is cut in slices. What they lead to
            is an element (a span, record or point), or a level above one.
        element: Whether it is a span, a record or a point.
        attributes: The number of the field that holds attributes.
        dropped: The number of the field that counts attributes that were dropped; 0 without one.

    """

    def __init__(
        self,
        fields: dict[int, Shape] | None = None,
        texts: tuple[int, ...] = (),
        *,
        inner: tuple[int, ...] = (),
        element: bool = False,
        attributes: int = 0,
        dropped: int = 0,
    ) -> None:
        self.fields = fields or {}
        self.texts = frozenset(texts)
        self.inner = frozenset(inner)
        self.element = element
        self.attributes = attributes
        self.dropped = dropped


VALUE: Final = Shape(texts=(1, 7))
KEY_VALUE: Final = Shape({2: VALUE}, (1,))
VALUE.fields[5] = Shape({1: VALUE})
VALUE.fields[6] = Shape({1: KEY_VALUE})

_RESOURCE: Final = Shape({1: KEY_VALUE}, attributes=1, dropped=2)
_SCOPE: Final = Shape({3: KEY_VALUE}, (1, 2), attributes=3, dropped=4)
_EVENT: Final = Shape({3: KEY_VALUE}, (2,), attributes=3, dropped=4)
_LINK: Final = Shape({4: KEY_VALUE}, (3,), attributes=4, dropped=5)
_STATUS: Final = Shape(texts=(2,))
SPAN: Final = Shape(
    {9: KEY_VALUE, 11: _EVENT, 13: _LINK, 15: _STATUS},
    (3, 5),
    element=True,
    attributes=9,
    dropped=10,
)
RECORD: Final = Shape({5: VALUE, 6: KEY_VALUE}, (3, 12), element=True, attributes=6, dropped=7)


def _request(level: Shape) -> Shape:
    """Return the shape of a request: resources, in them scopes, in them `level`."""
    scope = Shape({1: _SCOPE, 2: level}, (3,), inner=(2,))
    return Shape({1: Shape({1: _RESOURCE, 2: scope}, (3,), inner=(2,))}, inner=(1,))


def _points(attributes: int, exemplars: int) -> Shape:
    fields = {attributes: KEY_VALUE}
    if exemplars:
        fields[exemplars] = Shape({7: KEY_VALUE})
    return Shape({1: Shape(fields, element=True)}, inner=(1,))


TRACES: Final = _request(SPAN)
LOGS: Final = _request(RECORD)
METRICS: Final = _request(
    Shape(
        {
            5: _points(7, 5),
            7: _points(7, 5),
            9: _points(9, 8),
            10: _points(1, 11),
            11: _points(7, 0),
            12: KEY_VALUE,
        },
        (1, 2, 3),
        inner=(5, 7, 9, 10, 11),
    )
)
