"""One model's prices, made ready for plain integer arithmetic.

A plan holds one or more periods (a model's price may change at a date, or by the hour of the
day), each with steps of rates by the size of the input. Rates are integers on a common scale, so
that a cost is exact up to the one division that ends it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from decimal import Decimal

    from otel_agents.usage.record import Usage

    Rates = tuple[int | None, ...]
    Steps = tuple[tuple[int, Rates], ...]
    Period = tuple[Callable[[datetime], bool] | None, Steps]

_MILLION = 10**6

_RATES = (
    ("input_mtok", None),
    ("cache_read_mtok", "input_mtok"),
    ("cache_write_mtok", "input_mtok"),
    ("cache_write_1h_mtok", "cache_write_mtok"),
    ("output_mtok", None),
    ("output_reasoning_mtok", "output_mtok"),
)
"""The rates of a step in USD per million, each with the one that stands in when it is not set."""

_REQUESTS = "requests_kcount"
"""The rate of a per-request fee, in USD per thousand."""

_PLAIN = frozenset({name for name, _ in _RATES} | {_REQUESTS})
"""The rates that a step has. A model that charges by others goes through genai-prices for them."""


class Plan:
    """The prices of one model; `from_rates` and `from_table` make it."""

    __slots__ = ("_apart", "_divisor", "_entry", "_periods", "_varies")

    def __init__(
        self,
        periods: tuple[Period, ...],
        divisor: int,
        *,
        entry: Any = (None, None),
        apart: frozenset[str] = frozenset(),
    ) -> None:
        self._periods = periods
        self._divisor = divisor
        self._entry = entry
        self._apart = apart
        self._varies = bool(getattr(entry[1], "price_variants", None))

    def cost(
        self, usage: Usage, at: datetime | None, context: Mapping[str, Any] | None
    ) -> float | None:
        """Return the cost in USD; None when a token has no rate, or none was seen."""
        if not usage.complete and not usage.total_tokens:
            return None
        if at is not None and at.tzinfo is None:
            at = at.replace(tzinfo=UTC)
        extras = usage.extras
        if (extras and not self._apart.isdisjoint(extras)) or (context and self._varies):
            return self._worked_out(usage, at, context)
        size = usage.input_tokens
        rates: Rates = ()
        for start, rates in self._steps(at):  # noqa: B007 - the first step below the size counts
            if size > start:
                break
        hourly = extras.get("cache_write_1h_tokens", 0)
        numbers = (
            size - usage.cache_read_tokens - usage.cache_write_tokens,
            usage.cache_read_tokens,
            usage.cache_write_tokens - hourly,
            hourly,
            usage.output_tokens - usage.reasoning_tokens,
            usage.reasoning_tokens,
            usage.requests,
        )
        amount: float = 0
        for number, rate in zip(numbers, rates, strict=True):
            if number:
                if rate is None or number < 0:
                    return None
                amount += number * rate
        return amount / self._divisor

    def _steps(self, at: datetime | None) -> Steps:
        """Return the steps of the period that a moment falls in, the largest input first."""
        periods = self._periods
        if len(periods) == 1:
            return periods[0][1]
        moment = datetime.now(UTC) if at is None else at
        return next(steps for active, steps in periods if active is None or active(moment))

    def _worked_out(
        self, usage: Usage, at: datetime | None, context: Mapping[str, Any] | None
    ) -> float | None:
        """Let genai-prices do the sum, which knows all units and variants (about 0.1 ms)."""
        from genai_prices import Usage as TableUsage

        provider, model = self._entry
        known = _unit_names().values()
        try:
            counts = TableUsage(
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                cache_read_tokens=usage.cache_read_tokens,
                cache_write_tokens=usage.cache_write_tokens,
                output_reasoning_tokens=usage.reasoning_tokens,
                **{name: n for name, n in usage.extras.items() if name in known},
            )
            # Versions without variants do not know the argument either.
            variant = {"price_context": context} if context and self._varies else {}
            price = model.calc_price(counts, provider, genai_request_timestamp=at, **variant)
        except ValueError:  # counts that contradict each other
            return None
        return float(price.total_price)


def from_rates(rates: Mapping[str, Decimal]) -> Plan:
    """Make the plan of an override: `input`, `cache_read`, `cache_write`, `output` in USD."""
    named = {f"{name}_mtok": rate for name, rate in rates.items()}
    scale = _scale(named.values())
    return Plan(((None, _steps_of(named, scale)),), scale * _MILLION)


def from_table(provider: Any, model: Any) -> Plan | None:
    """Make the plan of a model in genai-prices' table; None when the table has no rates for it.

    The table holds no rates both for what is free and for what it does not know; only OpenRouter
    says which, by ending the names of its free models in `:free`.
    """
    conditional = model.prices if isinstance(model.prices, list) else None
    listed = (
        [(getattr(one.constraint, "active", None), one.prices) for one in reversed(conditional)]
        if conditional
        else []
    )
    # Where no condition holds, the first price does.
    listed.append((None, conditional[0].prices if conditional else model.prices))
    named = [
        (active, {key: rate for key, rate in vars(prices).items() if rate is not None})
        for active, prices in listed
    ]
    keys = frozenset(key for _, rates in named for key in rates)
    if not keys:
        if not model.id.endswith(":free"):
            return None
        return Plan(((None, ((-1, (0,) * (len(_RATES) + 1)),)),), 1)
    scale = _scale(rate for _, rates in named for price in rates.values() for rate in _all(price))
    periods: list[Period] = []
    for active, rates in named:
        periods.append((active, _steps_of(rates, scale)))
        if active is None:
            break
    names = _unit_names()
    apart = frozenset(names.get(key, key) for key in keys - _PLAIN)
    return Plan(tuple(periods), scale * _MILLION, entry=(provider, model), apart=apart)


def _steps_of(prices: Mapping[str, Any], scale: int) -> Steps:
    """Turn prices, tiered or not, into steps: the highest start first, the last below 0."""
    starts = {-1}.union(*([tier.start for tier in _tiers(price)] for price in prices.values()))
    return tuple(
        (start, _rates_from(prices, start, scale)) for start in sorted(starts, reverse=True)
    )


def _rates_from(prices: Mapping[str, Any], start: int, scale: int) -> Rates:
    """Return the rates for an input of more than `start` tokens, in the order of a step."""
    chosen: dict[str, int | None] = {}
    for name, stand_in in _RATES:
        price = prices.get(name)
        if price is None:
            chosen[name] = chosen[stand_in] if stand_in else None
        else:
            chosen[name] = int(_at(price, start) * scale)
    fee = prices.get(_REQUESTS)
    return (*chosen.values(), 0 if fee is None else int(_at(fee, start) * 1000 * scale))


def _at(price: Any, start: int) -> Decimal:
    rate: Decimal = getattr(price, "base", price)
    for tier in _tiers(price):
        if start >= tier.start:
            rate = tier.price
    return rate


def _tiers(price: Any) -> list[Any]:
    return sorted(getattr(price, "tiers", ()), key=lambda tier: tier.start)


def _all(price: Any) -> list[Decimal]:
    return [getattr(price, "base", price), *(tier.price for tier in _tiers(price))]


def _scale(rates: Iterable[Decimal]) -> int:
    """Return the power of ten that makes all rates whole numbers."""
    scale = 1
    for rate in rates:
        while rate * scale % 1:
            scale *= 10
    return scale


def _unit_names() -> dict[str, str]:
    """Return genai-prices' usage keys by price key: `cache_read_mtok` -> `cache_read_tokens`."""
    from genai_prices.data_units import unit_data

    return {unit["price_key"]: name for name, unit in unit_data.items()}
