"""Where a `[[wrap]]` target is: its module, the object that holds it, and how it is called.

Nothing is imported to find out, and no code of the host's runs: names are looked up in the
dictionaries of modules and classes.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import re
import sys
import types
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_agents.drive import is_lazy
from otel_agents.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec

    from otel_agents.templates import Receiver

_STARTED: Final = re.compile(r"""^if\s+__name__\s*==\s*["']__main__["']""", re.MULTILINE)
_PROPERTIES: Final = (property, functools.cached_property, types.GetSetDescriptorType)


class Place(NamedTuple):
    """A callable, and what holds it.

    `raw` stands in the holder's dictionary, or in that of a base class where `inherited`.
    `function` has the signature, which begins with the receiver where `unbound`. `bound_to` is
    what a callable is bound to already, as a method of an object that a module holds.
    """

    holder: Any
    name: str
    raw: Any
    inherited: bool
    function: Any
    receiver: Receiver = ""
    unbound: bool = False
    bound_to: Any = None

    @property
    def lazy(self) -> bool:
        """A call only makes a coroutine or generator."""
        function = self.function
        if not isinstance(function, types.FunctionType | types.MethodType | functools.partial):
            function = getattr(type(function), "__call__", function)  # noqa: B004 - of its class
        return is_lazy(function)

    @property
    def defined_in(self) -> str:
        """The `module:name` that a function of a module really is, where that is another."""
        module = getattr(self.raw, "__module__", None)
        name = getattr(self.raw, "__qualname__", "")
        if not isinstance(self.holder, types.ModuleType) or module == self.holder.__name__:
            return ""
        there = vars(sys.modules.get(str(module), types)).get(str(name))
        return f"{module}:{name}" if there is self.raw else ""


def locate(module: Any, path: str) -> Place:
    """Find a dotted name in a module.

    Raises:
        SettingsError: It is not there, or nothing that can be called and wrapped.

    """
    *outer, name = path.split(".")
    holder = module
    walked = getattr(module, "__name__", "the module")
    for part in outer:
        value, _ = _look_up(holder, part, walked)
        holder = value
        walked = f"{walked}.{part}"
    raw, inherited = _look_up(holder, name, walked)
    if inspect.isclass(raw):
        raise _wrong(path, f'is a class; name one of its methods, as "{path}.__init__"')
    if isinstance(raw, _PROPERTIES):
        raise _wrong(path, "is a property, and only what is called can be a scope")
    place = _placed(holder, name, raw, inherited=inherited)
    if place is None:
        raise _wrong(path, f"is a {type(raw).__name__}, which cannot be called")
    code = getattr(place.function, "__code__", None)
    if code is not None and code.co_filename == contextlib.__file__:
        what = "makes a context manager, and a scope around that is over before the block begins"
        raise _wrong(path, f"{what}; name a function that does the work")
    return place


def _placed(holder: Any, name: str, raw: Any, *, inherited: bool) -> Place | None:
    if inspect.isclass(holder):
        if isinstance(raw, classmethod | staticmethod):
            receiver: Receiver = "cls" if isinstance(raw, classmethod) else ""
            unbound = bool(receiver)
            return Place(holder, name, raw, inherited, raw.__func__, receiver, unbound)
        if hasattr(type(raw), "__get__"):
            function = getattr(holder, name, None)
            if not callable(function):
                return None
            return Place(holder, name, raw, inherited, function, "self", unbound=True)
        return Place(holder, name, raw, inherited, raw) if callable(raw) else None
    if not isinstance(holder, types.ModuleType):
        raw = getattr(holder, name, None)  # what the object itself would call
    if not callable(raw):
        return None
    if isinstance(raw, types.FunctionType | types.BuiltinFunctionType):
        return Place(holder, name, raw, inherited, raw)
    bound_to = getattr(raw, "__self__", None)
    return Place(
        holder, name, raw, inherited, raw, "self", bound_to=raw if bound_to is None else bound_to
    )


def _wrong(subject: str, what: str) -> SettingsError:
    return SettingsError(f"{subject} {what}")


def _look_up(holder: Any, name: str, walked: str) -> tuple[Any, bool]:
    """Return a name of a holder as it stands in a dictionary, and whether in a base class's."""
    own = getattr(holder, "__dict__", {})
    if name in own:
        return own[name], False
    kind = holder if inspect.isclass(holder) else type(holder)
    if not isinstance(holder, types.ModuleType):
        for base in kind.__mro__:
            if name in vars(base):
                return vars(base)[name], True
    if "__getattr__" in own and isinstance(holder, types.ModuleType):
        what = f"makes {name} only when it is asked for"
        raise _wrong(walked, f"{what}; name the module that defines it")
    names = dir(kind) if inspect.isclass(holder) else list(own)
    raise _wrong(walked, f'has no "{name}"{meant(name, names)}')


def meant(word: str, known: Sequence[str]) -> str:
    """Return the end of a sentence on a word that is not known: which one may be meant."""
    from difflib import get_close_matches

    near = get_close_matches(word, known, 1)
    return f'; did you mean "{near[0]}"?' if near else ""


# ---------------------------------------------------------------------- modules


def missing_part(module: str) -> str:
    """Return the first part of a module's name that cannot be found, or "" if all can."""
    return _walk(module)[0]


def is_program(module: str) -> bool:
    """Say whether a module is what Python was started with, which runs as `__main__`."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if spec is not None:
        return bool(spec.name == module)
    asked = sys.orig_argv[1:3]
    if asked[:1] == ["-m"]:
        return module in {*asked[1:], *(f"{name}.__main__" for name in asked[1:])}
    origin = _walk(module)[1]
    return origin is not None and os.path.realpath(origin) == _script()


def is_also_program(module: str) -> bool:
    """Say whether an imported module is written to be started by itself as well."""
    try:
        spec: Any = sys.modules[module].__spec__
        return _STARTED.search(spec.loader.get_source(module)) is not None
    except Exception:  # noqa: BLE001 - a module of any kind, from any loader
        return False


def _walk(module: str) -> tuple[str, str | None]:
    """Return the first part of a name that is missing, and the file of the whole one.

    Parents are searched and not imported. A finder that fails is taken to know more than we do.
    """
    path: Any = None
    origin = None
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        name = ".".join(parts[:count])
        if count > 1 and path is None:
            return name, None
        loaded = sys.modules.get(name)
        if loaded is not None:
            path, origin = getattr(loaded, "__path__", None), getattr(loaded, "__file__", None)
            continue
        try:
            spec = _spec(name, path)
        except Exception:  # noqa: BLE001 - any finder's own failure
            return "", None
        if spec is None:
            return name, None
        path, origin = spec.submodule_search_locations, spec.origin
    return "", origin


def _spec(name: str, path: Any) -> ModuleSpec | None:
    for finder in sys.meta_path:
        if type(finder).__module__.startswith("wrapt"):
            continue  # it would import the parents
        search = path
        if finder is PathFinder and path is None:
            # At start the program's own directory is not on the path yet.
            search = [os.path.dirname(_script()), os.getcwd(), *sys.path]  # noqa: PTH109, PTH120
        find = getattr(finder, "find_spec", None)
        spec: ModuleSpec | None = None if find is None else find(name, search)
        if spec is not None:
            return spec
    return None


def _script() -> str:
    main = sys.modules.get("__main__")
    return os.path.realpath(getattr(main, "__file__", None) or next(iter(sys.argv), ""))
