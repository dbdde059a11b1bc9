"""How far a run is and how long it still takes: from what it reports, else from earlier runs.

The share done never falls while signals come in by time. It is the greatest of two numbers, each
of which only grows: the highest share that the run itself reported, and the work it has behind it,
counted in phases (or iterations, where there are no phases) that each weigh the mean seconds they
took in earlier runs of the workflow. Those earlier runs are a fixed set: the ones that had
succeeded before this run started. Progress reported by a phase says how much of that phase's
weight is done; it says nothing of a run whose further phases nobody knows yet, so without earlier
runs the share is unknown until the run itself reports one.

Seconds are active ones: how long a human takes says nothing of the work.
"""

from __future__ import annotations

from math import fsum
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_agents.state.waiting import Waiting, held

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_agents.state.run import Runs, RunState, Scope

_RUNS: Final = 10  # the most recent earlier runs; older ones say little of today's
_MOST: Final = 0.99  # a guess never says that all is done: the run's end does


class History(NamedTuple):
    """What earlier runs of a workflow took.

    `seconds` is the mean duration of a run, `steps` the kind of scope that is counted as a step.
    By the name of a step, `weights` is the mean seconds of one and `work` those of all in a run.
    `phases` are those of the most recent run, in order. `reported` says that these runs reported
    their share done: then no guess is made for the next one, which will report it too.
    """

    seconds: float | None = None
    steps: str = "phase"
    weights: dict[str, float] = {}  # noqa: RUF012 - nobody changes it
    work: dict[str, float] = {}  # noqa: RUF012 - nobody changes it
    phases: tuple[str, ...] = ()
    reported: bool = False


NO_HISTORY: Final = History()


def history(runs: Runs, run: RunState) -> History:
    """Return what the runs of the same workflow took that had succeeded before this one started."""
    earlier = sorted(_succeeded_before(runs, run), key=lambda pair: (pair[0], pair[1].id))
    recent = [found for _, found in earlier[-_RUNS:]]
    if not recent:
        return NO_HISTORY
    kind = "phase" if any(each.of_kind("phase") for each in recent) else "iteration"
    seconds: dict[str, list[float]] = {}
    spans = []
    for each in recent:
        main = each.main
        if main is None:
            continue
        waiting = Waiting(each, each.last if main.end is None else main.end.time)
        spans.append(_active(main, waiting))
        for scope in each.of_kind(kind):
            seconds.setdefault(_step(scope), []).append(_active(scope, waiting))
    last = sorted(recent[-1].of_kind("phase"), key=lambda scope: (scope.started, scope.key))
    return History(
        seconds=fsum(spans) / len(spans),
        steps=kind,
        # fsum: a plain sum depends on the order the signals came in.
        weights={name: fsum(found) / len(found) for name, found in seconds.items()},
        work={name: fsum(found) / len(recent) for name, found in seconds.items()},
        phases=tuple(dict.fromkeys(_step(scope) for scope in last)),
        reported=any(_reported(each) is not None for each in recent),
    )


def _active(scope: Scope, waiting: Waiting) -> float:
    return max(0.0, (scope.seconds or 0.0) - waiting.seconds(scope))


def _succeeded_before(runs: Runs, run: RunState) -> Iterator[tuple[int, RunState]]:
    workflow, started = run.workflow, run.started
    for each in runs.by_id.values():
        if each is run or each.first > started:
            continue
        main = each.main
        if (
            main is not None
            and main.end is not None
            and main.outcome == "success"
            and main.end.time <= started
            and each.workflow == workflow
            and not held(each)
        ):
            yield main.end.time, each


def _step(scope: Scope) -> str:
    return (scope.ids.phase or scope.name) if scope.kind == "phase" else scope.kind


def _reported(run: RunState) -> tuple[float, int] | None:
    """Return the highest share the run itself reported and when it first did, or None."""
    best = max((scope.best for scope in run.tries if scope.best is not None), default=None)
    return None if best is None else (best[0], -best[1])


def _worked(run: RunState, history: History) -> tuple[float, int] | None:
    """Return the share of the usual work that is behind the run and since when, or None.

    A phase that is passed more often than usual is worth no more than usual: what it took is not
    the work of the phases that are still to come.
    """
    whole = fsum(history.work.values())
    if history.reported or whole <= 0:
        return None
    done: dict[str, list[float]] = {}
    since = run.started
    for scope in run.of_kind(history.steps):
        name = _step(scope)
        part, at = (0.0, 0) if scope.best is None else (scope.best[0], -scope.best[1])
        if scope.end is not None:
            part, at = 1.0, scope.end.time
        if part and name in history.weights:
            done.setdefault(name, []).append(history.weights[name] * part)
            since = max(since, at)
    worth = fsum(min(fsum(found), history.work[name]) for name, found in done.items())
    return min(_MOST, worth / whole), since


def share(run: RunState, history: History = NO_HISTORY) -> float | None:
    """Return how much of a run is done, 0 to 1: 1 if it succeeded, None where nothing tells."""
    main = run.main
    if main is not None and main.outcome == "success" and not held(run):
        return 1.0
    found = [each[0] for each in (_reported(run), _worked(run, history)) if each is not None]
    return max(found, default=None)


def remaining(
    run: RunState, now: int, history: History = NO_HISTORY, waiting: Waiting | None = None
) -> float | None:
    """Return the seconds a run under way probably still takes, or None where nothing tells.

    Counted down from when the share done was last seen to grow, so that it does not rise between
    two steps. 0 says that the run is overdue.

    Args:
        run: A run that has not ended.
        now: The time, in nanoseconds since the epoch.
        history: What earlier runs took.
        waiting: The run's waits for humans, whose time is left out.

    """
    waiting = waiting or Waiting(run, now)
    started = run.started
    reported, worked = _reported(run), _worked(run, history)
    if reported is not None and reported[0] > 0 and (worked is None or reported[0] >= worked[0]):
        done, since = reported
        whole = ((since - started) / 1e9 - waiting.between(started, since)) / done
    elif history.seconds is not None:
        done, since = worked or (0.0, started)
        whole = history.seconds
    else:
        return None
    worked_since = (now - since) / 1e9 - waiting.between(since, now)
    return max(0.0, whole * (1 - done) - worked_since)
