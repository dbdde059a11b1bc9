"""What usage costs in USD: the settings' prices first, then genai-prices' offline table.

genai-prices is imported at the first price that is looked up in its table (it takes about 0.1 s
and brings pydantic); `Prices.warm` does it ahead of time. It is never asked to update itself.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from otel_agents.usage.plan import Plan, from_rates, from_table
from otel_agents.usage.record import Usage, metered

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

_RATES = ("input", "cache_read", "cache_write", "output")
_MOST_PLANS = 1024
"""How many models are remembered: more than any program calls, fewer than a leak of names."""

_TABLE_NAMES = {
    "x_ai": "x-ai",
    "azure.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "gcp.gen_ai": "google",
}
"""Values of `gen_ai.provider.name` that genai-prices does not recognise, or as another provider."""


class Prices:
    """The price table of a program.

    A model's rates are looked up once and kept; after that a price is plain integer arithmetic.

    Args:
        overrides: USD per million tokens by model, as in the settings' `[prices."MODEL"]`:
            `input`, `cache_read`, `cache_write`, `output`. The model is named as it is called,
            or as `provider:model` to mean one provider's only. Without a cache rate, cached
            tokens cost what fresh input does; without an input or output rate, usage that has
            such tokens has no known price.

    Raises:
        ValueError: A rate is unknown or no amount of USD. The message names model and rate.

    """

    def __init__(self, overrides: Mapping[str, Mapping[str, object]] | None = None) -> None:
        self._overrides = {
            model: from_rates(_checked(model, rates)) for model, rates in (overrides or {}).items()
        }
        self._plans: dict[tuple[str | None, str | None, str | None], Plan | None] = {}

    def warm(self) -> None:
        """Load genai-prices and its table, which takes the first `cost` about 0.15 s otherwise."""
        from genai_prices.data_snapshot import get_snapshot

        get_snapshot()

    def cost(
        self,
        usage: Usage,
        *,
        model: str | None,
        provider: str | None = None,
        url: str | None = None,
        at: datetime | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> float | None:
        """Return the cost of one request in USD, or None when its price is not known.

        The amount is computed in exact integers and then rounded once, to the nearest double. It
        equals `genai_prices.calc_price` wherever that knows a rate for every token used. It is
        None and never 0 where a token type has no rate at all, where the counts contradict each
        other, and for a request of which no token was seen. Tiers go by the input of one request:
        price requests one by one and add the costs up.

        Args:
            usage: What was used. A per-request fee is charged `usage.requests` times.
            model: The model's name; None has no price.
            provider: Its provider, as pydantic-ai or `gen_ai.provider.name` spell it. A provider
                that the table does not know has no prices. None or empty: the first that has
                the model.
            url: The base URL that was called, which tells resellers of a model apart. One that
                the table does not know is passed over.
            at: When the request was made (naive: UTC), for prices that depend on it. None: now.
            context: What selects special rates, as `{"service_tier": "flex"}`; pydantic-ai's
                `ModelResponse.provider_details` will do.

        """
        key = (model, provider, url)
        try:
            plan = self._plans[key]
        except (KeyError, TypeError):
            plan = self._resolved(*key)
        return None if plan is None else plan.cost(usage, at, context)

    def saved(
        self,
        usage: Usage,
        *,
        model: str | None,
        provider: str | None = None,
        url: str | None = None,
        at: datetime | None = None,
    ) -> float | None:
        """Return the USD that the cache saved on one request, or None when its price is unknown.

        It is the cost of the same tokens without any cache, less the cost with it: negative when
        the writes cost more than the reads saved.
        """
        plain = Usage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            requests=usage.requests,
        )
        apart = {name: n for name, n in usage.extras.items() if not name.startswith("cache_")}
        uncached = metered(plain, apart)
        without = self.cost(uncached, model=model, provider=provider, url=url, at=at)
        actual = self.cost(usage, model=model, provider=provider, url=url, at=at)
        return None if without is None or actual is None else without - actual

    def _resolved(self, model: str | None, provider: str | None, url: str | None) -> Plan | None:
        if not model or not all(isinstance(name, str | None) for name in (model, provider, url)):
            return None
        plan = self._overrides.get(f"{provider}:{model}") or self._overrides.get(model)
        if plan is None:
            try:
                plan = _looked_up(model, provider, url)
            except Exception:  # noqa: BLE001 - a table that cannot be read prices nothing
                plan = None
        if len(self._plans) >= _MOST_PLANS:
            self._plans.clear()
        self._plans[model, provider, url] = plan
        return plan


def _looked_up(model: str, provider: str | None, url: str | None) -> Plan | None:
    """Find a model in genai-prices' table: by its URL first, then by its provider."""
    from genai_prices.data_snapshot import get_snapshot

    provider = _TABLE_NAMES.get(provider, provider) if provider else None
    snapshot = get_snapshot()
    references: list[tuple[str | None, str | None]] = [(None, url)] if url else []
    if provider or not url:
        references.append((provider, None))
    for provider_id, provider_url in references:
        try:
            found = snapshot.find_provider_model(model, None, provider_id, provider_url)
        except LookupError:
            continue
        return from_table(*found)
    return None


def _checked(model: str, rates: Mapping[str, object]) -> dict[str, Decimal]:
    """Return an override's rates as decimals, so that 0.1 means a tenth."""
    checked = {}
    for name, rate in rates.items():
        if name not in _RATES:
            message = f'prices."{model}": there is no rate "{name}"; use {", ".join(_RATES)}'
            raise ValueError(message)
        number = rate if isinstance(rate, (int, float)) and not isinstance(rate, bool) else -1
        if not 0 <= number < float("inf"):
            message = (
                f'prices."{model}".{name} must be USD per million tokens, 0 or more, not {rate!r}'
            )
            raise ValueError(message)
        checked[name] = Decimal(str(number))
    return checked
