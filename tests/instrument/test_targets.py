"""`[[wrap]]` tables: what they take from a call, when they apply, what is said of a wrong one."""

from __future__ import annotations

import asyncio
import copy
import importlib
import logging
import pickle
import subprocess
import sys
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from otel_agents import runtime, scopes
from otel_agents.boundary import boundary
from otel_agents.instrument import places
from otel_agents.instrument import targets as targets_module
from otel_agents.instrument.targets import SCOPES, Targets, fields_of
from otel_agents.settings import Wrap
from otel_agents.vocabulary import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opentelemetry.sdk.trace import ReadableSpan

PROGRAMS = Path(__file__).parent / "programs"
MODULES = ("shop_pipeline", "shop_parts", "shop_package", "shop_package.inner")


@pytest.fixture(autouse=True)
def _programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the programs on the path, and none of them imported."""
    monkeypatch.syspath_prepend(str(PROGRAMS))
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.fixture
def spans() -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    runtime.put(runtime.Runtime(tracer_provider=provider))
    return exporter


@pytest.fixture
def install() -> Iterator[Callable[..., Targets]]:
    """Install targets, and take them off after the test."""
    made: list[Targets] = []

    def install(*wraps: Wrap) -> Targets:
        targets = Targets(wraps)
        targets.install()
        made.append(targets)
        return targets

    yield install
    for targets in reversed(made):
        targets.uninstall()


def wrap(path: str, scope: str = "phase", module: str = "shop_pipeline", **given: Any) -> Wrap:
    return Wrap(target=f"{module}:{path}", scope=scope, place="[[wrap]] 1", **given)


def pipeline() -> Any:
    return importlib.import_module("shop_pipeline")


def states(targets: Targets) -> list[tuple[str, str]]:
    return [(state, sentence) for _, state, sentence in targets.report()]


def names(spans: InMemorySpanExporter) -> list[str]:
    return [span.name for span in spans.get_finished_spans()]


def only(spans: InMemorySpanExporter) -> ReadableSpan:
    (span,) = spans.get_finished_spans()
    return span


# ---------------------------------------------------------------------- what a call gives


def test_the_table_of_the_manual(spans: Any, install: Any) -> None:
    """Name, fields and attributes come from arguments, the object and the result."""
    install(
        wrap(
            "Pipeline.run",
            "run",
            name="{self.name}",
            fields={
                "run_id": "{run_id}",
                "work_order_id": "{order.id}",
                "max_iterations": "{order.most}",
            },
            attributes={"shop.order": "{order.id}", "shop.url": "{result.url}", "shop.dry": True},
        )
    )

    class Order:
        id, most, url = "o-1", "3", "http://shop/o-1"

    order = Order()
    assert pipeline().Pipeline().run(order, run_id="r-1") is order

    span = only(spans)
    assert span.name == "invoke_workflow books"
    expected = {
        "otelagents.run.id": "r-1",
        "otelagents.work_order.id": "o-1",
        "otelagents.iteration.max": 3,
        "otelagents.workflow.name": "books",
        "shop.order": "o-1",
        "shop.url": "http://shop/o-1",
        "shop.dry": True,
    }
    assert {key: span.attributes[key] for key in expected} == expected


def test_what_yields_nothing_is_left_away(spans: Any, install: Any) -> None:
    """A template without a value leaves its attribute out, and a name falls back to its default."""
    install(
        wrap(
            "Pipeline.run",
            "run",
            name="{order.title}",
            fields={"run_id": "{run_id}", "goal": "{order.goal}"},
            attributes={"x": "{order.x}", "y": "{result.y}", "z": "a {order.z}"},
        )
    )
    pipeline().Pipeline().run(object())

    span = only(spans)
    assert span.name == "invoke_workflow run"
    assert not {"x", "y", "z", "otelagents.run.goal"} & set(span.attributes)
    assert span.attributes["otelagents.run.id"]


@pytest.mark.parametrize(
    ("path", "scope", "name"),
    [
        ("Pipeline.check", "phase", "phase check"),
        ("Pipeline.__init__", "agent", "invoke_agent Pipeline"),
        ("Pipeline.check", "iteration", "iteration"),
        ("Pipeline.check", "delivery", "delivery"),
    ],
)
def test_without_a_name_the_function_gives_it(
    spans: Any, install: Any, path: str, scope: str, name: str
) -> None:
    """A scope without a template of its name has the function's, as a bare decorator has."""
    install(wrap(path, scope))
    pipeline().Pipeline().check("o")

    assert name in names(spans)


