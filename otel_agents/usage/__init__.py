"""Usage and cost: provider payloads to tokens, and tokens to USD.

`Usage` is the record; `parse` and `StreamUsage` read raw provider answers, `from_pydantic_ai`
pydantic-ai's usage; `Prices` says what it cost. Importing this loads no price table.
"""

from otel_agents.usage.payload import parse
from otel_agents.usage.prices import Prices
from otel_agents.usage.pydantic_ai import from_pydantic_ai
from otel_agents.usage.record import BILLING_TYPES, COUNTS, UNSEEN, MeteredUsage, Usage
from otel_agents.usage.stream import StreamUsage

__all__ = [
    "BILLING_TYPES",
    "COUNTS",
    "UNSEEN",
    "MeteredUsage",
    "Prices",
    "StreamUsage",
    "Usage",
    "from_pydantic_ai",
    "parse",
]
