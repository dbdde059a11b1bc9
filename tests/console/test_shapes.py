"""Waterfalls, texts and front-end files, without a browser."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hatch_build
from otel_agents.server import pages_text as text
from otel_agents.server.pages_render import STATIC
from otel_agents.server.pages_run import adopted
from otel_agents.server.pages_waterfall import chart, ordered, without_tellings

ROOT = Path(__file__).parent.parent.parent


def item(key: str, parent: str = "", start: float = 0, lasted: float | None = 1) -> dict[str, Any]:
    return {
        "id": key, "parent_id": parent, "start_ms": start, "duration_ms": lasted, "usage": None,
        "name": key, "kind": "agent", "cost_usd": None,
        "status": "running" if lasted is None else "completed",
    }  # fmt: skip


@given(
    st.lists(
        st.builds(
            item,
            st.sampled_from("abcdefgh"),
            st.sampled_from("abcdefghx"),
            st.floats(0, 1e9),
            st.none() | st.floats(0, 1e9),
        ),
        max_size=20,
    )
)
def test_every_item_stands_once_whatever_its_parents(items: list[dict[str, Any]]) -> None:
    """Circles, self-parents, ids that come twice: all are drawn, once each, within the axis."""
    tree = ordered(items)
    assert sorted(map(id, items)) == sorted(id(each) for each, _, _ in tree)
    for row in chart(items, 100, 100).rows:
        assert 0 <= row.left <= row.left + row.width <= 100.001


def test_a_deep_chain_is_no_problem() -> None:
    """A hundred thousand scopes, each below the one before."""
    items = [item(str(n), str(n - 1) if n else "") for n in range(100_000)]
    drawn = chart(items, 0, 50)
    assert [row.depth for row in drawn.rows[:3]] == [0, 1, 2]
    assert (len(drawn.rows), drawn.total) == (50, 100_000)


def test_children_follow_their_parent_by_start() -> None:
    """The order is that of a tree read from the top."""
    items = [item("b", "a", 5), item("c", "a", 3), item("a"), item("d", "c", 9)]
    assert [(each["id"], depth) for each, depth, _ in ordered(items)] == [
        ("a", 0), ("c", 1), ("d", 2), ("b", 1),
    ]  # fmt: skip


def test_what_is_below_is_summed_up() -> None:
    """A phase shows what its agents spent, and that a price is missing."""
    usage = {"total_tokens": 10, "complete": True}
    items = [
        item("run"),
        item("phase", "run"),
        {**item("one", "phase"), "usage": usage, "cost_usd": 0.5},
        {**item("two", "phase"), "usage": usage, "cost_usd": None},
    ]
    spent = {row.key: row.spent for row in chart(items, 0, 10).rows}
    assert spent["run"] == spent["phase"] == (20, 0.5, True)
    assert spent["one"] == (10, 0.5, False)


def test_an_agent_that_a_tool_called_stands_below_its_caller() -> None:
    """The tool sends no signals: the agent goes below its caller, or below the tool's span."""

    def scope(key: str, kind: str, parent: str) -> dict[str, Any]:
        own = {"kind": kind, "agent_id": f"{key}-id", "span_id": f"{key}-span"}
        return {**item(key, parent), **own}

    scopes = [scope("run", "run", ""), scope("a", "agent", "run"), scope("b", "agent", "tool")]
    agents = [{"id": "a-id", "parent_id": None}, {"id": "b-id", "parent_id": "a-id"}]
    run = {"scopes": [*scopes, scope("c", "agent", "gone")], "agents": {"items": agents}}
    parents = {each["id"]: each["parent_id"] for each in adopted(run, [])}
    assert parents == {"run": "", "a": "run", "b": "a", "c": "run"}
    span = {"span_id": "b-span", "parent_id": "tool-span"}
    assert adopted(run, [span])[2]["parent_id"] == "span:tool-span"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, text.NOTHING),
        (0.0421, "42ms"),
        (4.25, "4.2s"),
        (65, "1m 05s"),
        (7800, "2h 10m"),
        (273600, "3d 4h"),
    ],
)
def test_a_duration_in_words(seconds: float | None, said: str) -> None:
    """Units fit the size."""
    assert text.duration(seconds) == said