@pytest.mark.parametrize(
    ("scope", "field", "value", "result", "status"),
    [
        ("gate", "passed", True, "success", StatusCode.UNSET),
        ("gate", "passed", False, "failure", StatusCode.UNSET),
        ("validation", "passed", "failed", "failure", StatusCode.UNSET),
        ("delivery", "success", False, "failure", StatusCode.UNSET),
        ("delivery", "success", True, "success", StatusCode.UNSET),
    ],
)
def test_a_result_judges(
    spans: Any, install: Any, scope: str, field: str, value: Any, result: str, status: StatusCode
) -> None:
    """A gate or delivery that says no did its work: a failure of the work, no error."""
    install(wrap("register", scope, fields={field: "{result}"}))
    pipeline().register(value)

    span = only(spans)
    assert span.attributes["otelagents.result"] == result
    assert span.status.status_code is status


def test_progress_comes_from_a_result(spans: Any, install: Any) -> None:
    """`done` and `total` are fields of every kind."""
    install(wrap("register", "iteration", fields={"done": "{result[0]}", "total": "{result[1]}"}))
    pipeline().register((3, 8))

    attributes = only(spans).attributes
    assert (attributes["otelagents.progress.done"], attributes["otelagents.progress.total"]) == (
        3,
        8,
    )


@pytest.mark.parametrize("scope", sorted(SCOPES))
def test_every_field_of_every_scope_can_be_set(spans: Any, install: Any, scope: str) -> None:
    """Each field that a kind takes reaches its span, from arguments and from the result."""
    fields = fields_of(KINDS[scope])
    early = dict.fromkeys(fields, "{handler}")
    late = {field: "{result}" for field, from_result in fields.items() if from_result}
    targets = install(wrap("register", scope, fields=early), wrap("part", scope, fields=late))
    assert [state for state, _ in states(targets)] == ["waiting", "waiting"]
    module = pipeline()
    assert [state for state, _ in states(targets)] == ["applied", "applied"]
    assert module.register("7") == "7"
    assert module.part("7") == "7"

    first, second = spans.get_finished_spans()
    # A text that is neither true nor false judges nothing, and is no state of a task.
    judged = {"passed", "success", "state", "writes", "budget_enforce"} & set(fields)
    assert len([one for one in first.attributes.values() if one in ("7", 7)]) >= len(fields) - len(
        judged
    )
    assert len([one for one in second.attributes.values() if one in ("7", 7)]) >= len(late) - len(
        judged
    )


def test_the_scopes_are_those_of_the_python_interface() -> None:
    """What can be configured is what can be opened by hand, and nothing else."""
    makers = {one for one in vars(scopes).values() if isinstance(one, scopes.ScopeMaker)}

    assert set(SCOPES) == {one.kind.name for one in makers}


def test_two_tables_on_one_target_nest_in_their_order(spans: Any, install: Any) -> None:
    """The first in the file is the outermost."""
    targets = install(
        wrap("register", "run", name="outer"), wrap("register", "phase", name="inner")
    )
    pipeline().register(1)

    inner, outer = spans.get_finished_spans()
    assert (inner.name, outer.name) == ("phase inner", "invoke_workflow outer")
    assert inner.parent.span_id == outer.context.span_id
    assert [state for state, _ in states(targets)] == ["applied", "applied"]


def test_secrets_in_arguments_are_hidden(spans: Any, install: Any) -> None:
    """An attribute that is named like a secret, or looks like one, is redacted."""
    install(wrap("register", attributes={"shop.api_key": "{handler}", "shop.url": "{result}"}))
    pipeline().register("https://me:hunter2@shop/")

    assert "hunter2" not in str(dict(only(spans).attributes))


# ---------------------------------------------------------------------- awkward callables


@pytest.mark.parametrize(
    ("path", "call", "expected"),
    [
        ("Pipeline.cached", lambda one: one.cached("o"), "o"),
        ("Pipeline.dispatched", lambda one: (one.dispatched("o"), one.dispatched(2)), ("o", -2)),
        ("Pipeline.twice", lambda one: one.twice("o"), "o"),
        ("Pipeline.run", lambda one: type(one).run(one, "o"), "o"),
        ("Pipeline.run", lambda one: one.run(order="o"), "o"),
    ],
    ids=["cached", "dispatched", "partial", "through the class", "by keyword"],
)
def test_methods_that_are_more_than_functions(
    spans: Any, install: Any, path: str, call: Any, expected: Any
) -> None:
    """Caching, dispatching and partial methods are wrapped with their object and arguments."""
    install(wrap(path, name="{self.name} {order}"))

    assert call(pipeline().Pipeline()) == expected
    assert "phase books o" in names(spans)


