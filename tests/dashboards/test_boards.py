"""The boards as Grafana will read them: sound JSON, queries that parse, links that lead somewhere.

Grafana has no package, so it is not asked here. The SDK's models, which are made from Grafana's
own schemas, read every board back; the real promtool reads every query.
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards import __main__ as program
from dashboards import foreign, run, variables
from dashboards.links import BOARDS, TAG, Links, uid
from dashboards.promql import select, series
from otel_agents import server_vocabulary, vocabulary
from otel_agents.profiles import PROFILES
from otel_agents.server import pages
from otel_agents.server.hitl import Pace
from otel_agents.vocabulary import ATTRIBUTES, Metric
from tests.dashboards import rule_tests

if TYPE_CHECKING:
    from collections.abc import Iterator

GENERATED: Final = Path(__file__).resolve().parents[2] / "dashboards" / "generated"
AT: Final = Links("http://console.test", "http://grafana.test", "http://jaeger.test")
# Metrics of ours that no board shows, and why.
NOT_SHOWN: Final[dict[str, str]] = {}
# What Grafana itself puts into queries and links.
BUILT_IN: Final = (
    "__range",
    "__interval",
    "__rate_interval",
    "__from",
    "__to",
    "__url_time_range",
    "__field",
    "__data",
)
# Panels that ask no data source of the board's.
WITHOUT_QUERIES: Final = ("alertlist",)
# A variable in a text: `$name`, `${name}`, `${name:format}`.
VARIABLE: Final = re.compile(r"\$(?:\{(\w+)[^}]*\}|(\w+))")
# The values that stand for variables where a query is only to be parsed.
PLAIN: Final = {
    "$__range": "6h", "$__rate_interval": "4m", "$__interval": "1m", "$job": "a|b",
    "$workflow": ".*", "$agent": "coder",
}  # fmt: skip


def made(board: str) -> dict[str, Any]:
    """Return a board as the code makes it now."""
    return program.BOARDS[board].build(AT)


@pytest.fixture(scope="module", params=BOARDS)
def board(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Each board in turn."""
    return made(request.param)


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def queries(board: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Return each question of a board: the panel's title or variable's name, and PromQL."""
    for panel in panels(board):
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            asked = re.fullmatch(r"label_values\((.+), \w+\)", variable["query"])
            assert asked, variable["name"]
            yield variable["name"], asked[1]


def plain(expr: str) -> str:
    """Return a query as Grafana asks it, with values for the variables."""
    for name, value in PLAIN.items():
        expr = expr.replace(name, value)
    return expr


def links(board: dict[str, Any]) -> Iterator[str]:
    """Return every address that a board leads to."""
    yield from (link["url"] for link in board["links"] if link["type"] == "link")
    for panel in panels(board):
        config = panel["fieldConfig"]
        yield from (link["url"] for link in config["defaults"].get("links", ()))
        for override in config["overrides"]:
            for found in override["properties"]:
                if found["id"] == "links":
                    yield from (link["url"] for link in found["value"])


def names(text: str) -> set[str]:
    """Return the variables that a text uses."""
    return {one or other for one, other in VARIABLE.findall(text)}


def test_there_is_a_board_for_each_name() -> None:
    """The boards that links may lead to are those that are made, in the same order."""
    assert tuple(program.BOARDS) == BOARDS


def test_the_sdks_models_read_a_board_back_as_it_was(board: dict[str, Any]) -> None:
    """Nothing of a board is unknown to the models of Grafana's schemas, or of another type."""
    register_default_plugins()
    back = json.loads(JSONEncoder().encode(Dashboard.from_json(board)))
    assert back == board


def test_a_board_has_what_finds_it_and_keeps_its_place(board: dict[str, Any]) -> None:
    """Its id is stable, its tag is ours, and it leads to the others with time and variables."""
    (others,) = [link for link in board["links"] if link["type"] == "dashboards"]
    assert board["uid"] in {uid(name) for name in BOARDS}
    assert board["tags"] == [TAG]
    assert (board["refresh"], board["time"]) == ("30s", {"from": "now-6h", "to": "now"})
    assert board["title"]
    assert board["description"]
    assert "id" not in board or board["id"] is None
    assert (others["tags"], others["keepTime"], others["includeVars"]) == ([TAG], True, True)


def test_ids_and_places_of_panels_do_not_collide(board: dict[str, Any]) -> None:
    """No two panels share an id or a cell, and none reaches beyond the 24 columns."""
    ids = [panel["id"] for panel in board["panels"]]
    cells = Counter(
        cell
        for place in (panel["gridPos"] for panel in board["panels"])
        for cell in itertools.product(
            range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        )
    )
    assert len(ids) == len(set(ids))
    assert max(cells.values()) == 1
    assert max(column for column, _ in cells) == 23


def test_a_board_has_at_most_twenty_panels(board: dict[str, Any]) -> None:
    """More than that nobody reads; each row has a title and panels under it."""
    kinds = [panel["type"] for panel in board["panels"]]
    assert 0 < len(panels(board)) <= 20
    assert kinds[0] == "row"
    assert ("row", "row") not in itertools.pairwise(kinds)
    assert all(panel["title"] for panel in board["panels"])


def test_every_panel_says_what_it_shows(board: dict[str, Any]) -> None:
    """It has a description, a unit that Grafana knows, and words for when there is nothing."""
    known = {getattr(units, name) for name in dir(units) if name[0].isupper()}
    titles = [panel["title"] for panel in panels(board)]
    assert len(titles) == len(set(titles))
    for panel in panels(board):
        shown = panel["fieldConfig"]["defaults"]
        assert panel["description"].endswith("."), panel["title"]
        assert shown["unit"] in known, panel["title"]
        assert shown.get("noValue") or panel["type"] in WITHOUT_QUERIES, panel["title"]


def test_every_panel_asks_the_data_source_that_was_chosen(board: dict[str, Any]) -> None:
    """No id of a data source stands in a board: it works with any."""
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    for panel in panels(board):
        assert panel["datasource"] == chosen
        assert all(target["datasource"] == chosen for target in panel.get("targets", ()))
        assert bool(panel.get("targets")) is (panel["type"] not in WITHOUT_QUERIES)
    for variable in board["templating"]["list"]:
        assert variable.get("datasource", chosen) == chosen
    assert board["templating"]["list"][0]["name"] == "datasource"


def test_questions_of_a_panel_have_letters_of_their_own(board: dict[str, Any]) -> None:
    """Columns of tables and colours are told apart by them."""
    for panel in panels(board):
        letters = [target["refId"] for target in panel.get("targets", ())]
        assert len(letters) == len(set(letters))
        assert all(len(letter) == 1 for letter in letters)


def test_what_is_drawn_over_time_is_in_steps_of_a_minute(board: dict[str, Any]) -> None:
    """Programs export once a minute: a finer step would have holes."""
    for panel in panels(board):
        for target in panel.get("targets", ()):
            assert target["instant"] is not target["range"], panel["title"]
            if target["range"]:
                assert (panel["interval"], target["interval"]) == ("1m", "1m"), panel["title"]


@pytest.mark.parametrize("promtool", ["promtool", "promtool3"])
def test_every_query_is_one_for_the_real_prometheus(
    promtool: str, board: dict[str, Any], tmp_path: Path
) -> None:
    """Promtool of both generations reads each of them, with values for the variables."""
    rules = [
        {"record": f"panel:number:{number}", "expr": plain(expr)}
        for number, (_, expr) in enumerate(queries(board))
    ]
    assert not [rule["expr"] for rule in rules if "$" in rule["expr"]]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run(  # noqa: S603 - Debian's own program
        [rule_tests.program(promtool), "check", "rules", path],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert f"{len(rules)} rules found" in done.stdout


def test_every_variable_is_used_and_every_one_used_is_there(board: dict[str, Any]) -> None:
    """Panels, links and other variables use all of them, and no other."""
    there = {variable["name"]: variable for variable in board["templating"]["list"]}
    asked = [variable["query"] for variable in there.values()]
    used = names(json.dumps([panels(board), board["links"], asked]))
    assert {name for name in used if not name.startswith("__")} == set(there)
    assert {name for name in used if name.startswith("__")} <= set(BUILT_IN)


def test_choices_begin_with_all_and_escape_what_was_chosen(board: dict[str, Any]) -> None:
    """Several programs may be chosen, and what is told without the label counts among all."""
    for variable in board["templating"]["list"]:
        if variable.get("multi"):
            assert variable["includeAll"]
            assert variable["allValue"] == ".*"
            assert variable["current"]["value"] == ["$__all"]
            used = [expr for _, expr in queries(board) if f"${variable['name']}" in expr]
            assert all(f'=~"${variable["name"]}"' in expr for expr in used)


@pytest.fixture(scope="module")
def console() -> set[str]:
    """Return the addresses of the console's pages."""
    routed = pages.Pages(None, jaeger_url=None, pace=Pace()).routes()  # type: ignore[arg-type] - not asked
    return {getattr(route, "path", "") for route in routed}


def test_links_lead_to_boards_and_pages_that_there_are(
    board: dict[str, Any], console: set[str]
) -> None:
    """Boards by their ids and variables, the console by its pages, Jaeger by our attributes."""
    of_boards = {
        f"/d/{made(name)['uid']}": {one["name"] for one in made(name)["templating"]["list"]}
        for name in BOARDS
    }
    for url in links(board):
        parts = urlsplit(url)
        if url.startswith("${console:raw}"):
            assert parts.path.removeprefix("${console:raw}") in console
        elif url.startswith("${jaeger:raw}/search?"):
            asked = parse_qsl(re.sub(r"\$\{[^}]*\}", "x", parts.query))
            (told,) = [value for key, value in asked if key == "tags"]
            assert set(json.loads(told)) <= set(ATTRIBUTES)
        else:
            keys = [key for key, _ in parse_qsl(parts.query) if key.startswith("var-")]
            assert parts.path in of_boards
            assert {key.removeprefix("var-") for key in keys} <= of_boards[parts.path]


def test_base_addresses_are_only_values_of_variables(board: dict[str, Any]) -> None:
    """The addresses given to the program stand in the hidden variables, and nowhere else."""
    hidden = {one["name"]: one for one in board["templating"]["list"] if one.get("hide") == 2}
    text = unquote(json.dumps([board["panels"], board["links"]]))
    assert hidden["console"]["query"] == AT.console
    assert hidden.get("jaeger", {"query": AT.jaeger})["query"] == AT.jaeger
    assert "http://" not in text
    assert "https://" not in text


def shown() -> str:
    """Return every query of every board."""
    return json.dumps([list(queries(made(name))) for name in BOARDS])


def names_of(metric: Metric) -> set[str]:
    """Return the names of a metric's series in Prometheus."""
    parts = ("bucket", "sum", "count") if metric.instrument == "histogram" else ("",)
    return {series(metric, part) for part in parts}


def test_every_metric_of_ours_is_on_some_board() -> None:
    """What programs and server tell is shown, but for what is listed with a reason."""
    words = set(re.findall(r"\w+", shown()))
    ours = {**vocabulary.METRICS, **server_vocabulary.METRICS}
    missing = {name for name, metric in ours.items() if not names_of(metric) & words}
    assert missing == set(NOT_SHOWN)
    assert all(NOT_SHOWN.values())


def test_boards_ask_for_no_metric_that_nobody_tells() -> None:
    """Every name in a query is one of ours, of the conventions in both generations, or foreign."""
    conventions = [
        metric for profile in PROFILES.values() for metric in profile if isinstance(metric, Metric)
    ]
    others = [
        metric
        for value in vars(foreign).values()
        for metric in (value.values() if isinstance(value, dict) else [value])
        if isinstance(metric, Metric)
    ]
    ours = [*vocabulary.METRICS.values(), *server_vocabulary.METRICS.values()]
    known = {name for metric in (*ours, *others, *conventions) for name in names_of(metric)}
    asked = set(re.findall(r"\b(?:otelagents|otelcol|jaeger|prometheus|alertmanager)_\w+", shown()))
    asked |= set(re.findall(r"\bgen_ai_client_\w+", shown()))
    assert asked <= known
    assert len(asked) > 60


@pytest.mark.parametrize("field", ["model_duration", "first_chunk"])
def test_the_conventions_are_asked_for_in_both_generations(field: str) -> None:
    """A panel has data whichever profile the programs send."""
    asked = [expr for _, expr in queries(made("agents"))]
    for profile in PROFILES.values():
        name = series(getattr(profile, field), "bucket")
        assert [expr for expr in asked if name in expr]


def test_what_is_on_disk_is_what_the_code_makes() -> None:
    """Somebody who changes a board, a rule or the vocabulary has to make the files anew."""
    assert program.main(["--check"]) == 0


def test_a_renamed_metric_fails_the_check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The name on the wire is in the files, so that they differ as soon as it changes."""
    renamed = vocabulary.ITERATIONS._replace(name="otelagents.rounds")
    monkeypatch.setattr(run, "ITERATIONS", renamed)
    assert program.main(["--check"]) == 1
    assert "dashboards/run.json is not what the code makes" in capsys.readouterr().err


def test_a_label_that_a_metric_does_not_have_fails_at_once() -> None:
    """A choice by it would find nothing, and be seen by nobody."""
    with pytest.raises(ValueError, match='has no label "workflow"'):
        select(vocabulary.MODEL_CALLS, where=variables.OF_WORKFLOW)


def test_the_check_tells_of_files_changed_missing_and_too_many(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each of the three is named, and a second writing mends all but what is too many."""
    folder = tmp_path / "made"
    assert program.main(["--out", str(folder)]) == 0
    assert program.main(["--out", str(folder), "--check"]) == 0
    (folder / "dashboards" / "run.json").write_text("{}")
    (folder / "dashboards" / "cost.json").unlink()
    (folder / "rules" / "old.yml").write_text("groups: []")
    assert program.main(["--out", str(folder), "--check"]) == 1
    told = [line.split()[0] for line in capsys.readouterr().err.splitlines()]
    assert told == ["dashboards/cost.json", "dashboards/run.json", "rules/old.yml"]


def test_addresses_given_to_the_program_are_in_what_it_writes(tmp_path: Path) -> None:
    """Boards lead to the console and Jaeger that were named, alerts to console and Grafana."""
    given = ["--console", f"{AT.console}/", "--grafana", AT.grafana, "--jaeger", AT.jaeger]
    assert program.main(["--out", str(tmp_path), *given]) == 0
    fleet = json.loads((tmp_path / "dashboards" / "fleet.json").read_text())
    alerts = (tmp_path / "rules" / "alerts.yml").read_text()
    assert fleet == made("fleet")
    assert f"{AT.console}/runbooks/" in alerts
    assert f"{AT.grafana}/d/" in alerts
    assert "127.0.0.1" not in alerts
