"""PromQL for our metrics: what it counts, by the real promtool, and what it refuses to write."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from dashboards import foreign, promql
from otel_agents.vocabulary import COST, RUN_ACTIVE, RUN_DURATION, RUNS_COMPLETED

SERIES: Final = "otelagents_runs_completed_total"


@pytest.fixture(scope="module")
def promtool() -> str:
    """The path of promtool; without it these tests are skipped, and fail in CI."""
    found = shutil.which("promtool") or next(
        (str(path) for path in _unpacked() if path.is_file()), None
    )
    if found is None:
        reason = "promtool is missing: run deploy/native/install prometheus"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def _unpacked() -> list[Path]:
    base = Path(
        os.environ.get("OTEL_AGENTS_STACK_CACHE") or Path.home() / ".cache/otel-agents/stack"
    )
    return sorted(base.glob("prometheus-*/usr/bin/promtool"))


def check(
    promtool: str, folder: Path, samples: dict[str, str], asked: list[tuple[str, str, list[Any]]]
) -> None:
    """Put samples, one a minute, and hold what each expression gives then against the truth."""
    (folder / "none.yml").write_text("groups: []\n")
    test = {
        "rule_files": ["none.yml"],
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": name, "values": values} for name, values in samples.items()
                ],
                "promql_expr_test": [
                    {
                        "expr": expression,
                        "eval_time": when,
                        "exp_samples": [
                            {"labels": labels, "value": value} for labels, value in expected
                        ],
                    }
                    for expression, when, expected in asked
                ],
            }
        ],
    }
    (folder / "test.json").write_text(json.dumps(test))
    done = subprocess.run(  # noqa: S603 - found above
        [promtool, "test", "rules", "test.json"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def grown(window: str, **more: Any) -> str:
    return promql.grown(RUNS_COMPLETED, window, **more)


@pytest.mark.parametrize(
    ("values", "when", "expected"),
    [
        pytest.param("_ _ _ 7 _ _", "5m", 7, id="a process that told once before it ended"),
        pytest.param("1 2 3 4 5 6 7 8 9 10 11 12 13", "12m", 10, id="one that lives on"),
        pytest.param("5x12", "12m", 0, id="one that does nothing"),
        pytest.param("5 6 7 8 2 4", "5m", 4, id="one that began anew, from its new start"),
        pytest.param("3 4 5 _ _ _ _ _ _ _ 9", "10m", 6, id="one that was not heard of for a while"),
        pytest.param("3 4 5 _x100 9", "104m", 4, id="one whose machine slept"),
        pytest.param("3 4 5 _x200 9", "204m", 9, id="one that was silent for too long to be known"),
    ],
)
def test_growth_counts_from_the_first_sample(
    promtool: str, tmp_path: Path, values: str, when: str, expected: float
) -> None:
    """What a process had counted when it was first heard of is part of what it counted."""
    check(promtool, tmp_path, {SERIES: values}, [(grown("10m"), when, [("{}", expected)])])


@pytest.mark.parametrize(
    ("values", "up", "expected"),
    [
        pytest.param("7 7 _x1000 9+0x9", "1 1 _x1000 1+0x9", 2, id="it was away with its part"),
        pytest.param(
            "7 7 _x1000 7+0x9", "1+0x1012", 7, id="its part began anew, and failed as often"
        ),
        pytest.param(
            "7 7 _x1000 7+0x9", "1 1 0+0x999 1+0x9", 7, id="its part was down, then began anew"
        ),
        pytest.param(
            "7 7 _x1000 2+0x9", "1 1 _x1000 1+0x9", 2, id="its part began anew while away"
        ),
        pytest.param("_x1002 4+0x9", "_x1002 1+0x9", 4, id="its part is new"),
        pytest.param("7+0x1012", "1+0x1012", 0, id="nothing fails"),
    ],
)
def test_a_part_that_begins_anew_is_told_from_one_that_was_away(
    promtool: str, tmp_path: Path, values: str, up: str, expected: float
) -> None:
    """A series that is missing while its part is scraped is new; one missing with it is known."""
    failures = 'otelcol_exporter_send_failed_spans_total{job="collector", instance="c:8888"}'
    samples = {failures: values, 'up{job="collector", instance="c:8888"}': up}
    asked = foreign.failed(foreign.EXPORTER_FAILED["spans"], "15m")

    check(promtool, tmp_path, samples, [(asked, "1006m", [("{}", expected)])])


def test_windows_side_by_side_add_up(promtool: str, tmp_path: Path) -> None:
    """Processes come and go; the growth of six windows is that of one six times as long."""
    samples = {
        f'{SERIES}{{instance="a", workflow="w"}}': "1+1x60",
        f'{SERIES}{{instance="b", workflow="w"}}': "_x12 4 9 _x60",
        f'{SERIES}{{instance="c", workflow="w"}}': "_x44 2+3x5 _x60",
    }
    inside = [
        (grown("10m"), f"{end}m", total)
        for end, total in zip(range(10, 61, 10), PARTS, strict=True)
    ]

    check(
        promtool, tmp_path, samples,
        [(expression, when, [("{}", total)]) for expression, when, total in inside]
        + [(grown("60m", by=["workflow"]), "60m", [('{workflow="w"}', sum(PARTS))])],
    )  # fmt: skip


# By the minute: a grows by 10 in each window, its first sample counting too; b brings 9, c 17.
PARTS: Final = (10, 19, 10, 10, 27, 10)


def test_a_quantile_knows_a_run_that_was_told_of_once(promtool: str, tmp_path: Path) -> None:
    """The durations of a process that exported once are among those measured."""
    buckets = {"1": "_ 0", "2.5": "_ 10", "+Inf": "_ 10"}
    samples = {
        f'otelagents_run_duration_seconds_bucket{{le="{bound}"}}': values
        for bound, values in buckets.items()
    }
    samples["otelagents_run_duration_seconds_sum"] = "_ 20"
    samples["otelagents_run_duration_seconds_count"] = "_ 10"

    check(
        promtool, tmp_path, samples,
        [
            (promql.quantile(0.5, RUN_DURATION, "5m"), "3m", [("{}", 1.75)]),
            (promql.mean(RUN_DURATION, "5m"), "3m", [("{}", 2)]),
        ],
    )  # fmt: skip


def test_a_share_of_nothing_is_nothing_and_no_part_is_zero(promtool: str, tmp_path: Path) -> None:
    """A share is 0 where nothing of the kind was counted, and not there of nothing at all."""
    failed = grown("10m", by=["workflow"], where={"result": "failed"})
    share = promql.ratio(failed, grown("10m", by=["workflow"]))
    samples = {
        f'{SERIES}{{workflow="good", result="succeeded"}}': "4x5",
        f'{SERIES}{{workflow="mixed", result="succeeded"}}': "3x5",
        f'{SERIES}{{workflow="mixed", result="failed"}}': "1x5",
        f'{SERIES}{{workflow="idle", result="succeeded"}}': "0x5",
    }

    check(
        promtool, tmp_path, samples,
        [(share, "5m", [('{workflow="good"}', 0), ('{workflow="mixed"}', 0.25)])],
    )  # fmt: skip


def test_a_gauge_is_summed_over_processes(promtool: str, tmp_path: Path) -> None:
    """Each process tells its own part of what is under way."""
    samples = {
        'otelagents_run_active{workflow="w", instance="a"}': "2x5",
        'otelagents_run_active{workflow="w", instance="b"}': "3x5",
    }

    check(
        promtool, tmp_path, samples,
        [(promql.now(RUN_ACTIVE, by=["workflow"]), "5m", [('{workflow="w"}', 5)])],
    )  # fmt: skip


@pytest.mark.parametrize(
    "write",
    [
        lambda: promql.grown(COST, "5m", by=["run_id"]),
        lambda: promql.grown(COST, "5m", where={"workflow": "w"}),
        lambda: promql.series(RUN_DURATION),
        lambda: promql.series(COST, "bucket"),
    ],
    ids=["an id", "a label of another metric", "a histogram as a whole", "buckets of a counter"],
)
def test_what_a_metric_does_not_have_is_refused(write: Any) -> None:
    """A label or series that the vocabulary does not give a metric cannot be asked for."""
    with pytest.raises(ValueError, match=r"otelagents\."):
        write()


def test_values_are_quoted() -> None:
    """A name with quotes and backslashes stays a value, whatever it says."""
    found = promql.select(COST, where={"agent": 'a"} or vector(1) #\\', "model": "=~gpt.*"})

    assert found == ('otelagents_cost_total{agent="a\\"} or vector(1) #\\\\", model=~"gpt.*"}')


def test_both_generations_of_the_conventions_are_asked_for() -> None:
    """One selector finds a metric of the conventions under its old name and under its new one."""
    assert promql.conventions("model_duration", "count", matchers='job=~"$job"') == (
        '{__name__=~"gen_ai_client_operation_duration_seconds_count'
        '|gen_ai_client_inference_duration_seconds_count", job=~"$job"}'
    )
