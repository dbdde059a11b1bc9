"""`otel-agents serve` with a fault of our own making, for the oracle to find.

    python broken.py early|twice|altered serve …

The first acknowledges before the commit, the second stores every request twice, and the third
changes what it stores.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

import msgspec

from otel_agents.cli.main import run
from otel_agents.store import Batch
from otel_agents.store.blocks import block_of, opened
from otel_agents.store.writer import Writer

if TYPE_CHECKING:
    from otel_agents.store.writer import Done

_commit, _submit = Writer._commit, Writer.submit


def _nothing(_: BaseException | None) -> None:
    pass


def early(self: Writer, taken: list[tuple[Batch, Done]]) -> None:
    """Acknowledge what is committed a little later."""
    for _, done in taken:
        done(None)
    time.sleep(0.05)
    _commit(self, [(batch, _nothing) for batch, _ in taken])


def twice(self: Writer, batch: Batch, done: Done) -> None:
    """Store everything once more, as if it were something else."""
    more = Batch(
        blocks=[msgspec.structs.replace(one, digest=os.urandom(16)) for one in batch.blocks],
        signals=[msgspec.structs.replace(one, id=f"{one.id}-again") for one in batch.signals],
        logs=list(batch.logs),
    )
    for record in more.logs:
        record.time += 1
    _submit(self, more, _nothing)
    _submit(self, batch, done)


def altered(self: Writer, batch: Batch, done: Done) -> None:
    """Store other names than those that were sent."""
    for signal in batch.signals:
        signal.name += "."
    blocks = []
    for one in batch.blocks:
        message: Any = opened(one.body)
        message.resource_spans[0].scope_spans[0].spans[0].name += "."
        blocks.append(block_of(message, message.SerializeToString())[0])
    batch.blocks = blocks
    _submit(self, batch, done)


if __name__ == "__main__":
    fault = sys.argv[1]
    if fault == "early":
        Writer._commit = early  # type: ignore[method-assign]
    else:
        Writer.submit = {"twice": twice, "altered": altered}[fault]  # type: ignore[method-assign]
    sys.exit(run(sys.argv[2:]))
