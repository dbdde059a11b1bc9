"""Templates reach attributes and items of a call and nothing else, and never raise."""

from __future__ import annotations

import asyncio
import functools
import types
from collections import ChainMap, UserDict, defaultdict, namedtuple
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_agents import templates
from otel_agents.errors import SettingsError
from otel_agents.templates import Arguments, signature_of


@dataclass
class Item:
    sku: str
    amount: int = 1


@dataclass
class Order:
    id: str
    items: list[Item] = field(default_factory=list)
    tags: dict[str, Any] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(item.amount for item in self.items)

    def cancel(self) -> str:
        pytest.fail("a template calls nothing")


ORDER = Order("o-1", [Item("a", 2), Item("b", 3)], {"tier": "gold", "7": "seven", "a.b": 1})
VALUES = {"order": ORDER, "number": 3, "nothing": None, "list": ["x", "y"]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("", ""),
        ("{number}", 3),
        ("{order}", ORDER),
        ("{order.id}", "o-1"),
        ("{order.total}", 5),
        ("{order.items[0].sku}", "a"),
        ("{order.items[-1].amount}", 3),
        ("{order.tags[tier]}", "gold"),
        ("{order.tags['tier']}", "gold"),
        ('{order.tags["a.b"]}', 1),
        ("{order.tags[7]}", "seven"),
        ("{order.tags['7']}", "seven"),
        ("{list[1]}", "y"),
        ("order {order.id}: {number} of {order.total}", "order o-1: 3 of 5"),
        ("{{{number}}}", "{3}"),
        ("{{number}}", "{number}"),
        ("}}{{", "}{"),
    ],
)
def test_a_template_says(text: str, expected: object) -> None:
    """A template of one field gives the value itself, any other gives text."""
    assert templates.compile(text).render(VALUES) == expected


def test_a_single_field_is_the_very_value() -> None:
    """The value of a lone field keeps its type and identity."""
    assert templates.compile("{order}").render(VALUES) is ORDER


@pytest.mark.parametrize(
    "text",
    [
        "{nothing}",
        "{nothing.id}",
        "{order.missing}",
        "{order.missing.id}",
        "{order.items[9]}",
        "{order.items[x]}",
        "{order.tags[absent]}",
        "{order.tags[absent].id}",
        "{order.cancel}",
        "{absent}",
        "{number[0]}",
        "id {order.missing}",
        "{order.id} {nothing}",
    ],
)
def test_what_is_not_there_is_nothing(text: str) -> None:
    """A missing attribute or item, None, or a method anywhere makes the whole template nothing."""
    assert templates.compile(text).render(VALUES) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{order.id", "the field is not closed; write }, at character 10 of '{order.id'"),
        ("a } b", "a brace closes that was not opened; write }}, at character 3 of 'a } b'"),
        ("{}", "a name of an argument, self, cls or result is expected, at character 2 of '{}'"),
        ("{0}", "a name of an argument, self, cls or result is expected, at character 2"),
        ("{ order}", "a name of an argument, self, cls or result is expected, at character 2"),
        ("{order.cancel()}", "a template calls nothing, at character 14"),
        ("{order!r}", "a template converts nothing, at character 7"),
        ("{order:>5}", "a template formats nothing, at character 7"),
        ("{order.__class__}", "'__class__' is private, at character 8"),
        ("{order._id}", "'_id' is private, at character 8"),
        ("{_order}", "'_order' is private, at character 2"),
        ("{order.}", "the name of an attribute is expected after the dot, at character 7"),
        ("{order.1}", "'1' is no name of an attribute, at character 8"),
        ("{order[}", "an item is written [0] or [key], at character 7"),
        ("{order[]}", "an item is written [0] or [key], at character 7"),
        ("{order['a]}", "an item is written [0] or [key], at character 7"),
        ("{order id}", "a field ends with }, at character 7"),
        ("x{a}{b", "the field is not closed; write }, at character 7 of 'x{a}{b'"),
    ],
)
def test_what_is_no_template_is_said_with_its_place(text: str, said: str) -> None:
    """One sentence names what is wrong and the character where it is."""
    with pytest.raises(SettingsError) as caught:
        templates.compile(text)

    assert str(caught.value).startswith(said)


