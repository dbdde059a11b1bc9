"""Finds every call that otel-agents makes on a program's threads, and has each fail in turn.

A call site is an instruction of ours that calls a Python function: our own, OpenTelemetry's or the
standard library's. The list is made by tracing a workload, so that none can be forgotten. A fault
is an exception raised as the callee is entered, which is what the caller sees when it fails.

Not a site is a call of the program's own code, whose exceptions are the program's, and a call of a
function of ours that nothing can fail in: one whose whole body stands in a `try` for `Exception`.
That is read off the syntax tree, by `airtight`.
"""

from __future__ import annotations

import ast
import dis
import sys
import threading
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import otel_agents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import CodeType, FrameType

PACKAGE: Final = str(Path(otel_agents.__file__).parent) + "/"
# Ours, but of tests.
_ASIDE: Final = (PACKAGE + "testing.py", PACKAGE + "pytest_plugin.py")
# Whoever is called there is the program, as far as we are concerned.
_HOSTS: Final = ("/pydantic_ai/", "/pydantic_graph/", "/httpx/", "/httpcore/", "/anyio/", "/tests/")
# A lock that is held and cannot be let go is no fault that a program could go on after.
_LOCKS: Final = frozenset({"Condition.__enter__", "Condition.__exit__"})
# Nor can what only keeps an exception back.
_SUPPRESS: Final = frozenset({f"suppress.{name}" for name in ("__init__", "__enter__", "__exit__")})
# They call the program, so they stand in no `try`. What else they call is a site of its own.
_CARRIERS: Final = frozenset(
    {
        "drive", "_follow", "_done", "_await_in", "_step", "_step_async", "begin", "_run_in",
        "Around.__call__", "Around._next", "BoundWrapper.__new__", "Scope.__exit__",
        "AsyncWith.__aenter__", "AsyncWith.__aexit__", "_ask", "_StreamContext._watch",
        "BaseEventLoop._asyncgen_firstiter_hook", "log_context.__exit__",
        "SpokenScope.end", "ModelCall.start", "current", "model", "current_frame",
        "_AsyncGeneratorContextManager.__aenter__", "_AsyncGeneratorContextManager.__aexit__",
        "_close", "_end_agent", "_fail", "_end_tool", "_parameters", "claim",
        "_StreamContext.__init__",
        "ScopeMaker._make",  # makes a scope without anything of the program's where it fails
    }
)  # fmt: skip
_COLLECTED: Final = "_weakrefset.py"
_OUR_THREADS: Final = "otel-agents-"


class Site(NamedTuple):
    """One call: where it stands, and what it calls."""

    file: str
    function: str
    line: int
    at: int
    callee: str

    def __str__(self) -> str:
        """Name the site as an editor would find it."""
        return f"{self.file}:{self.line} {self.function} -> {self.callee}"


def is_ours(code: CodeType) -> bool:
    """Return whether code is the package's."""
    return code.co_filename.startswith(PACKAGE) and code.co_filename not in _ASIDE


# ---------------------------------------------------------------------- what cannot fail

_CATCH_ALL: Final = frozenset({"Exception", "BaseException"})
# What reports a failure, or puts right what it left, and does not fail itself.
_REPORTS: Final = frozenset({"caught", "warn", "put_back"})
# Calls without any way to fail, beside those of functions found airtight.
_SURE: Final = frozenset(
    {
        "getpid", "current_frame", "watching", "_get_running_loop", "peek",
        "leave",
        "attach", "detach", "end",  # a scope's
    }
)  # fmt: skip


def _catches_all(handler: ast.ExceptHandler) -> bool:
    return isinstance(handler.type, ast.Name) and handler.type.id in _CATCH_ALL


def _is_simple(node: ast.AST, sure: frozenset[str]) -> bool:
    """Return whether a statement calls nothing that can fail."""
    for child in ast.walk(node):
        if isinstance(child, ast.Call):
            named = child.func
            name = named.attr if isinstance(named, ast.Attribute) else getattr(named, "id", "")
            if name not in sure:
                return False
        if isinstance(child, ast.With | ast.AsyncWith | ast.Yield | ast.For):
            return False
    return True


