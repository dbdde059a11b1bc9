"""Text made safe: to show on a terminal, as one line of JSON, as a part of an address."""

from __future__ import annotations

import re
import unicodedata
from typing import Final
from urllib.parse import quote

_SPACES: Final = str.maketrans({"\n": " ", "\r": " ", "\t": " "})
# Controls, direction marks, lone surrogates, line and paragraph separators.
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_JOINERS: Final = "\u200c\u200d"  # some scripts and emoji are written with them
# Characters that JSON may hold as they are but that end a line for some readers, or that a
# terminal obeys: C1 controls, line and paragraph separators, marks that turn text around.
_OBEYED: Final = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def visible(text: str) -> str:
    """Return text on one line, with what a terminal would obey or hide written out.

    A name or message can hold an escape sequence or a mark that turns text around.
    """
    text = text.translate(_SPACES)
    if text.isprintable():
        return text
    return "".join(map(_spelled, text))


def _spelled(char: str) -> str:
    if unicodedata.category(char) not in _HIDDEN or char in _JOINERS:
        return char
    return f"\\x{ord(char):02x}" if char <= "\xff" else f"\\u{ord(char):04x}"


def unbroken(json: str) -> str:
    """Return JSON text as one line for every reader, the same value as before."""
    return _OBEYED.sub(lambda found: f"\\u{ord(found.group()):04x}", json)


def segment(text: str) -> str:
    """Return an id as one segment of a path; `.` and `..` would be taken out on the way."""
    quoted = quote(text, safe="")
    return quoted if quoted.strip(".") else quoted.replace(".", "%2E")