@given(st.text(alphabet="{}[]().:!'\"_ab01 \n") | st.text())
def test_any_text_compiles_or_is_refused(text: str) -> None:
    """No text makes the compiler fail otherwise, and what compiles renders."""
    try:
        template = templates.compile(text)
    except SettingsError:
        return
    assert (template.render({}) is None) == bool(template.roots)


@given(st.text())
def test_doubled_braces_are_the_text_itself(text: str) -> None:
    """Any literal can be written by doubling its braces."""
    doubled = text.replace("{", "{{").replace("}", "}}")

    assert templates.compile(doubled).render({}) == text


def test_roots_are_the_names_that_fields_start_at() -> None:
    """Roots name what a template needs of a call; `result` is needed only after it."""
    template = templates.compile("{order.id} {self.name} {order.total}")
    late = templates.compile("{result.url}")

    assert (template.roots, template.needs_result) == ({"order", "self"}, False)
    assert (late.roots, late.needs_result) == ({"result"}, True)
    assert templates.compile("x").roots == frozenset()


@pytest.mark.parametrize("value", [3, 2.5, True, "plain {"])
def test_a_constant_is_itself(value: object) -> None:
    """Values of the settings that are no text need no compiling."""
    assert templates.constant(value).render({}) == value


# ---------------------------------------------------------------------- the host's objects


class Hostile:
    """Raises whatever is done to it."""

    def __init__(self, error: Exception) -> None:
        object.__setattr__(self, "error", error)

    def __getattribute__(self, name: str) -> Any:
        raise object.__getattribute__(self, "error")

    def __getitem__(self, key: object) -> Any:
        raise object.__getattribute__(self, "error")

    def __bool__(self) -> bool:
        raise object.__getattribute__(self, "error")

    __eq__ = __contains__ = __getitem__  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]
    __str__ = __repr__ = __format__ = __bool__  # type: ignore[assignment]


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        KeyError("x"),
        RecursionError(),
        StopIteration(),
        MemoryError(),
        LookupError(),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("text", ["{x.a}", "{x[a]}", "{x.a.b[0]}", "{y.x.a}", "in {x.a} text"])
def test_a_hostile_object_is_nothing(text: str, error: Exception) -> None:
    """Whatever an object raises when it is touched stays here."""
    hostile = Hostile(error)
    values = {"x": hostile, "y": types.SimpleNamespace(x=hostile)}

    assert templates.compile(text).render(values) is None


def test_a_hostile_object_in_text_is_named_by_its_class() -> None:
    """No `__str__` of the host's runs: it could block, or return a gigabyte."""

    class Loud:
        def __str__(self) -> str:
            return str(pytest.fail("a template turns no object into text"))

        __repr__ = __format__ = __str__  # type: ignore[assignment]

    assert templates.compile("of {x}").render({"x": Loud()}) == f"of <{Loud.__qualname__}>"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_what_ends_a_program_is_not_kept(error: type[BaseException]) -> None:
    """An interrupt that comes while a property runs is the program's, not the template's."""

    class Slow:
        @property
        def name(self) -> str:
            raise error

    with pytest.raises(error):
        templates.compile("{x.name}").render({"x": Slow()})


def test_looking_makes_nothing() -> None:
    """A defaultdict does not grow by being asked for a key."""
    grows: defaultdict[str, list[int]] = defaultdict(list)

    assert templates.compile("{x[a]}").render({"x": grows}) is None
    assert grows == {}


@pytest.mark.parametrize(
    "mapping",
    [{"a": 1}, UserDict({"a": 1}), ChainMap({}, {"a": 1}), types.MappingProxyType({"a": 1})],
    ids=lambda mapping: type(mapping).__name__,
)
def test_any_mapping_has_items(mapping: Any) -> None:
    """Items are reached as the mapping itself gives them."""
    assert templates.compile("{x[a]}").render({"x": mapping}) == 1
    assert templates.compile("{x[b]}").render({"x": mapping}) is None


def test_properties_and_getattr_are_attributes() -> None:
    """Computed attributes count, since that is how many objects show what they hold."""

    class Lazy:
        def __getattr__(self, name: str) -> str:
            return name.upper()

        @functools.cached_property
        def cached(self) -> int:
            return 7

    pair = namedtuple("pair", "left right")  # noqa: PYI024 - as a host may have it

    assert templates.compile("{x.url}").render({"x": Lazy()}) == "URL"
    assert templates.compile("{x.cached}").render({"x": Lazy()}) == 7
    assert templates.compile("{x.left} {x[1]}").render({"x": pair(1, 2)}) == "1 2"


