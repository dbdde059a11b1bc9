"""A model for each role: offline ones, or one that pydantic-ai knows by name."""

from pydantic_ai.exceptions import UserError
from pydantic_ai.models import Model, infer_model

from logbook.offline import roles
from logbook.offline.model import OfflineModel

LARGE, SMALL = "offline-large", "offline-small"
_SIZES = {"planner": LARGE, "critic": LARGE, "examiner": LARGE}


class ModelUnavailable(Exception):  # noqa: N818 - read by people as the reason for exit code 2
    """A model that was asked for cannot be had: its key, package or name is missing."""


def models(name: str, pace: float) -> dict[str, Model]:
    """Find the models for a name: "offline", "offline:NAME" or "PROVIDER:NAME"."""
    provider, _, model = name.partition(":")
    if provider == "offline":
        return {
            role: OfflineModel(answer, name=model or _SIZES.get(role, SMALL), pace=pace)
            for role, answer in roles.ROLES.items()
        }
    try:
        return dict.fromkeys(roles.ROLES, infer_model(name))
    except (ImportError, UserError, ValueError) as error:
        reason = str(error).split(". ")[0].rstrip(".")
        message = f"The model {name!r} cannot be used: {reason}."
        raise ModelUnavailable(message) from error
