"""Values of the host program, made safe to keep: plain, bounded, redacted.

Only types that are known are turned into text. A foreign `__str__` or `__repr__` can raise, block
or return a gigabyte, so it is never called: such a value is named by its class.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import pathlib
import re
import uuid
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_TEXT: Final = 4096  # characters of one value; a longer one is cut and marked
MAX_ITEMS: Final = 100  # of one list
GOAL_LENGTH: Final = 100
CUT: Final = "…[cut]"
REDACTED: Final = "[redacted]"

_TEXT_TYPES: Final = (
    uuid.UUID, pathlib.PurePath, decimal.Decimal, datetime.date, datetime.time, datetime.timedelta,
)  # fmt: skip
_TEXT_MODULES: Final = frozenset(
    {"uuid", "pathlib", "pathlib._local", "decimal", "datetime", "_pydatetime"}
)
_LISTS: Final = frozenset({list, tuple, set, frozenset})
_MAX_INT: Final = 2**63 - 1
_MAX_BITS: Final = 4096

# The body of one that is encrypted begins with lines of words; one that was cut has no end.
_PEM: Final = (
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"(?:[A-Za-z0-9+/=\s:,\\-]{0,16384}?-----END [A-Z ]*PRIVATE KEY-----|[A-Za-z0-9+/=\s:,\\-]*)"
)
# Values that are secrets by their shape, whoever sent them, each with what a text that holds one
# also has, in small letters: to look for that is fifty times faster than to try the pattern.
_SHAPES: Final = (
    (("k-", "k_"), r"\b(?:sk|pk|rk)(?:-|_(?:live|test)_)[A-Za-z0-9_-]{16,}"),
    (("akia", "asia"), r"\bA(?:KIA|SIA)[0-9A-Z]{16}\b"),
    (("gho_", "ghp_", "ghr_", "ghs_", "ghu_"), r"\bgh[pousr]_[A-Za-z0-9]{30,}"),
    (("github_pat_", "glpat-"), r"\b(?:github_pat_|glpat-)[A-Za-z0-9_-]{20,}"),
    (("xox", "xapp-"), r"\b(?:xox[abeprs]|xapp)-[A-Za-z0-9-]{10,}"),
    (("hooks.slack.com",), r"\bhooks\.slack\.com/services/[A-Za-z0-9/_-]+"),
    (("aiza", "ya29.", "gocspx-"), r"\b(?:AIza|ya29\.|GOCSPX-)[0-9A-Za-z_-]{20,}"),
    (("hf_", "npm_"), r"\b(?:hf|npm)_[A-Za-z0-9]{30,}"),
    (("eyj",), r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
    (("bearer",), r"(?i:\bbearer\s+)[A-Za-z0-9._~+/-]{8,}=*"),
    (("basic",), r"(?i:\bbasic\s+)(?=[A-Za-z+/]*[0-9=])[A-Za-z0-9+/]{8,}=*"),
    (("private key-----",), _PEM),
    (("sig=",), r"(?<=[?&]sig=)[^&\s\"'\\]+"),
)
SECRET_PATTERNS: Final = tuple(pattern for _, pattern in _SHAPES)
_MARKS: Final = tuple(mark for marks, _ in _SHAPES for mark in marks)


def _by_letters(marks: tuple[str, ...], letters: str) -> list[tuple[str, tuple[str, ...]]]:
    """Return marks by the first of these letters that each of them holds."""
    left, groups = list(marks), []
    for letter in letters:
        holding = tuple(mark for mark in left if letter in mark)
        left = [mark for mark in left if mark not in holding]
        if holding:
            groups.append((letter, holding))
    return groups


# By two letters that they hold, of those that many texts lack, ids in hexadecimal most of them:
# to look for all of the marks takes up to ten times as long.
_BY_LETTERS: Final = tuple(
    (letter, tuple(_by_letters(marks, "hkgzjbxp.s")))
    for letter, marks in _by_letters(_MARKS, "_-ixyr.")
)
SECRET_NAMES: Final = (
    "password", "passwd", "passphrase", "secret", "token", "api_key", "apikey", "authorization",
    "cookie", "credential", "private_key", "access_key", "account_key", "signing_key",
    "encryption_key",
)  # fmt: skip
# A login in an address; a password may hold an @, and lose the last one where its text was cut.
_LOGIN: Final = re.compile(rf"(?<=://)[^/\s:@\"]*:[^/\s\"]+(?=@|{re.escape(CUT)}$)")
# What is quoted, in JSON, in JSON within JSON or as Python does, to its end or the text's; a header
# of cookies to the end of its line; or a word, after that of its scheme. Counts and types are not
# secrets. It is tried on small letters, which takes a tenth of the time of matching either case.
_GIVEN: Final = r"""
    (?P<head>(?:{names}|(?P<token>token)|(?P<cookie>cookie)|(?<![a-z])pwd(?==[^/~.]))s?
        (?:\\*["'])?\s{{0,8}}[=:]>?\s{{0,8}}+)
    (?!\[redacted\]|(?:none|null|true|false|str|string|bytes|any|optional|secretstr)\b)
    (?:
        (?P<quote>["'])(?:(?!(?P=quote))[^\\]|\\+[\s\S])*
      | (?P<inner>\\+(?P<of>["']))(?:\\{{3,}}(?P=of)|\\(?!(?P=of))[\s\S]|(?!(?P=of))[^\\])*
      | (?(cookie)[^\r\n"'\\]+|(?(token)(?!\d+(?:\.\d+)?(?!\w)))
            (?:(?:basic|bearer|digest|negotiate|token)\s+)?[^\s&;,"'\\<>(){{}}\[\]|]+)
    )
"""
_ROOTS: Final = ("pass", "pwd", "secret", "token", "key", "authoriz", "cookie", "credential")
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SHORTEST_SECRET: Final = 7  # characters: `pwd=abc`; many values are names, and shorter
_MAX_KEYS: Final = 1000


def _spelled(name: str) -> str:
    return re.escape(name).replace("_", r"[_.\-]?")


def redactor(
    names: tuple[str, ...] = (), patterns: tuple[str, ...] = ()
) -> Callable[[str, Any], Any]:
    """Return a function of (key, value) that hides secrets by the key's name and by their shape.

    Within a text the names hide what is given to them: `password=…`, `"api_key": "…"`.
    """
    shapes = [(marks, re.compile(pattern)) for marks, pattern in _SHAPES]
    # The caller's patterns each alone: joined, a `\1` in one would mean another's group.
    given = [re.compile(pattern) for pattern in patterns]
    shortest = 0 if patterns else _SHORTEST_SECRET
    names_secret = _named(names)
    assigned = _assignments(names)

    def hidden(value: str) -> str:
        small = value.lower()
        if _marked(small):
            for marks, shape in shapes:
                for mark in marks:
                    if mark in small:
                        value = shape.sub(REDACTED, value)
                        break
        if "://" in small and ("@" in small or value.endswith(CUT)):
            value = _LOGIN.sub(REDACTED, value)
        if "=" in small or ":" in small:
            value = assigned(value)
        for shape in given:
            value = shape.sub(REDACTED, value)
        return value

    def redact(key: str, value: Any) -> Any:
        if key and names_secret(key):
            return value if isinstance(value, bool | int | float) else REDACTED
        if isinstance(value, str):
            return hidden(value) if len(value) >= shortest else value
        if isinstance(value, tuple):
            return tuple(redact("", item) for item in value)
        return value

    return redact


def _named(names: tuple[str, ...]) -> Callable[[str], bool]:
    """Return what says whether a key is the name of a secret."""
    # Of what type tokens are is no secret: `gen_ai.token.type`, `gen_ai.token.modality`.
    ours = (rf"{_spelled(name)}s?(?:$|[._\-](?!(?:type|modality)$))" for name in SECRET_NAMES)
    theirs = (rf"{_spelled(name)}s?(?:$|[._\-])" for name in names)
    words = re.compile(rf"(?:^|[._\-])(?:{'|'.join((*ours, *theirs))})", re.IGNORECASE)
    known: dict[str, bool] = {}

    def is_secret(key: str) -> bool:
        found = known.get(key)
        if found is None:
            if len(known) >= _MAX_KEYS:
                known.clear()
            # As it is written, and `accessToken` as `access_Token`.
            found = known[key] = any(map(words.search, (key, _HUMP.sub("_", key))))
        return found

    return is_secret


def _assignments(names: tuple[str, ...]) -> Callable[[str], str]:
    """Return what hides in a text what is given to a name of a secret."""
    spelled = [_spelled(name) for name in SECRET_NAMES if name not in {"token", "cookie"}]
    spelled += [rf"(?<![^\W_]){_spelled(name.lower())}" for name in names]
    given = re.compile(_GIVEN.format(names="|".join(spelled)), re.VERBOSE)
    roots = (*_ROOTS, *(name.lower().partition("_")[0] for name in names))

    def hide(value: str) -> str:
        small = value.lower()
        if not any(root in small for root in roots):
            return value
        if len(small) != len(value):  # a letter that is two when it is small
            small = value.translate(_SMALL)
        parts, end = [], 0
        for found in given.finditer(small):
            start, stop = found.span("quote" if found["quote"] else "inner")
            if start < 0:
                stop = found.end("head")
            parts += [value[end:stop], REDACTED]
            end = found.end()
        return "".join((*parts, value[end:])) if parts else value

    return hide


class Rules(NamedTuple):
    """What hides secrets at a moment: another object after each `hide`."""

    redact: Callable[[str, Any], Any]
    patterns: bool  # are there any that no mark tells of


_SMALL: Final = {ord(letter): letter.lower() for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
_rules: Final = [Rules(redactor(), patterns=False)]


def hide(names: tuple[str, ...], patterns: tuple[str, ...]) -> None:
    """Hide these names and patterns too, from now on in the whole process."""
    _rules[0] = Rules(redactor(tuple(names), tuple(patterns)), patterns=bool(patterns))


def rules() -> Rules:
    """Return what hides at the moment."""
    return _rules[0]


def may_hold(small: str) -> bool:
    """Return whether a text in small letters may hold a secret that is found without a pattern.

    It says so of all that hold one, and of some others.
    """
    return "=" in small or ":" in small or _marked(small)


def _marked(small: str) -> bool:
    for letter, groups in _BY_LETTERS:
        if letter in small:
            for other, marks in groups:
                if other in small:
                    for mark in marks:
                        if mark in small:
                            return True
    return False


def redact(key: str, value: Any) -> Any:
    """Return a value without secrets: hidden whole if its key names one, else by shape."""
    return _rules[0][0](key, value)  # by its place: this is asked for each value


def cut(text: str, limit: int = MAX_TEXT) -> str:
    """Return text of at most `limit` characters, marked where it was cut, and fit for UTF-8."""
    if len(text) > limit:
        text = text[: limit - len(CUT)] + CUT
    return text if text.isascii() else whole(text)


def whole(text: str) -> str:
    """Return text that UTF-8 can hold: half of a surrogate pair is written out."""
    return text.encode("utf-8", "backslashreplace").decode()


def plain(value: Any) -> Any:
    """Return a value as text, bool, int, float, a tuple of these, or None for None."""
    kind = type(value)
    if kind is str:
        return cut(value)
    if kind is int:
        if -_MAX_INT <= value <= _MAX_INT:
            return value
        # Python refuses to write out a number of more than some 4,300 digits.
        bits = value.bit_length()
        return str(value) if bits <= _MAX_BITS else f"<int of {bits} bits>"
    if kind is bool or kind is float or value is None:
        return value
    # By the class, not `isinstance`: a proxy's `__class__` is the host's code, and can raise.
    if issubclass(kind, enum.Enum):
        return plain(value._value_)
    if issubclass(kind, str):
        return cut(str.__str__(value))
    if issubclass(kind, int):
        return plain(int.__int__(value))
    if issubclass(kind, float):
        return float.__float__(value)
    if kind in _LISTS:
        return tuple(item for item in map(_single, list(value)[:MAX_ITEMS]) if item is not None)
    if issubclass(kind, _TEXT_TYPES) and kind.__module__ in _TEXT_MODULES:
        return cut(str(value))
    return f"<{kind.__qualname__}>"


def _single(value: Any) -> Any:
    """Return an item of a list as a plain value; a list in a list, which may be itself, is none."""
    kind = type(value)
    return f"<{kind.__qualname__}>" if kind in _LISTS else plain(value)


def readable(value: Any) -> Any:
    """Return a value made plain, or None for an object, of which only the class could be told."""
    found = plain(value)
    return None if found == f"<{type(value).__qualname__}>" else found


def coerce(value: Any, wanted: type) -> Any:
    """Return a value as the type an attribute wants, or None if it cannot be that."""
    value = plain(value)
    if value is None or type(value) is wanted:
        return value
    if wanted is str:
        return value if isinstance(value, str) else str(value)
    if wanted is bool:
        return _truth(value)
    if wanted in {int, float}:
        try:
            return wanted(value)
        except (TypeError, ValueError, OverflowError):
            return None
    if wanted is list:
        return value if isinstance(value, tuple) else (value,)
    return None


def _truth(value: Any) -> bool | None:
    if isinstance(value, str):
        return {"passed": True, "true": True, "failed": False, "false": False}.get(value.lower())
    return bool(value) if isinstance(value, int | float) else None