def _holds(node: ast.stmt, sure: frozenset[str]) -> bool:
    if isinstance(node, ast.Try):
        guarded = any(_catches_all(handler) for handler in node.handlers)
        ends = [one for handler in node.handlers for one in handler.body]
        return guarded and _all_hold((*ends, *node.orelse, *node.finalbody), sure)
    if isinstance(node, ast.If):
        return _is_simple(node.test, sure) and _all_hold((*node.body, *node.orelse), sure)
    if isinstance(node, ast.With):
        text = ast.unparse(node.items[0].context_expr)
        locked = text.endswith("_lock") and _all_hold(node.body, sure)
        return len(node.items) == 1 and (locked or text.endswith("suppress(Exception)"))
    apart = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return isinstance(node, apart) or _is_simple(node, sure)


def _all_hold(body: Iterable[ast.stmt], sure: frozenset[str]) -> bool:
    return all(_holds(node, sure) for node in body)


@cache
def airtight(path: str) -> frozenset[tuple[str, int]]:
    """Return the functions of a file, by name and first line, that keep all failures inside."""
    tree = ast.parse(Path(path).read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    functions = [node for node in ast.walk(tree) if isinstance(node, kinds)]
    names = [node.name for node in functions]
    found: set[tuple[str, int]] = set()
    while True:
        # A name that stands for several functions of the file says nothing.
        known = {name for name, _ in found if names.count(name) == 1}
        sure = _REPORTS | _SURE | known
        # Code begins at its first decorator.
        now = {
            (node.name, min([node.lineno, *(one.lineno for one in node.decorator_list)]))
            for node in functions
            if _all_hold(node.body, sure)
        }
        if now == found:
            return frozenset(found)
        found = now


# ---------------------------------------------------------------------- tracing


@cache
def _begins(code: CodeType) -> int:
    """Return the offset at which a call of a function, or the first step of a generator, begins."""
    return next(one.offset for one in dis.get_instructions(code) if one.opname == "RESUME")


class Tracer:
    """Follows a program's threads: notes the sites, or raises `fault` at one of them."""

    def __init__(self, originals: set[CodeType]) -> None:
        self._originals = originals
        self._known: dict[tuple[CodeType, int, CodeType], Site | None] = {}
        self.hits: dict[Site, int] = {}
        self.target: Site | None = None
        self.fault: Callable[[], BaseException] = RuntimeError
        self.skip = 0
        self.struck = 0

    def run(self, act: Callable[[], Any]) -> Any:
        """Call `act` under the tracer."""
        self.hits, self.struck = {}, 0
        before = sys.gettrace()
        threading.settrace(self._trace)
        sys.settrace(self._trace)
        try:
            return act()
        finally:
            sys.settrace(before)
            threading.settrace(before)  # type: ignore[arg-type]

    def _trace(self, frame: FrameType, event: str, _argument: Any) -> None:
        back = frame.f_back
        if event != "call" or back is None or not is_ours(back.f_code):
            return
        if frame.f_lasti > _begins(frame.f_code) or frame.f_code.co_filename.endswith(_COLLECTED):
            return  # a generator that goes on or is closed, or a weak reference's end
        key = (back.f_code, back.f_lasti, frame.f_code)
        if key in self._known:
            site = self._known[key]
        else:
            site = self._known[key] = self._site(frame, back)
        if site is None or threading.current_thread().name.startswith(_OUR_THREADS):
            return
        if self.target is None:
            self.hits[site] = self.hits.get(site, 0) + 1
        elif site == self.target:
            if self.struck == self.skip:
                self.struck += 1
                raise self.fault()
            self.struck += 1

    def _site(self, frame: FrameType, back: FrameType) -> Site | None:
        callee = frame.f_code
        if any(host in callee.co_filename for host in _HOSTS) or callee in self._originals:
            return None
        if callee.co_qualname in _LOCKS | _SUPPRESS | _CARRIERS:
            return None
        named = (callee.co_name, callee.co_firstlineno)
        if is_ours(callee) and named in airtight(callee.co_filename):
            return None
        caller = back.f_code
        return Site(
            caller.co_filename.removeprefix(PACKAGE),
            caller.co_qualname,
            back.f_lineno,
            back.f_lasti,
            callee.co_qualname,
        )
