"""Templates of `[[wrap]]` tables: text with fields of the call, such as `{order.items[0].id}`.

A field starts at an argument of the call by name, at `self` or `cls`, or at `result`, what the
call returned. From there it reaches attributes (`.name`) and items (`[0]`, `[key]`) and nothing
else: no calls, no names with a leading underscore, no formats. `{{` and `}}` are braces.

A property or `__getattr__` of the host runs when it is reached, since that is how its objects show
their attributes. What it raises is kept here: the template then yields nothing.
"""

from __future__ import annotations

import inspect
import re
import sys
import types
from collections.abc import Mapping
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Literal

from otel_agents.errors import SettingsError
from otel_agents.values import coerce

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

RESULT: Final = "result"

_PIECE: Final = re.compile(r"\{\{|\}\}|[{}]")
_NAME: Final = re.compile(r"[^\W\d]\w*")
_STEP: Final = re.compile(
    r"""\.(?P<name>\w+)
      | \[(?:(?P<index>-?\d{1,18})
           | '(?P<one>[^']*)' | "(?P<two>[^"]*)" | (?P<key>[^\[\]{}'"]+))\]""",
    re.VERBOSE,
)
# What a class gives its instances to call. It says nothing of the work, so it counts as nothing.
_METHODS: Final = frozenset({
    types.FunctionType, types.MethodType, types.BuiltinFunctionType, types.MethodWrapperType,
})  # fmt: skip

Plain = str | int | float | bool
Steps = tuple[tuple[bool, Any], ...]  # whether a step is an attribute, and its name or key
# The root of a field, and what gets its value from the root's, which is itself without steps.
Field = tuple[str, "Callable[[Any], Any] | None"]


class Template:
    """A compiled template. `roots` are the names its fields start at, `result` among them."""

    __slots__ = ("_parts", "needs_result", "roots", "text")

    def __init__(self, text: str, parts: tuple[Plain | Field, ...]) -> None:
        self.text = text
        self._parts = parts
        self.roots: frozenset[str] = frozenset(part[0] for part in parts if isinstance(part, tuple))
        self.needs_result = RESULT in self.roots

    def render(self, values: Mapping[str, Any]) -> Any:
        """Return what the template says of these values by root, or None where a field is nothing.

        A template that is one field and no more gives the value as it is; any other gives text.
        """
        try:
            parts = self._parts
            if len(parts) == 1:
                part = parts[0]
                return _reach(values, *part) if isinstance(part, tuple) else part
            texts = []
            for part in parts:
                text = coerce(_reach(values, *part), str) if isinstance(part, tuple) else part
                if text is None:
                    return None
                texts.append(str(text))
            return "".join(texts)
        except Exception:  # noqa: BLE001 - an object of the host's may raise anything when touched
            return None


def compile(text: str) -> Template:  # noqa: A001 - named as `re.compile` is
    """Compile a template.

    Raises:
        SettingsError: The text is no template; the message names the place, counted from 1.

    """
    parts: list[Plain | Field] = []
    literal = ""
    position = 0
    while match := _PIECE.search(text, position):
        literal += text[position : match.start()]
        found = match.group()
        position = match.end()
        if found != "{":
            if found == "}":
                raise _error(text, match.start(), "a brace closes that was not opened; write }}")
            literal += found[0]
            continue
        if literal:
            parts.append(literal)
            literal = ""
        field, position = _field(text, position)
        parts.append(field)
    literal += text[position:]
    if literal or not parts:
        parts.append(literal)
    return Template(text, tuple(parts))


def constant(value: Plain) -> Template:
    """Return a template that is always this value."""
    return Template(str(value), (value,))


def _field(text: str, position: int) -> tuple[Field, int]:
    """Read a field from behind its opening brace to behind its closing one."""
    root = _NAME.match(text, position)
    if root is None:
        raise _error(text, position, "a name of an argument, self, cls or result is expected")
    _public(text, position, root.group())
    position = root.end()
    steps: list[tuple[bool, Any]] = []
    while step := _STEP.match(text, position):
        name, index, one, two, key = step.group("name", "index", "one", "two", "key")
        if name is not None:
            if not name.isidentifier():
                raise _error(text, step.start("name"), f"{name!r} is no name of an attribute")
            _public(text, step.start("name"), name)
            steps.append((True, name))
        else:
            steps.append((False, int(index) if index is not None else one or two or key or ""))
        position = step.end()
    closing = text[position : position + 1]
    if closing != "}":
        raise _error(text, position, _REFUSED.get(closing, "a field ends with }"))
    return (root.group(), _getter(tuple(steps))), position + 1


def _getter(steps: Steps) -> Callable[[Any], Any] | None:
    if not steps:
        return None
    if all(attribute for attribute, _ in steps):
        return attrgetter(".".join(name for _, name in steps))  # which is quicker than a loop
    return partial(_follow, steps)


