"""Templates, static files and the headers of every page."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from otel_agents.server import pages_text as text

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

_HERE: Final = Path(__file__).parent
STATIC: Final = _HERE / "static"
# Everything a page needs comes from this server; nothing inline runs or styles it.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS: Final = {
    "content-security-policy": POLICY,
    "cache-control": "no-store",
    "referrer-policy": "same-origin",
    "vary": "HX-Request, Cookie",
    "x-content-type-options": "nosniff",
}
_FOREVER: Final = "public, max-age=31536000, immutable"


class _Files(StaticFiles):
    """Files below an address that changes with them, so that they can be kept for good."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["cache-control"] = _FOREVER
        return response


class _Query(dict[str, str]):
    """The query of an address; what it does not name is empty."""

    def __missing__(self, name: str) -> str:
        return ""


def _digest() -> str:
    found = hashlib.sha256()
    for path in sorted(STATIC.rglob("*")):
        if path.is_file():
            found.update(path.relative_to(STATIC).as_posix().encode())
            found.update(path.read_bytes())
    return found.hexdigest()[:12]


class Renderer:
    """Renders templates. A request that htmx made gets the part of the page it asked for."""

    def __init__(self) -> None:
        self.base: Final = f"/static/{_digest()}"
        self._templates = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=text.shown,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        for name in (
            "ago", "count", "duration", "link", "look", "millis", "percent", "plural", "pretty",
            "segment", "severity", "short", "usd",
        ):  # fmt: skip
            self._templates.filters[name] = getattr(text, name)
        names: dict[str, Any] = {"static": self.base}
        self._templates.globals.update(names)

    def files(self) -> BaseRoute:
        """Return the route of the static files."""
        return Mount(self.base, app=_Files(directory=STATIC), name="static")

    def page(
        self, request: Request, name: str, context: dict[str, Any], *, status: int = 200
    ) -> HTMLResponse:
        """Render `NAME.html`, or the part `_NAME_PART.html` of it that htmx asked for."""
        part = asked_part(request)
        names = {
            "fragment": f"_{name}.html",
            "drawer": "_error.html" if name == "error" else "_drawer.html",
        }
        body = self._templates.get_template(names.get(part, f"{name}.html")).render(
            here=_here(request),
            role=str(getattr(request.state, "role", "") or ""),
            firing_count=getattr(request.state, "firing", None) or 0,
            waiting_count=getattr(request.state, "waiting", None) or 0,
            query=_Query(request.query_params),
            **context,
        )
        return HTMLResponse(body, status_code=status, headers=_HEADERS)


def _here(request: Request) -> str:
    """Return the path as it was sent: decoded, an id with a slash or a `?` would be another."""
    raw = request.scope.get("raw_path")
    return raw.decode("latin-1") if raw else quote(request.url.path)


def asked_part(request: Request) -> str:
    """Return which part of a page htmx asks for: `fragment`, `drawer`, or empty for all of it."""
    if request.headers.get("hx-request") != "true":
        return ""
    return request.headers.get("hx-target", "").partition("#")[2]
