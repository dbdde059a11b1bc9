"""Users' own functions as scopes: the `[[wrap]]` tables, applied when their modules are imported.

A table that is wrong costs a sentence, never the program: each is reported for `otel-agents doctor`
and logged once, and what is right in it is used. A wrapped function returns and raises what it
always did.

An import hook sees a module once, when it is complete: a module that is reloaded, and a function
that was copied elsewhere while its module was still being imported, are not caught.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import wrapt

from otel_agents import runtime, templates
from otel_agents.boundary import boundary, caught
from otel_agents.drive import drive
from otel_agents.errors import SettingsError
from otel_agents.instrument.places import (
    Place,
    is_also_program,
    is_program,
    locate,
    meant,
    missing_part,
)
from otel_agents.scopes import scope_class
from otel_agents.templates import Arguments, Template
from otel_agents.tool_call import WRITES
from otel_agents.values import coerce, readable
from otel_agents.vocabulary import ANY_FIELDS, KINDS, Kind
from otel_agents.wrapper import Wrapper

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from otel_agents.drive import Finish
    from otel_agents.scope import Scope
    from otel_agents.settings import Plain, Wrap

State = Literal["applied", "waiting", "failed"]

_TARGET: Final = re.compile(r"(?P<module>[\w.]+):(?P<path>[^\W\d]\w*(?:\.[^\W\d]\w*)*)")
# A model call needs its usage, which no template gives: `otel_agents.model` takes it. Restores are
# those of agents, which we carry out ourselves.
SCOPES: Final[dict[str, Kind]] = {
    name: kind for name, kind in KINDS.items() if name not in {"model", "restore"}
}


def fields_of(kind: Kind) -> dict[str, bool]:
    """Return the fields that a `[[wrap]]` of a kind takes, and whether the result may set them.

    Where a scope is stands on every span inside it, so it must be known when the scope opens.
    """
    own = {"iteration": ("number",), "tool": (WRITES,)}
    where = own.get(kind.name) or kind.ids
    return dict.fromkeys(where, False) | dict.fromkeys((*kind.fields, *ANY_FIELDS), True)


class Targets:
    """The `[[wrap]]` tables of the settings at work."""

    def __init__(self, wraps: Sequence[Wrap]) -> None:
        self._plans = [_Plan(wrap) for wrap in wraps]
        self._patches: list[_Patch] = []
        self._installed = False
        self._hooked: set[str] = set()
        self._said: set[str] = set()

    def install(self) -> None:
        """Wrap what is imported, and what will be when it is; a second time does nothing."""
        if self._installed:
            return
        self._installed = True
        for module in dict.fromkeys(plan.module for plan in self._plans if plan.module):
            if module not in self._hooked:
                self._hooked.add(module)
                imported = functools.partial(self._imported, module)
                wrapt.register_post_import_hook(imported, module)
        self._warn()

    def uninstall(self) -> None:
        """Put every original back. A wrapper that is held elsewhere just calls what it wraps."""
        self._installed = False
        for plan in self._plans:
            plan.on, plan.wrapped_in = False, None
        while self._patches:
            self._patches.pop().undo()

    def report(self) -> list[tuple[Wrap, State, str]]:
        """Return each table with its state and a sentence.

        `failed` says that something is wrong with a table; what is right in it may be at work.
        """
        found: list[tuple[Wrap, State, str]] = []
        for plan in self._plans:
            state, sentences = plan.state()
            if state == "applied" and is_also_program(plan.module):
                limit = (
                    f"Where {plan.module} is the program itself, it is not imported, nor wrapped."
                )
                sentences = [*sentences, limit]
            found.append((plan.wrap, state, " ".join(sentences)))
        return found

    def _imported(self, name: str, module: Any) -> None:
        """Wrap the targets in a module. What failed here would fail the program's import."""
        try:
            self._hooked.discard(name)
            if self._installed:
                module = sys.modules.get(name, module)  # some modules put an object in their place
                # The last first, so that the first in the file is the outermost.
                for plan in reversed(self._plans):
                    if plan.module == name:
                        self._apply(plan, module)
                self._warn()
        except Exception as error:  # noqa: BLE001 - the program's import goes on
            caught(f"target {name}", error)

    def _apply(self, plan: _Plan, module: Any) -> None:
        try:
            place = locate(module, plan.path)
            if _is_wrapped(place.raw, plan.wrap):
                plan.on, plan.wrapped_in = True, place
                return
            around = plan.bind(place)
            wrapper = Wrapper(place.raw, around, plan.wrap.target, plan)
            setattr(place.holder, place.name, wrapper)
            plan.on, plan.wrapped_in = True, place
            self._patches.append(_Patch(plan, place, wrapper))
        except SettingsError as error:
            plan.found_wrong(str(error))
        except Exception as error:  # noqa: BLE001 - a class that lets nobody set its attributes
            plan.found_wrong(f"{plan.path} cannot be wrapped: {type(error).__name__}: {error}")

    def _warn(self) -> None:
        """Log each sentence on what is wrong, once."""
        for plan in self._plans:
            state, sentences = plan.state()
            for sentence in sentences:
                if state == "failed" and sentence not in self._said:
                    self._said.add(sentence)
                    boundary.warn("otel-agents: %s", sentence)


