"""`otel-agents serve` with a fault of our own making, for the oracle to find.

    python broken.py early|twice|altered|invented|stuck|idle serve …

There is one for each of the five properties, and `twice`. `early` acknowledges before the commit,
`twice` stores every request twice, `altered` changes what it stores, `invented` stores what nobody
sent, `stuck` takes nothing once it has been killed, and `idle` never takes anything.
"""

from __future__ import annotations

import os
import sys
import time
import zlib
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import msgspec

from otel_agents.cli.main import run
from otel_agents.store import Batch, Block, LogRecord
from otel_agents.store.blocks import block_of, opened
from otel_agents.store.writer import Busy, Writer

if TYPE_CHECKING:
    from otel_agents.store.writer import Done

NUMBER = "chaos.number"  # as in `clients.py`
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
        blocks=[_other(one) for one in batch.blocks],
        signals=[msgspec.structs.replace(one, id=f"{one.id}-again") for one in batch.signals],
        logs=list(batch.logs),
    )
    for record in more.logs:
        record.time += 1
    _submit(self, more, _nothing)
    _submit(self, batch, done)


def _other(block: Block) -> Block:
    """Return the same spans in other bytes, which are told apart by their digest."""
    body = zlib.compress(zlib.decompress(block.body), 0)
    digest = blake2b(body, digest_size=16).digest()
    return msgspec.structs.replace(block, body=body, digest=digest)


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


def invented(self: Writer, batch: Batch, done: Done) -> None:
    """Store a record more, of a number that nobody gave."""
    made = LogRecord(
        time=time.time_ns(), body="I was here", attributes={NUMBER: os.urandom(8).hex()}
    )
    _submit(self, Batch(logs=[made]), _nothing)
    _submit(self, batch, done)


def stuck(self: Writer, batch: Batch, done: Done) -> None:
    """Take nothing where another process has stored something before."""
    if not hasattr(self, "after"):
        found = self._database.here.row("SELECT COUNT(*) AS number FROM signals")
        self.after = found != {"number": 0}  # type: ignore[attr-defined]
    if self.after:  # type: ignore[attr-defined]
        idle(self, batch, done)
    _submit(self, batch, done)


def idle(_self: Writer, _batch: Batch, _done: Done) -> None:
    """Put everything off."""
    message = "later"
    raise Busy(message)


_FAULTS = {"twice": twice, "altered": altered, "invented": invented, "stuck": stuck, "idle": idle}

if __name__ == "__main__":
    fault = sys.argv[1]
    if fault == "early":
        Writer._commit = early  # type: ignore[method-assign]
    else:
        Writer.submit = _FAULTS[fault]  # type: ignore[method-assign]
    sys.exit(run(sys.argv[2:]))