def test_a_cache_can_still_be_cleared(install: Any) -> None:
    """What a wrapped callable has beside its call is there."""
    install(wrap("Pipeline.cached"))
    cached = pipeline().Pipeline.cached

    assert cached.cache_info().hits == 0
    cached.cache_clear()


def test_an_inherited_method_is_wrapped_where_it_is_named(spans: Any, install: Any) -> None:
    """The base class and its other children stay as they were."""
    install(wrap("Child.run"))
    module = pipeline()

    assert module.Child().run("o") == "base o"
    assert module.Base().run("o") == "base o"
    assert module.Mixin().run("o") == "mixin o"
    assert names(spans) == ["phase run"]


def test_an_inherited_method_leaves_the_order_of_bases(spans: Any, install: Any) -> None:
    """A class with two bases calls what it called before, though its first base has a wrapper."""
    module = pipeline()
    before = module.Grandchild().run("o")
    install(wrap("Child.run"))

    assert module.Grandchild().run("o") == before == "mixin o"
    assert module.Child.run(module.Base(), "o") == "base o"


def test_a_wrapped_function_can_be_pickled_copied_and_held(install: Any) -> None:
    """Process pools, deep copies and weak methods take a wrapped callable as they took it bare."""
    install(wrap("register"), wrap("Pipeline.check"), wrap("Base.run"))
    module = pipeline()
    one = module.Pipeline("x")
    for again in (lambda what: pickle.loads(pickle.dumps(what)), copy.copy, copy.deepcopy):  # noqa: S301
        assert again(module.register) is module.register
        assert again(module.Base.run)(module.Base(), "o") == "base o"
        assert again(one.check).__self__.name == "x"
        assert again({"callback": module.register})["callback"](3) == 3
    assert b"otel" not in pickle.dumps([module.register, module.Base.run, one.check])
    assert weakref.WeakMethod(one.check)()("o") == "o"  # type: ignore[misc]


def test_a_called_object_is_copied_as_itself(install: Any) -> None:
    """An object that is called keeps its own way of being copied and pickled."""
    install(wrap("stamp"), wrap("Pipeline.stamped"))
    module = pipeline()
    for again in (lambda what: pickle.loads(pickle.dumps(what)), copy.copy, copy.deepcopy):  # noqa: S301
        other = again(module.stamp)
        assert type(other) is module.Stamp
        assert other("o") == "o, paid"


def test_an_object_that_a_class_holds_is_called_without_self(spans: Any, install: Any) -> None:
    """An attribute of a class that is no function gets no object; what cannot be called is said."""
    targets = install(wrap("Pipeline.stamped", name="{order}"), wrap("Pipeline.limits"))

    assert pipeline().Pipeline().stamped("o") == "o, paid"
    assert names(spans) == ["phase o"]
    said = "[[wrap]] 1: Pipeline.limits is a dict, which cannot be called."
    assert states(targets)[1] == ("failed", said)


def test_a_weakly_held_method_is_still_a_scope(spans: Any, install: Any) -> None:
    """A receiver of signals is often held weakly, and its calls are seen too."""
    install(wrap("Pipeline.check", name="{self.name}"))
    one = pipeline().Pipeline("x")
    weakref.WeakMethod(one.check)()("o")  # type: ignore[misc]

    assert names(spans) == ["phase x"]


# ---------------------------------------------------------------------- when they apply


def test_a_target_waits_for_its_module(install: Any) -> None:
    """Installing imports nothing; the import of the module applies the table."""
    targets = install(wrap("Pipeline.run", "run"))

    assert "shop_pipeline" not in sys.modules
    assert states(targets) == [("waiting", "[[wrap]] 1: shop_pipeline has not been imported.")]
    pipeline()
    assert states(targets) == [("applied", "shop_pipeline:Pipeline.run is wrapped as run.")]


def test_a_target_of_an_imported_module_is_wrapped_at_once(spans: Any, install: Any) -> None:
    """A program that instruments itself late has its modules wrapped all the same."""
    module = pipeline()
    install(wrap("register"))
    module.register(1)

    assert names(spans) == ["phase register"]