class _Patch(NamedTuple):
    """One replacement: what stood where, and what stands there now."""

    plan: _Plan
    place: Place
    wrapper: Wrapper

    def undo(self) -> None:
        """Put back what stood there, unless somebody else has replaced ours."""
        place = self.place
        if vars(place.holder).get(place.name) is not self.wrapper:
            return
        if place.inherited:
            delattr(place.holder, place.name)
        else:
            setattr(place.holder, place.name, place.raw)


def _is_wrapped(raw: Any, wrap: Wrap) -> bool:
    """Say whether a table is at work on a callable already, put there by another instrumentor."""
    while isinstance(raw, Wrapper):
        plan = raw._self_mark  # noqa: SLF001 - one package
        if plan.on and plan.wrap == wrap:
            return True
        raw = raw.__wrapped__
    return False


class _Slot(NamedTuple):
    """A field or attribute of a scope, and the template of its value."""

    key: str
    template: Template
    is_field: bool
    what: str


class _Plan:
    """One `[[wrap]]` table: what is to be wrapped, as which scope, and what is wrong with it."""

    def __init__(self, wrap: Wrap) -> None:
        self.wrap = wrap
        self.on = False
        self.wrapped_in: Place | None = None
        self.module = ""
        self.path = ""
        self._wrong: list[str] = []
        target = _TARGET.fullmatch(wrap.target)
        kind = SCOPES.get(wrap.scope)
        if target is None:
            example = '"shop.pipeline:Pipeline.run"'
            self.found_wrong(f'target "{wrap.target}" is no module:qualified.name, as {example}')
        elif target["module"] == "__main__":
            self.found_wrong(
                "nothing in __main__ can be wrapped, since it is never imported; move "
                f"{target['path']} to a module that the program imports"
            )
        if kind is None:
            known = meant(wrap.scope, list(SCOPES)) or f"; there are {', '.join(SCOPES)}"
            self.found_wrong(f'there is no scope "{wrap.scope}"{known}')
        if self._wrong or target is None or kind is None:
            return
        self.module, self.path = target["module"], target["path"]
        self.kind = kind
        self._name = self._name_template()
        self._slots = [*self._fields(), *self._attributes()]

    def found_wrong(self, sentence: str) -> None:
        """Keep what is wrong, as a sentence that names the table."""
        end = "" if sentence.endswith("?") else "."
        sentence = f"{self.wrap.place}: {sentence}{end}".removeprefix(": ")
        if sentence not in self._wrong:
            self._wrong.append(sentence)

    def state(self) -> tuple[State, list[str]]:
        """Return how the table stands, in sentences."""
        if self._wrong:
            return "failed", self._wrong
        if self.wrapped_in is not None:
            inner = self.wrapped_in.defined_in
            limit = f", where it is called by this name and not as {inner}" if inner else ""
            return "applied", [f"{self.wrap.target} is wrapped as {self.wrap.scope}{limit}."]
        place = f"{self.wrap.place}: ".removeprefix(": ")
        if is_program(self.module):
            sentence = (
                f"{place}{self.module} is the program itself, which runs as __main__ and is never "
                f"imported; move {self.path} to a module that the program imports."
            )
            return "failed", [sentence]
        missing = missing_part(self.module)
        if missing:
            return "failed", [f'{place}there is no module "{missing}" on the path.']
        return "waiting", [f"{place}{self.module} has not been imported."]

    # ------------------------------------------------------------------ templates

    def _name_template(self) -> Template | None:
        template = self._compiled("name", self.wrap.name)
        if template is not None and template.needs_result:
            self.found_wrong("name: it is needed when the scope opens, before there is a result")
            return None
        return template

    def _fields(self) -> Iterator[_Slot]:
        known = fields_of(self.kind)
        for field, value in self.wrap.fields.items():
            what = f"field {field}"
            template = self._compiled(what, value)
            if field not in known:
                end = meant(field, list(known)) or f"; it has {', '.join(known)}"
                self.found_wrong(f'{self.kind.name} has no field "{field}"{end}')
            elif template is not None and template.needs_result and not known[field]:
                self.found_wrong(
                    f"{what}: it is needed when the scope opens, before there is a result"
                )
            elif template is not None:
                yield _Slot(field, template, is_field=True, what=what)

    def _attributes(self) -> Iterator[_Slot]:
        for key, value in self.wrap.attributes.items():
            what = f"attribute {key}"
            template = self._compiled(what, value)
            if template is not None:
                yield _Slot(key, template, is_field=False, what=what)

    def _compiled(self, what: str, value: Plain | None) -> Template | None:
        if value is None:
            return None
        if not isinstance(value, str):
            return templates.constant(value)
        try:
            return templates.compile(value)
        except SettingsError as error:
            self.found_wrong(f"{what}: {error}")
            return None

    # ------------------------------------------------------------------ calls

    def bind(self, place: Place) -> Around:
        """Return what goes around the calls of a callable, and say what does not fit it."""
        slots = self._slots
        name = self._name
        roots = {root for slot in slots for root in slot.template.roots}
        roots |= set() if name is None else name.roots
        arguments = Arguments(
            templates.signature_of(place.function), place.receiver, roots, unbound=place.unbound
        )
        for root in arguments.missing:
            end = meant(root, arguments.names) or f"; it has {', '.join(arguments.names)}"
            used = ["name"] if name is not None and root in name.roots else []
            used += [slot.what for slot in slots if root in slot.template.roots]
            for what in used:
                self.found_wrong(f'{what}: "{root}" is no argument of {self.path}{end}')
        if templates.RESULT in roots and inspect.isasyncgenfunction(place.function):
            self.found_wrong(f"{self.path} is an async generator, which returns no result")
        missing = set(arguments.missing)
        if name is not None and name.roots & missing:
            name = None
        fitting = [slot for slot in slots if not slot.template.roots & missing]
        return Around(self, place, name, fitting, arguments if roots - missing else None)