@pytest.mark.parametrize(
    ("amount", "said"),
    [
        (None, text.NOTHING),
        (0, "$0"),
        (0.00001, "<$0.0001"),
        (0.12345, "$0.1235"),
        (1234.5, "$1,234.50"),
    ],
)
def test_a_price_in_words(amount: float | None, said: str) -> None:
    """An unknown price is never zero."""
    assert text.usd(amount) == said


@pytest.mark.parametrize(
    ("value", "good"),
    [
        ("https://example.com/a", True),
        ("http://localhost:3000", True),
        ("javascript:alert(1)", False),
        ("data:text/html,x", False),
        ("https://", False),
        ("//example.com", False),
        ("https://exa mple.com", False),
        ("http://[", False),
        (7, False),
    ],
)
def test_an_address_that_may_be_a_link(value: object, good: bool) -> None:
    """Only `http` and `https` with a host."""
    assert (text.link(value) == value) is good


@given(st.text())
def test_what_a_browser_obeys_is_spelled_out(value: str) -> None:
    """No control and no mark that turns text around is left, and text without any is as it was."""
    shown = text.shown(value)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x1b\x00]", shown)
    if value.isprintable():
        assert shown == value


def test_the_front_end_is_pinned_and_its_lock_names_no_host() -> None:
    """Versions are exact, and the lock holds hashes but no addresses."""
    wanted = json.loads((ROOT / "package.json").read_text())["dependencies"]
    lock = (ROOT / "package-lock.json").read_text()
    assert [one for one in wanted.values() if not re.fullmatch(r"\d+\.\d+\.\d+", one)] == []
    assert "http" not in lock
    assert '"resolved"' not in lock
    packages = json.loads(lock)["packages"]
    assert all("integrity" in one for path, one in packages.items() if path)


def test_front_end_files_that_are_there_are_not_fetched_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A second build, or one from an sdist, needs no npm and no network."""

    def install(_room: Path) -> None:
        pytest.fail("npm was run")

    monkeypatch.setattr(hatch_build, "_install", install)
    assert hatch_build.fetch() is False


def test_no_third_party_file_of_the_front_end_is_our_own() -> None:
    """What is not ours is below `vendor`, which git does not hold."""
    own = {path.name for path in STATIC.glob("*") if path.is_file()}
    assert own & set(hatch_build.FILES.values()) == set()
    assert "/otel_agents/server/static/vendor/" in (ROOT / ".gitignore").read_text().splitlines()


def test_templates_and_scripts_hold_nothing_inline() -> None:
    """No style or handler attribute, no inline script or style, no eval, nothing from elsewhere."""
    forbidden = re.compile(
        r"\sstyle=|\son\w+=\"|hx-on|js:|<style|<script(?![^>]*\ssrc=)|\|safe\b|eval\(|innerHTML\s*=|"
        r"insertAdjacentHTML|document\.write|https?://(?!127\.0\.0\.1:4318|www\.w3\.org/2000/svg)"
    )
    templates = (STATIC.parent / "templates").glob("*.html")
    found = {
        path.name: forbidden.findall(path.read_text())
        for path in (*templates, *STATIC.glob("*.js"), *STATIC.glob("*.css"), *STATIC.glob("*.svg"))
    }
    assert {name: hits for name, hits in found.items() if hits} == {}


def test_tasks_that_are_only_told_of_are_no_rows() -> None:
    """A task put into a queue in no time is left out; one that was worked on or has rows stays."""
    told = {"id": "t1", "parent_id": "p", "kind": "task", "duration_ms": 0.2}
    done = {"id": "t2", "parent_id": "p", "kind": "task", "duration_ms": 300.0}
    open_ = {"id": "t3", "parent_id": "p", "kind": "task", "duration_ms": None}
    over = {"id": "t4", "parent_id": "p", "kind": "task", "duration_ms": 0.5}
    agent = {"id": "a", "parent_id": "t4", "kind": "agent", "duration_ms": 0.1}

    kept = without_tellings([told, done, open_, over, agent])

    assert kept == [done, open_, over, agent]