def test_targets_in_packages(spans: Any, install: Any) -> None:
    """A package's own module and a package in a package hold targets, and no parent is imported."""
    targets = install(
        wrap("open_shop", module="shop_package"), wrap("deliver", module="shop_package.inner")
    )
    assert "shop_package" not in sys.modules
    assert [state for state, _ in states(targets)] == ["waiting", "waiting"]

    inner = importlib.import_module("shop_package.inner")
    assert asyncio.run(inner.deliver("home")) == "home"
    assert sys.modules["shop_package"].open_shop("x") == "x"
    assert names(spans) == ["phase deliver", "phase open_shop"]


def test_installing_twice_counts_once(spans: Any, install: Any) -> None:
    """Neither a second `install` nor a second instrumentor opens a second scope."""
    targets = install(wrap("register"))
    targets.install()
    other = install(wrap("register"))
    pipeline().register(1)

    assert names(spans) == ["phase register"]
    assert [state for state, _ in states(other)] == ["applied"]


def test_off_and_on_again(spans: Any, install: Any) -> None:
    """Targets can be taken off and put on again, before and after their module's import."""
    targets = install(wrap("register"))
    targets.uninstall()
    module = pipeline()
    module.register(1)
    assert names(spans) == []
    assert not isinstance(module.register, places.types.MethodType)

    targets.install()
    module.register(1)
    targets.uninstall()
    module.register(1)
    assert names(spans) == ["phase register"]


def test_what_another_put_on_top_stays(spans: Any, install: Any) -> None:
    """A wrapper that somebody put around ours is theirs; ours below it just calls."""
    targets = install(wrap("register"))
    module = pipeline()
    ours = module.register

    def theirs(handler: Any) -> Any:
        return ours(handler)

    module.register = theirs
    targets.uninstall()

    assert module.register is theirs
    assert module.register(5) == 5
    assert names(spans) == []


def test_an_import_that_fails_is_the_programs(
    install: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    """A module that raises raises what it always did, and can be imported when it is mended."""
    monkeypatch.syspath_prepend(str(tmp_path))
    broken = tmp_path / "shop_broken.py"
    broken.write_text("raise LookupError('no shelf')")
    targets = install(wrap("run", module="shop_broken"))
    with pytest.raises(LookupError, match="no shelf"):
        importlib.import_module("shop_broken")
    assert states(targets)[0][0] == "waiting"

    broken.write_text("def run() -> int: return 1  # mended")
    importlib.invalidate_caches()
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert importlib.import_module("shop_broken").run() == 1
    assert states(targets)[0][0] == "applied"


# ---------------------------------------------------------------------- what is said of a wrong one

PIPELINE_ARGUMENTS = "cls, order, result, run_id, self"


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (wrap("x", "phaze"), 'there is no scope "phaze"; did you mean "phase"?'),
        (
            wrap("x", "zzz"),
            f'there is no scope "zzz"; there are {", ".join(SCOPES)}.',
        ),
        (
            Wrap(target="shop.pipeline.run", scope="run", place="[[wrap]] 1"),
            (
                'target "shop.pipeline.run" is no module:qualified.name, '
                'as "shop.pipeline:Pipeline.run".'
            ),
        ),
        (
            wrap("Pipeline.run", module="__main__"),
            (
                "nothing in __main__ can be wrapped, since it is never imported; move Pipeline.run "
                "to a module that the program imports."
            ),
        ),
        (wrap("run", module="shop_nowhere"), 'there is no module "shop_nowhere" on the path.'),
        (
            wrap("run", module="shop_package.nowhere.further"),
            'there is no module "shop_package.nowhere" on the path.',
        ),
        (
            wrap("run", module="shop_parts.further"),
            'there is no module "shop_parts.further" on the path.',
        ),
        (wrap("Pipline.run"), 'shop_pipeline has no "Pipline"; did you mean "Pipeline"?'),
        (wrap("Pipeline.rum"), 'shop_pipeline.Pipeline has no "rum"; did you mean "run"?'),
        (wrap("Pipeline.zzzz"), 'shop_pipeline.Pipeline has no "zzzz".'),
        (
            wrap("late", module="shop_parts"),
            "shop_parts makes late only when it is asked for; name the module that defines it.",
        ),
        (wrap("Pipeline"), 'Pipeline is a class; name one of its methods, as "Pipeline.__init__".'),
        (
            wrap("Pipeline.title"),
            "Pipeline.title is a property, and only what is called can be a scope.",
        ),
        (wrap("LIMIT"), "LIMIT is a int, which cannot be called."),
        (
            wrap("Pipeline.open"),
            (
                "Pipeline.open makes a context manager, and a scope around that is over before the "
                "block begins; name a function that does the work."
            ),
        ),
        (wrap("Sealed.run"), "Sealed.run cannot be wrapped: TypeError: closed."),
        (
            wrap("Pipeline.run", name="{oder.id}"),
            'name: "oder" is no argument of Pipeline.run; did you mean "order"?',
        ),
        (
            wrap("Pipeline.run", attributes={"x": "{zzz}"}),
            f'attribute x: "zzz" is no argument of Pipeline.run; it has {PIPELINE_ARGUMENTS}.',
        ),
        (
            wrap("register", attributes={"x": "{self.name}"}),
            'attribute x: "self" is no argument of register; it has handler, result.',
        ),
        (
            wrap("Pipeline.run", name="{result.id}"),
            "name: it is needed when the scope opens, before there is a result.",
        ),
        (
            wrap("Pipeline.run", "run", fields={"run_id": "{result.id}"}),
            "field run_id: it is needed when the scope opens, before there is a result.",
        ),
        (
            wrap("Pipeline.run", "iteration", fields={"number": "{result.id}"}),
            "field number: it is needed when the scope opens, before there is a result.",
        ),
        (
            wrap("Pipeline.run", "run", fields={"max_iteration": "3"}),
            'run has no field "max_iteration"; did you mean "max_iterations"?',
        ),
        (
            wrap("Pipeline.run", "gate", fields={"zzz": "3"}),
            'gate has no field "zzz"; it has passed, done, total.',
        ),
        (
            wrap("Pipeline.run", name="{order.id()}"),
            "name: a template calls nothing, at character 10 of '{order.id()}'.",
        ),
        (
            wrap("Pipeline.stream", attributes={"x": "{result}"}),
            "Pipeline.stream is an async generator, which returns no result.",
        ),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else value.target,
)
def test_one_sentence_for_each_mistake(
    install: Any, spans: Any, caplog: pytest.LogCaptureFixture, table: Wrap, said: str
) -> None:
    """`doctor` reads it, the log has it once, and the program runs as it did."""
    targets = install(table)
    module = pipeline()
    importlib.import_module("shop_parts")

    assert states(targets) == [("failed", f"[[wrap]] 1: {said}")]
    assert [one.getMessage() for one in caplog.records if one.name == "otel_agents"] == [
        f"otel-agents: [[wrap]] 1: {said}"
    ]
    assert module.Pipeline().run("o") == "o"
    assert module.Sealed().run() is None
    assert caplog.records[-1].levelno == logging.WARNING