class Around:
    """What is done around each call of a wrapped callable."""

    __slots__ = (
        "_arguments", "_attributes", "_bound_to", "_class", "_default", "_fields", "_inherited",
        "_kind", "_late", "_lazy", "_name", "_place", "_plan",
    )  # fmt: skip

    def __init__(
        self,
        plan: _Plan,
        place: Place,
        name: Template | None,
        slots: Iterable[_Slot],
        arguments: Arguments | None,
    ) -> None:
        self._plan = plan
        self._place = place
        self._kind = plan.kind
        self._class = scope_class(plan.kind)
        self._lazy = place.lazy
        self._bound_to = place.bound_to
        self._inherited = place.inherited and place.receiver != ""
        self._arguments = arguments
        self._name = name
        self._default = _default_name(plan.kind, plan.path)
        early = [slot for slot in slots if not slot.template.needs_result]
        self._fields = [(slot.key, slot.template) for slot in early if slot.is_field]
        self._attributes = [(slot.key, slot.template) for slot in early if not slot.is_field]
        self._late = [slot for slot in slots if slot.template.needs_result]

    def __call__(
        self, wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call the original in a scope, or by itself where none can be made."""
        if self._inherited:
            wrapped = self._next(wrapped, instance)
        opened = None
        try:
            if self._plan.on and not runtime.get().disabled:
                opened = self._open(instance, args, kwargs)
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught(f"target {self._plan.wrap.target}", error)
        if opened is None:
            return wrapped(*args, **kwargs)
        scope, finish = opened
        call = functools.partial(wrapped, *args, **kwargs)
        return drive(scope, call, lazy=self._lazy, finish=finish)

    def _next(self, wrapped: Any, instance: Any) -> Any:
        """Return what an inherited method would be without the wrapper in the class that inherits.

        With several bases that need not be the one that was found when the wrapper was made.
        """
        try:
            return getattr(super(self._place.holder, instance), self._place.name)
        except (AttributeError, TypeError):  # called with an object of another class
            return wrapped

    def _open(
        self, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Scope, Finish | None]:
        values: dict[str, Any] = {}
        if self._arguments is not None:
            if self._bound_to is not None:
                instance = self._bound_to
            values = self._arguments.of(instance, args, kwargs)
        name = None if self._name is None else coerce(readable(self._name.render(values)), str)
        scope = self._class(
            self._kind,
            name or self._default,
            attributes=_rendered(self._attributes, values),
            fields=_rendered(self._fields, values),
        )
        return scope, functools.partial(self._finish, values) if self._late else None

    def _finish(self, values: dict[str, Any], scope: Scope, result: Any) -> None:
        """Set what only the result tells, before the scope ends."""
        values = {**values, templates.RESULT: result}
        for slot in self._late:
            value = readable(slot.template.render(values))
            if value is None:
                continue
            if slot.is_field:
                scope.set(**{slot.key: value})
            else:
                scope.set_attribute(slot.key, value)


def _rendered(slots: list[tuple[str, Template]], values: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, template in slots:
        value = readable(template.render(values))
        if value is not None:
            found[key] = value
    return found


def _default_name(kind: Kind, path: str) -> str | None:
    """Return the name of a scope whose table gives none: the function's, or else its class's."""
    if "{}" not in kind.span:
        return None
    parts = path.split(".")
    plain = [part for part in parts if not (part.startswith("__") and part.endswith("__"))]
    return (plain or parts)[-1]
