"""A WSGI application that ends spans with each request.

opentelemetry-instrument gunicorn tests.chaos.wsgi_app:answer
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

from tests.chaos.app import some

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """End ten spans; for `/die` be killed then, for the rest say who did it."""
    some(os.environ["CHAOS_TOLD"], 10)
    if environ["PATH_INFO"] == "/die":
        os.kill(os.getpid(), signal.SIGKILL)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
