"""A Celery application whose tasks end spans; its broker is a folder.

opentelemetry-instrument celery -A tests.chaos.celery_app worker --max-tasks-per-child=1
"""

from __future__ import annotations

import os
from pathlib import Path

from celery import Celery

from tests.chaos.app import some

folder = Path(os.environ["CHAOS_BROKER"])
app = Celery("chaos", broker="filesystem://")
app.conf.broker_transport_options = {f"data_folder_{way}": str(folder) for way in ("in", "out")} | {
    "control_folder": str(folder / "control")
}
app.conf.broker_connection_retry_on_startup = True


@app.task(name="work")
def work(told: str, count: int) -> None:
    """End so many spans."""
    some(told, count)