# ---------------------------------------------------------------------- arguments of a call


def everything(a: int, /, b: int, c: int = 3, *rest: int, d: int, e: int = 5, **more: int) -> None:
    """Take arguments in every way there is."""


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((1, 2), {"d": 4}),
        ((1,), {"b": 2, "d": 4}),
        ((1, 2, 30), {"d": 4, "e": 50}),
        ((1, 2, 30, 31, 32), {"d": 4, "x": 9, "a": 10}),
    ],
)
def test_arguments_are_what_inspect_binds(args: tuple[int, ...], kwargs: dict[str, int]) -> None:
    """Each argument has the value that Python itself would give it, defaults applied."""
    signature = signature_of(everything)
    assert signature is not None
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    arguments = Arguments(signature, "", bound.arguments)

    assert arguments.missing == []
    assert arguments.of(None, args, kwargs) == bound.arguments


def test_what_a_call_leaves_out_is_nothing() -> None:
    """A call that Python will refuse has no values, and fails in the host's own way."""
    arguments = Arguments(signature_of(everything), "", ["a", "b", "c", "d"])

    assert arguments.of(None, (), {}) == {"a": None, "b": None, "c": 3, "d": None}


def test_a_name_of_the_open_keywords_is_an_argument() -> None:
    """Where a callable takes any keyword, a root may be one of them."""
    arguments = Arguments(signature_of(everything), "", ["x", "y"])

    assert arguments.missing == []
    assert arguments.of(None, (1, 2), {"d": 4, "x": 9}) == {"x": 9, "y": None}


def test_a_root_that_is_no_argument_is_missing() -> None:
    """What could be written instead is told; `result` is always there."""

    def check(order: str, strict: bool = False) -> None: ...

    arguments = Arguments(signature_of(check), "", ["oder", "order", "self", "result"])

    assert arguments.missing == ["oder", "self"]
    assert arguments.names == ["order", "result", "strict"]


class Host:
    def method(this, order: str) -> None:  # noqa: N805 - a receiver by another name
        """Take a receiver that is not called self."""

    @classmethod
    def build(cls, order: str) -> None:
        """Take a class."""

    def loose(*args: Any) -> None:
        """Take the receiver among the others."""


def test_the_receiver_is_self_cls_and_its_own_name() -> None:
    """`self` and `cls` mean the object and its class, whatever the parameter is called."""
    host = Host()
    roots = ["self", "cls", "this", "order"]
    method = Arguments(signature_of(Host.method), "self", roots)
    build = Arguments(signature_of(Host.__dict__["build"].__func__), "cls", ["cls", "self"])
    bound = Arguments(signature_of(host.method), "self", ["self", "order"], unbound=False)

    assert method.of(host, ("o",), {}) == {"self": host, "cls": Host, "this": host, "order": "o"}
    assert build.missing == ["self"]
    assert build.of(Host, ("o",), {}) == {"cls": Host}
    assert bound.of(host, ("o",), {}) == {"self": host, "order": "o"}


def test_a_receiver_among_the_others_is_still_self() -> None:
    """A method of `*args` alone has its object as `self` and the rest as `args`."""
    arguments = Arguments(signature_of(Host.loose), "self", ["self", "args"])

    assert arguments.of("host", (1, 2), {}) == {"self": "host", "args": (1, 2)}


def test_annotations_are_not_evaluated() -> None:
    """A name that only type checkers import does not hide a signature."""
    names: dict[str, Any] = {}
    exec("from __future__ import annotations\ndef f(a: Absent) -> Absent: ...", names)  # noqa: S102

    assert Arguments(signature_of(names["f"]), "", ["a"]).missing == []


def test_without_a_signature_there_are_no_arguments() -> None:
    """A callable that tells no signature, or a wrong one, has nothing but its receiver."""

    def odd() -> None: ...

    odd.__signature__ = "nonsense"  # type: ignore[attr-defined]

    assert signature_of(odd) is None
    assert Arguments(None, "self", ["a", "self"]).missing == ["a"]
