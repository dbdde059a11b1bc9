"""What a setting's value must be: each check returns it as it is used, or raises ValueError."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

Check: TypeAlias = Callable[[Any, Path], Any]
SINK: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:")


def _path(value: Any, directory: Path) -> str:
    if not isinstance(value, str):
        message = "it must be the path of a directory"
        raise ValueError(message)  # noqa: TRY004 - one kind of error for a wrong setting
    try:
        return str((directory / Path(value).expanduser()).absolute())
    except RuntimeError:  # `~name` of nobody
        message = f"{value!r} begins with a user's home that is not known"
        raise ValueError(message) from None


def _spool(value: Any, directory: Path) -> str | None:
    word = str(value).lower() if isinstance(value, str | bool | int) else ""
    if word in {"0", "false", "off", "no"}:
        return None
    return "1" if word in {"1", "true", "on", "yes"} else _path(value, directory)


def _semconv(value: Any, _directory: Path) -> str:
    if value not in ("compat", "latest"):
        message = f"{value!r} is neither compat nor latest"
        raise ValueError(message)
    return str(value)


def _token(value: Any, _directory: Path) -> str:
    if not isinstance(value, str) or not value or not value.isascii() or not value.isprintable():
        message = "it must be a text of printable ASCII characters"
        raise ValueError(message)
    return value


def _url(pattern: str, example: str) -> Check:
    known = re.compile(pattern, re.IGNORECASE)

    def check(value: Any, _directory: Path) -> str:
        if not isinstance(value, str) or not known.match(value):
            message = f"it must be a URL, as {example}"  # the value may hold a password
            raise ValueError(message)
        return value

    return check


def _sinks(value: Any, _directory: Path) -> tuple[str, ...]:
    urls = value.split(",") if isinstance(value, str) else value
    if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
        message = 'it must be a list of URLs, as ["jsonl:"]'
        raise ValueError(message)
    return tuple(url.strip() for url in urls if url.strip())


def _flag(value: Any, _directory: Path) -> bool:
    text = str(value).strip().lower()
    if text in {"true", "1", "false", "0"}:
        return text in {"true", "1"}
    message = f"{value!r} is neither true nor false"
    raise ValueError(message)


CHECKS: Final[dict[str, Check]] = {
    "home": _path,
    "sinks": _sinks,
    "store": _url(r"(sqlite|postgres(ql)?)(\+\w+)?://", "sqlite:///PATH or postgresql://HOST/NAME"),
    "redis_url": _url(r"(rediss?|unix)://", "redis://HOST:PORT/DB"),
    "server": _url(r"https?://[^/]", "http://HOST:PORT"),
    "jaeger": _url(r"https?://[^/]", "http://HOST:16686"),
    "capture_stdout": _flag,
    "semconv": _semconv,
    "spool": _spool,
    "token": _token,
    "ingest_token": _token,
    "viewer_token": _token,
}


def is_amount(value: Any) -> bool:
    """Return whether a value is a number from 0 on, and not more than a float holds."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and 0 <= value <= sys.float_info.max
    )
