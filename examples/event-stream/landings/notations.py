"""How the clerks wrote days, weights and money: what the coders choose their rules from."""

import re
from collections.abc import Callable
from typing import NamedTuple

LB_IN_QUARTER, LB_IN_HUNDREDWEIGHT, LB_IN_STONE = 28, 112, 14
PENCE_IN_SHILLING, PENCE_IN_POUND = 12, 240
YEAR = 1911
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

Value = str | int
"""A day as ISO text, a weight in pounds, or money in pence."""


class Notation(NamedTuple):
    """One way to write a value: what it looks like, and what its parts add up to."""

    name: str
    pattern: re.Pattern[str]
    value: Callable[..., Value]

    def read(self, cell: str) -> Value | None:
        """Return what a cell says, or None where it is not written like this."""
        found = self.pattern.fullmatch(cell)
        return None if found is None else self.value(*found.groups(default="0"))


def _sum_of(*units: int) -> Callable[..., int]:
    def value(*parts: str) -> int:
        return sum(unit * int(part) for unit, part in zip(units, parts, strict=True))

    return value


def _day(day: str, month: str) -> str:
    number = int(month) if month.isdecimal() else MONTHS.index(month[:3]) + 1
    return f"{YEAR}-{number:02}-{int(day):02}"


def _nought_for_stains(*parts: str) -> int:
    pounds = _sum_of(LB_IN_HUNDREDWEIGHT, LB_IN_QUARTER, 1)
    return pounds(*(part.replace("?", "0") for part in parts))


def _notation(name: str, pattern: str, value: Callable[..., Value]) -> Notation:
    return Notation(name, re.compile(pattern), value)


_DAY, _MONTH = r"([12]?\d|3[01])", r"(1[0-2]|[1-9])"
_NAME = rf"({'|'.join(MONTHS)})[a-z]*\.?"
_WEIGHT = _sum_of(LB_IN_HUNDREDWEIGHT, LB_IN_QUARTER, 1)
_MONEY = _sum_of(PENCE_IN_POUND, PENCE_IN_SHILLING, 1)

NOTATIONS: dict[str, tuple[Notation, ...]] = {
    "day": (
        _notation("3 April", rf"{_DAY} {_NAME}", _day),
        _notation("day/month", rf"{_DAY}/{_MONTH}", _day),
        _notation("month/day", rf"{_MONTH}/{_DAY}", lambda month, day: _day(day, month)),
        _notation("April 3", rf"{_NAME} {_DAY}", lambda month, day: _day(day, month)),
    ),
    "paid": (
        _notation("£4 7s 6d", r"£(\d+)(?: (\d+)s)?(?: (\d+)d)?", _MONEY),
        _notation("7s 6d", r"(\d+)s(?: (\d+)d)?", _sum_of(PENCE_IN_SHILLING, 1)),
        _notation("£-s-d", r"(\d+)-(\d+)-(\d+)", _MONEY),
        _notation("£-s", r"(\d+)-(1?\d)", _sum_of(PENCE_IN_POUND, PENCE_IN_SHILLING)),
        _notation("s-d", r"(\d+)-(1[01]|\d)", _sum_of(PENCE_IN_SHILLING, 1)),
        _notation("87/6", r"(\d+)/(1[01]|\d)", _sum_of(PENCE_IN_SHILLING, 1)),
        _notation("7/-", r"(\d+)/-", _sum_of(PENCE_IN_SHILLING)),
    ),
    "weight": (
        _notation("3 cwt 2 qr 14 lb", r"(\d+) cwt(?: ([0-3]) qr)?(?: (\d+) lb)?", _WEIGHT),
        _notation("90 lb", r"(\d+) lb", _sum_of(1)),
        _notation("cwt-qr-lb", r"(\d+)-([0-3])-(\d+)", _WEIGHT),
        _notation("cwt-qr", r"(\d+)-([0-3])", _sum_of(LB_IN_HUNDREDWEIGHT, LB_IN_QUARTER)),
        _notation("st-lb", r"(\d+)-(\d|1[0-3])", _sum_of(LB_IN_STONE, 1)),
        _notation("29 st 6 lb", r"(\d+) st(?: (\d+) lb)?", _sum_of(LB_IN_STONE, 1)),
        _notation("nought for a stain", r"([\d?]+) cwt ([\d?]) qr ([\d?]+) lb", _nought_for_stains),
    ),
}
"""By column, in the order in which a coder prefers them; the last resort of weights is a guess."""