def test_what_is_right_in_a_wrong_table_is_used(spans: Any, install: Any) -> None:
    """Each mistake costs its own part only."""
    targets = install(
        wrap(
            "Pipeline.run",
            "run",
            name="{nmae}",
            fields={"goal": "{order}", "gaol": "x", "plan_id": "{result}"},
            attributes={"right": "{order}", "wrong": "{oder}", "torn": "{order"},
        )
    )
    pipeline().Pipeline().run("o")

    span = only(spans)
    assert span.name == "invoke_workflow run"
    assert span.attributes["otelagents.run.goal"] == "o"
    assert span.attributes["right"] == "o"
    assert "wrong" not in span.attributes
    assert len(states(targets)[0][1].split("[[wrap]] 1: ")) == 1 + 5


def test_a_function_of_another_module_says_where_it_is(spans: Any, install: Any) -> None:
    """A function that is imported into a module is wrapped there, and its home is named."""
    targets = install(wrap("assemble"))
    module = pipeline()
    module.assemble("a")
    sys.modules["shop_parts"].assemble("a")

    assert names(spans) == ["phase assemble"]
    assert states(targets) == [
        (
            "applied",
            (
                "shop_pipeline:assemble is wrapped as phase, where it is called by this name and "
                "not as shop_parts:assemble."
            ),
        )
    ]


