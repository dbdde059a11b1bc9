"""Runbooks: Markdown of our own as pages, where nothing but Markdown means anything."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from otel_agents.errors import NotFoundError
from otel_agents.server import runbooks
from otel_agents.server.runbooks import FOLDERS, Runbooks, rendered

from .kit import INGEST, TOKENS, VIEWER

if TYPE_CHECKING:
    from .conftest import Serving

TEXT = """# A run is stuck

It has told of *nothing*, as `otel-agents status` says.

| What | Why |
| --- | --- |
| a lock | <b>bold</b> |

See [the next](./OtelAgentsNext.md#why), [the site](https://example.com/a), [here](#below).

```
otel-agents status
```
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder with two runbooks and what is none."""
    made = tmp_path / "books"
    made.mkdir()
    (made / "OtelAgentsRunStuck.md").write_text(TEXT)
    (made / "OtelAgentsNext.md").write_text("without a heading")
    (made / "README.md").write_text("# All of them")
    (made / "notes.txt").write_text("no runbook")
    (tmp_path / "secret.md").write_text("# Secret")
    monkeypatch.setattr(runbooks, "FOLDERS", (tmp_path / "nowhere", made))
    return made


def test_markdown_becomes_html(folder: Path) -> None:
    """Title, table, code; links to other runbooks, to the page itself and to the web."""
    book = Runbooks(folder).read("OtelAgentsRunStuck")
    assert book.title == "A run is stuck"
    assert "<h1>" not in book.html
    for part in ("<table>", "<code>otel-agents status</code>", "<pre><code>otel-agents status"):
        assert part in book.html
    assert 'href="/runbooks/OtelAgentsNext#why"' in book.html
    assert 'href="https://example.com/a" rel="noopener noreferrer nofollow"' in book.html
    assert 'href="#below"' in book.html
    assert "&lt;b&gt;bold&lt;/b&gt;" in book.html


class Elements(HTMLParser):
    """The elements of a text and all of their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.given: dict[str, str | None] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.found.add(tag)
        self.given.update(attrs)


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "[a](javascript:alert(1))",
        "[a](data:text/html,x)", "[a](//evil.example)", "[a](/login)", "[a](file:///etc/passwd)",
        "![a](http://evil.example/x.png)", '<"x" onclick="x>', "[a](../../x.md)", "[a](x.md?y)",
        "![](x.png)", "<style>*{}</style>", "[![a](http://e.example/i.png)](javascript:x)",
        "&lt;script&gt;", "<a href=javascript:x>a</a>", "<!-- x --><svg onload=x>",
    ],
)  # fmt: skip
def test_what_is_no_markdown_is_text(text: str) -> None:
    """No element, address or event handler but those of Markdown, and nothing that loads."""
    elements = Elements(rendered(text)[1])
    assert elements.found <= {"p"}
    assert elements.given == {}


def test_a_web_address_cannot_break_out() -> None:
    """Quotes in it are escaped."""
    elements = Elements(rendered('[a](<http://e.example/" onclick="x>)')[1])
    assert elements.found == {"p", "a"}
    assert elements.given.keys() == {"href", "rel", "target"}


def test_a_text_keeps_what_its_links_say() -> None:
    """Where a link leads nowhere its words stay, and so do those of an image."""
    _, html = rendered("See [the *place*](/x) and ![the plan](y.png).")
    assert "See the <em>place</em> and the plan." in html


def test_names_lead_nowhere_else(folder: Path) -> None:
    """Neither out of the folder nor to what is no runbook."""
    found = Runbooks(folder)
    assert found.names() == ["OtelAgentsNext", "OtelAgentsRunStuck"]
    for name in ("../secret", "..", "", ".", "notes", "a/b", "OtelAgentsRunStuck.md", "x\0", "é"):
        assert not found.has(name)
        with pytest.raises(NotFoundError):
            found.read(name)


def test_pages_show_them(folder: Path, serving: Serving) -> None:
    """The list and each of them, with the policy of every page; another name is 404."""
    assert folder.is_dir()
    server = serving(TOKENS)
    viewer = {"Authorization": f"Bearer {VIEWER}", "Accept": "text/html"}
    listed = server.client.get("/runbooks", headers=viewer)
    assert 'href="/runbooks/OtelAgentsRunStuck"' in listed.text
    assert "All of them" not in listed.text
    page = server.client.get("/runbooks/OtelAgentsRunStuck", headers=viewer)
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "<em>nothing</em>" in page.text
    for name in ("Nope", "..%2Fsecret", "README.md", "%2e%2e"):
        assert server.client.get(f"/runbooks/{name}", headers=viewer).status_code == 404
    ingest = {"Authorization": f"Bearer {INGEST}"}
    assert server.client.get("/runbooks", headers=ingest).status_code == 403
    assert server.client.get("/runbooks", follow_redirects=False).status_code == 401


def test_without_runbooks_the_page_says_so(
    tmp_path: Path, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installation that was made without them still has its other pages."""
    monkeypatch.setattr(runbooks, "FOLDERS", (tmp_path / "nowhere",))
    server = serving()
    assert "This installation has none." in server.client.get("/runbooks").text
    assert server.client.get("/alerts").status_code == 200


def test_each_runbook_of_ours_can_be_read() -> None:
    """In the checkout: each has a title that is not its name's file, and no link is dropped."""
    folder = FOLDERS[1]
    if not folder.is_dir():
        pytest.skip("docs/runbooks is not there")
    found = Runbooks(folder)
    for name in found.names():
        book = found.read(name)
        assert book.title
        assert len(book.html) > 100
