"""Runbooks: what to do about each alert, as pages of the console, made from Markdown files."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote

from markdown_it import MarkdownIt
from markupsafe import Markup

from otel_agents.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markdown_it.token import Token
    from starlette.requests import Request
    from starlette.responses import Response

    from otel_agents.server.pages_render import Renderer

_PACKAGE: Final = Path(__file__).parent.parent
# In the wheel, and in a checkout.
FOLDERS: Final = (_PACKAGE / "_runbooks", _PACKAGE.parent / "docs" / "runbooks")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_TO_ANOTHER: Final = re.compile(r"(?:\./)?([A-Za-z0-9][A-Za-z0-9_-]*)\.md(#[A-Za-z0-9_-]*)?")
_WEB: Final = re.compile(r"https?://")
_INDEX: Final = frozenset({"README", "index"})


class Runbook(NamedTuple):
    """A runbook: its name, which is the alert's, its title, and its text as HTML."""

    name: str
    title: str
    html: Markup


class Runbooks:
    """The runbooks of a folder.

    Args:
        folder: Where they are; by default in the package, or else in the checkout's docs.

    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or next((one for one in FOLDERS if one.is_dir()), FOLDERS[0])

    def names(self) -> list[str]:
        """Return the names of all runbooks."""
        found = (path.stem for path in self._folder.glob("*.md") if path.is_file())
        return sorted(name for name in found if _NAME.fullmatch(name) and name not in _INDEX)

    def has(self, name: str) -> bool:
        """Say whether there is a runbook of this name."""
        return bool(_NAME.fullmatch(name)) and (self._folder / f"{name}.md").is_file()

    def read(self, name: str) -> Runbook:
        """Return a runbook; raises NotFoundError where there is none."""
        if not self.has(name):
            message = f"There is no runbook {name[:100]!r}."
            raise NotFoundError(message)
        title, html = rendered((self._folder / f"{name}.md").read_text("utf-8"))
        return Runbook(name, title or name, html)


def rendered(text: str) -> tuple[str, Markup]:
    """Return the title of a Markdown text, which is its first heading, and the rest as HTML.

    Markup in the text is shown as text, and only web addresses and other runbooks are links.
    """
    tokens = _parser().parse(text)
    title = ""
    if len(tokens) > 1 and tokens[0].type == "heading_open" and tokens[0].tag == "h1":
        title, tokens = _plain(tokens[1]), tokens[3:]
    html = _parser().renderer.render(tokens, _parser().options, {})
    return title, Markup(html)  # noqa: S704 - the parser escapes all that is not its own


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    parser.core.ruler.push("links", _links)
    return parser


def _links(state: Any) -> None:
    """Let links lead to other runbooks, to places on the page and to web addresses only."""
    for token in state.tokens:
        open_ends: list[bool] = []
        kept: list[Token] = []
        for inner in token.children or ():
            if inner.type == "link_open":
                leads = _lead(inner)
                open_ends.append(leads)
                if not leads:
                    continue
            elif inner.type == "link_close" and not open_ends.pop():
                continue
            elif inner.type == "image":  # nothing is loaded from elsewhere
                inner.type, inner.tag, inner.content = "text", "", inner.content
                inner.children = None
            kept.append(inner)
        if token.children is not None:
            token.children = kept


def _lead(link: Token) -> bool:
    """Put the address of a link right; say whether it is one that a page may lead to."""
    address = str(link.attrGet("href") or "")
    other = _TO_ANOTHER.fullmatch(address)
    if other is not None:
        link.attrSet("href", f"/runbooks/{quote(other[1])}{other[2] or ''}")
    elif _WEB.match(address):
        link.attrSet("rel", "noopener noreferrer nofollow")
        link.attrSet("target", "_blank")
    return bool(other or _WEB.match(address) or address.startswith("#"))


def _plain(heading: Token) -> str:
    inner: Sequence[Token] = heading.children or ()
    return "".join(one.content for one in inner)


class RunbookPages:
    """The pages `/runbooks` and `/runbooks/NAME`."""

    def __init__(self, runbooks: Runbooks, renderer: Renderer) -> None:
        self._runbooks = runbooks
        self._render = renderer

    def index(self, request: Request) -> Response:
        """List the runbooks."""
        found = [self._runbooks.read(name) for name in self._runbooks.names()]
        return self._render.page(request, "runbooks", {"nav": "alerts", "runbooks": found})

    def show(self, request: Request) -> Response:
        """Show a runbook."""
        runbook = self._runbooks.read(request.path_params["name"])
        return self._render.page(request, "runbook", {"nav": "alerts", "runbook": runbook})