def test_a_module_that_can_be_started_says_so(
    install: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`doctor` imports what the program may start with, so it names the difference."""
    monkeypatch.syspath_prepend(str(tmp_path))
    source = 'def main(): ...\n\nif __name__ == "__main__":\n    main()\n'
    (tmp_path / "shop_app.py").write_text(source)
    targets = install(wrap("main", module="shop_app"))
    importlib.import_module("shop_app")

    assert states(targets) == [
        (
            "applied",
            (
                "shop_app:main is wrapped as phase. Where shop_app is the program itself, it is "
                "not imported, nor wrapped."
            ),
        )
    ]
    sys.modules.pop("shop_app")


# ---------------------------------------------------------------------- the program is left alone


class Hostile:
    """Raises at whatever is done to it."""

    def __getattribute__(self, name: str) -> Any:
        message = "hands off"
        raise RuntimeError(message)


def test_a_hostile_argument_costs_its_attribute(spans: Any, install: Any) -> None:
    """An argument that raises when it is looked at leaves its attribute out, and no more."""
    install(
        wrap(
            "Pipeline.drop",
            "run",
            name="{order}",
            fields={"goal": "{order}", "run_id": "{order.id}"},
            attributes={"a": "{order}", "b": "{order.x}", "c": "{result}", "d": "of {order}"},
        )
    )

    assert pipeline().Pipeline().drop(Hostile()) == "dropped"
    span = only(spans)
    assert span.name == "invoke_workflow drop"
    assert [key for key in "abcd" if key in span.attributes] == ["c", "d"]
    assert span.attributes["d"] == "of <Hostile>"


class Broken:
    """A runtime of which nothing works."""

    @property
    def disabled(self) -> bool:
        message = "broken"
        raise RuntimeError(message)


class BrokenTracer:
    """A runtime whose tracer does not work."""

    disabled = False
    pipeline = None
    redact = None

    @property
    def tracer(self) -> Any:
        message = "broken"
        raise RuntimeError(message)


@pytest.mark.parametrize(
    "broken", [Broken(), BrokenTracer(), object()], ids=["all", "tracer", "none"]
)
def test_broken_telemetry_is_never_the_programs(
    install: Any, monkeypatch: pytest.MonkeyPatch, broken: Any
) -> None:
    """Results and exceptions are the same objects, whatever is broken of ours."""
    monkeypatch.setattr(boundary, "strict", False)
    runtime.put(broken)
    install(
        wrap("register", attributes={"x": "{handler}", "y": "{result}"}),
        wrap("deliver", module="shop_package.inner"),
        wrap("assemble", module="shop_parts"),
    )
    module = pipeline()
    mark = object()

    assert module.register(mark) is mark
    assert asyncio.run(importlib.import_module("shop_package.inner").deliver(mark)) is mark
    with pytest.raises(TypeError) as raised:
        module.assemble(1, 2)
    assert raised.value.__context__ is None
    with pytest.raises(TypeError, match=r"register\(\) missing 1 required positional argument"):
        module.register()


def test_a_failure_while_a_module_is_imported_is_ours(
    install: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An import goes on though the wrapping of its targets fails in a way nobody thought of."""
    monkeypatch.setattr(boundary, "strict", False)
    install(wrap("register"))
    monkeypatch.setattr(targets_module, "locate", None)
    monkeypatch.setattr(targets_module, "missing_part", None)

    assert pipeline().register(3) == 3


# ---------------------------------------------------------------------- a real start

START = """
from pathlib import Path
from otel_agents.instrument.targets import Targets
from otel_agents.settings import Wrap

targets = Targets([
    Wrap(target="app:main", scope="run", place="[[wrap]] 1"),
    Wrap(target="steps:step", scope="phase", place="[[wrap]] 2"),
    Wrap(target="stpes:step", scope="phase", place="[[wrap]] 3"),
])
targets.install()
"""
APP = """
import sitecustomize, steps

def main():
    steps.step()

main()
for _, state, sentence in sitecustomize.targets.report():
    print(state, "|", sentence)
"""


@pytest.mark.parametrize("command", [["app.py"], ["-m", "app"]], ids=["script", "module"])
def test_a_start_before_the_path_is_set(tmp_path: Path, command: list[str]) -> None:
    """At start the program's directory is not on the path; only what is wrong is logged.

    A target in the program itself is told from one in a module beside it.
    """
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "sitecustomize.py").write_text(START)
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "steps.py").write_text("def step(): print('stepped')")
    root = Path(places.__file__).parents[2]
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, *command],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path / 'start'}:{root}"},
        capture_output=True,
        text=True,
        check=True,
    )
    itself = (
        "[[wrap]] 1: app is the program itself, which runs as __main__ and is never imported; "
        "move main to a module that the program imports."
    )
    missing = '[[wrap]] 3: there is no module "stpes" on the path.'

    assert done.stdout.splitlines() == [
        "stepped",
        f"failed | {itself}",
        "applied | steps:step is wrapped as phase.",
        f"failed | {missing}",
    ]
    assert done.stderr.splitlines() == [f"otel-agents: {itself}", f"otel-agents: {missing}"]
