"""Users' own functions as scopes: the `[[wrap]]` tables, applied when their modules are imported.

A table that is wrong costs a sentence, never the program: each is reported for `otel-agents doctor`
and logged once. A wrapped function returns and raises what it always did.

A module that is reloaded, and a function that was copied to another name before its module's import
was over, are not caught: import hooks see a module once, when it is complete.
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
from otel_agents.drive import Finish, drive
from otel_agents.errors import SettingsError
from otel_agents.instrument.places import Place, is_program, locate, meant, missing_part
from otel_agents.instrument.wrapper import Wrapper
from otel_agents.scope import Scope
from otel_agents.templates import Arguments, Template
from otel_agents.values import coerce
from otel_agents.vocabulary import ANY_FIELDS, KINDS, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from otel_agents.settings import Plain, Wrap

State = Literal["applied", "waiting", "failed"]

_TARGET: Final = re.compile(r"(?P<module>[\w.]+):(?P<path>[^\W\d]\w*(?:\.[^\W\d]\w*)*)")
# A model call needs its usage, which no template can give; `otel_agents.model` takes it.
_SCOPES: Final = {name: kind for name, kind in KINDS.items() if name != "model"}
_NOTHING: Final[dict[str, Any]] = {}


def fields_of(kind: Kind) -> tuple[dict[str, bool], ...]:
    """Return the fields a `[[wrap]]` of a kind may set, and whether the result may set them."""
    early = dict.fromkeys(kind.ids, False)
    if kind.name == "iteration":
        early = {"number": False}
    return ({**early, **dict.fromkeys((*kind.fields, *ANY_FIELDS), True)},)
