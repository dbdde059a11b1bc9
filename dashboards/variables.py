"""The variables of the boards: where data comes from, and what is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    VariableHide,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from dashboards.promql import select, series
from otel_agents.vocabulary import (
    AGENT_ATTEMPTS,
    MODEL_CALLS,
    RUNS_STARTED,
    TASK_DURATION,
    WORKER_COUNT,
)

if TYPE_CHECKING:
    from grafana_foundation_sdk.cog.builder import Builder
    from grafana_foundation_sdk.models.dashboard import VariableModel

    from dashboards.links import Links

SOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
# How a query chooses by what is chosen above: `where` of promql.
JOB: Final = {"job": "=~$job"}
OF_WORKFLOW: Final = {**JOB, "workflow": "=~$workflow"}
OF_AGENT: Final = {**JOB, "agent": "=~$agent"}
# One of these is told by whatever we instrument; other programs of the stack have none.
_TOLD_BY_ALL: Final = (
    series(RUNS_STARTED),
    series(AGENT_ATTEMPTS),
    series(MODEL_CALLS),
    series(TASK_DURATION, "count"),
    series(WORKER_COUNT),
)
_ALL: Final = VariableOption(selected=True, text=["All"], value=["$__all"])


def datasource() -> Builder[VariableModel]:
    """Return the choice of a Prometheus; without one Grafana takes its default."""
    return builders.DatasourceVariable("datasource").label("Data source").type("prometheus")


def job() -> Builder[VariableModel]:
    """Return the choice of programs: `job` is service.namespace/service.name."""
    told = f'label_values({{__name__=~"{"|".join(_TOLD_BY_ALL)}"}}, job)'
    return _choice("job", "Program", told)


def workflow() -> Builder[VariableModel]:
    """Return the choice of workflows of those programs."""
    started = select(RUNS_STARTED, where=JOB)
    return _choice("workflow", "Workflow", f"label_values({started}, workflow)")


def agent() -> Builder[VariableModel]:
    """Return the choice of agents of those programs."""
    attempts = select(AGENT_ATTEMPTS, where=JOB)
    return _choice("agent", "Agent", f"label_values({attempts}, agent)")


def console(links: Links) -> Builder[VariableModel]:
    """Return the hidden variable that links to the console are made from."""
    return _address("console", links.console)


def jaeger(links: Links) -> list[Builder[VariableModel]]:
    """Return the hidden variables that links to Jaeger are made from.

    `service` is the name that Jaeger knows the first of the chosen programs by.
    """
    told = f'label_values({{__name__=~"{"|".join(_TOLD_BY_ALL)}", job=~"$job"}}, job)'
    service = (
        builders.QueryVariable("service")
        .hide(VariableHide.HIDE_VARIABLE)
        .query(told)
        .datasource(SOURCE)
        .regex("/^(?:.*\\/)?([^\\/]+)$/")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
    )
    return [service, _address("jaeger", links.jaeger)]


def _choice(name: str, label: str, query: str) -> Builder[VariableModel]:
    return (
        builders.QueryVariable(name)
        .label(label)
        .query(query)
        .datasource(SOURCE)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        # Not `.+`: what is told outside of a workflow or agent has no such label, and counts too.
        .all_value(".*")
        .current(_ALL)
    )


def _address(name: str, url: str) -> Builder[VariableModel]:
    return (
        builders.TextBoxVariable(name)
        .hide(VariableHide.HIDE_VARIABLE)
        .default_value(url)
        .current(VariableOption(selected=True, text=url, value=url))
    )
