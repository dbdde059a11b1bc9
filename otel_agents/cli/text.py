"""Values as people read them. Nothing here knows of a terminal."""

from __future__ import annotations

from typing import Final

_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86400


def duration(seconds: float) -> str:
    """Return seconds as `0.4s`, `12s`, `1m 05s`, `2h 10m` or `3d 4h`."""
    return f"{max(0.0, seconds):.1f}s" if seconds < 10 else roughly(seconds)  # noqa: PLR2004


def roughly(seconds: float) -> str:
    """Return seconds like `duration`, without parts of a second."""
    whole = max(0, int(seconds))
    if whole < _MINUTE:
        return f"{whole}s"
    if whole < _HOUR:
        return f"{whole // _MINUTE}m {whole % _MINUTE:02d}s"
    if whole < _DAY:
        return f"{whole // _HOUR}h {whole % _HOUR // _MINUTE:02d}m"
    return f"{whole // _DAY}d {whole % _DAY // _HOUR}h"


def count(number: int) -> str:
    """Return a number with its thousands apart."""
    return f"{number:,}"


def short(number: int) -> str:
    """Return a number in at most five characters: `999`, `12.3k`, `4.5M`."""
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            scaled = number / size
            return f"{scaled:.1f}{letter}" if scaled < 100 else f"{scaled:.0f}{letter}"  # noqa: PLR2004
    return str(number)


def plural(number: int, word: str) -> str:
    """Return `1 agent`, `2 agents`."""
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def money(usd: float) -> str:
    """Return an amount in USD, with as many decimals as small amounts need."""
    if 0 < usd < 0.0001:  # noqa: PLR2004
        return "<$0.0001"
    return f"${usd:.4f}" if usd < 1 else f"${usd:,.2f}"


def budget(amount: float, unit: str) -> str:
    """Return an amount of a budget in its unit: USD, token, second or a program's own.

    A program may name its unit in the plural.
    """
    if unit == "USD":
        return money(amount)
    if unit == "second":
        return f"{amount:.2f}s" if 0 < amount < 1 else duration(amount)
    one = unit.removesuffix("s")
    return plural(int(amount), one) if amount == int(amount) else f"{amount:,.2f} {one}s"


def cost(usd: float | None, unpriced: int) -> str:
    """Return what something cost; an unknown price is said to be unknown."""
    if usd is not None:
        return money(usd)
    return f"unknown: {plural(unpriced, 'token')} without a price" if unpriced else "nothing priced"


def percent(share: float) -> str:
    """Return a share, 0 to 1, in whole percent, cut rather than rounded."""
    return f"{int(share * 100 + 1e-9)}%"