def _follow(steps: Steps, value: Any) -> Any:
    for attribute, key in steps:
        value = getattr(value, key) if attribute else _item(value, key)
    return value


_REFUSED: Final = {
    "": "the field is not closed; write }",
    "(": "a template calls nothing",
    "!": "a template converts nothing",
    ":": "a template formats nothing",
    "[": "an item is written [0] or [key]",
    ".": "the name of an attribute is expected after the dot",
}


def _public(text: str, position: int, name: str) -> None:
    if name.startswith("_"):
        raise _error(text, position, f"{name!r} is private")


def _error(text: str, position: int, reason: str) -> SettingsError:
    return SettingsError(f"{reason}, at character {position + 1} of {text!r}")


def _reach(values: Mapping[str, Any], root: str, get: Callable[[Any], Any] | None) -> Any:
    """Return the value of a field; what raises on the way is nothing to its caller."""
    value = values.get(root)
    if get is not None and value is not None:
        value = get(value)
    return None if type(value) in _METHODS else value


def _item(value: Any, key: Any) -> Any:
    """Return an item, and never make one: a `defaultdict` must not grow by being looked at."""
    if isinstance(value, Mapping) and key not in value:
        key = str(key)  # `[0]` of a mapping may be meant as text
        return value[key] if key in value else None  # noqa: SIM401 - `get` can be the host's own
    return value[key]


Receiver = Literal["self", "cls", ""]
_POSITIONAL: Final = (
    inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD,
)  # fmt: skip


class Arguments:
    """Where a callable's calls hold the roots of templates, found once from its signature.

    `receiver` is what a call has beside its arguments: "self", "cls" or "". Where the callable is
    `unbound` it is the first parameter of the signature. `missing` are the roots that are nothing
    in a call, and `names` what could be written instead.
    """

    def __init__(
        self,
        signature: inspect.Signature | None,
        receiver: Receiver,
        roots: Iterable[str],
        *,
        unbound: bool = True,
    ) -> None:
        parameters = [] if signature is None else list(signature.parameters.values())
        receivers = {"self": {"self", "cls"}, "cls": {"cls"}, "": set()}[receiver]
        if unbound and receiver and parameters and parameters[0].kind in _POSITIONAL:
            receivers.add(parameters.pop(0).name)
        by_name = {parameter.name: (at, parameter) for at, parameter in enumerate(parameters)}
        # What a keyword can mean; one named like a positional-only parameter is for `**kwargs`.
        taken = {one.name for one in parameters if one.kind is not one.POSITIONAL_ONLY}
        takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters)
        self.missing: list[str] = []
        self._placed: list[tuple[str, int, Any]] = []
        self._named: list[tuple[str, Any]] = []
        self._other: list[tuple[str, Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]]] = []
        for root in sorted(set(roots) - {RESULT}):
            if root in by_name:
                self._place(root, *by_name[root], taken)
            elif root in receivers:
                to_class = root == "cls" and receiver == "self"
                self._other.append((root, _class_of if to_class else _receiver))
            elif takes_any:
                self._named.append((root, None))
            else:
                self.missing.append(root)
        self.names = sorted({*by_name, *receivers, RESULT})

    def _place(self, root: str, at: int, parameter: inspect.Parameter, taken: set[str]) -> None:
        default = None if parameter.default is parameter.empty else parameter.default
        if parameter.kind is parameter.KEYWORD_ONLY:
            self._named.append((root, default))
        elif parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            self._placed.append((root, at, default))
        elif parameter.kind is parameter.POSITIONAL_ONLY:
            self._other.append((root, lambda _, args, __: args[at] if at < len(args) else default))
        elif parameter.kind is parameter.VAR_POSITIONAL:
            self._other.append((root, lambda _, args, __: args[at:]))
        else:
            self._other.append(
                (root, lambda _, __, kwargs: {k: v for k, v in kwargs.items() if k not in taken})
            )

    def of(self, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the values of a call by root; what it does not pass is its default or None."""
        count = len(args)
        found = {
            root: args[at] if at < count else kwargs.get(root, default)
            for root, at, default in self._placed
        }
        for root, default in self._named:
            found[root] = kwargs.get(root, default)
        for root, get in self._other:
            found[root] = get(instance, args, kwargs)
        return found


def _receiver(instance: Any, _args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Any:
    return instance


def _class_of(instance: Any, _args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Any:
    return type(instance)


def signature_of(function: Any) -> inspect.Signature | None:
    """Return a callable's signature, or None where it tells none, as some built-in ones."""
    try:
        if sys.version_info >= (3, 14):
            from annotationlib import Format

            # As text: names that are imported for type checkers only cannot be evaluated.
            return inspect.signature(function, annotation_format=Format.STRING)
        return inspect.signature(function)
    except Exception:  # noqa: BLE001 - `__signature__` of the host's may raise anything
        return None
