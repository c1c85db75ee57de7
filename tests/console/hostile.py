"""Texts that somebody may send in an event, and what a page must be like whatever they are."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Final

__all__ = ["TEXTS", "skeleton"]

TEXTS: Final = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "</title></textarea></style><svg/onload=alert(1)>",
    "`</code><script>alert(1)</script>`",
    "&lt;script&gt;&#39;",
    "\u202egnp.exe\u2066",
    "'; DROP TABLE scores; --",
    "\\'; SELECT 1; --",
    "%s%(user_id)s%%",
    '=HYPERLINK("http://evil")',
    "data: x\n\nevent: page\ndata: evil",
    "../../etc/passwd",
    "\x00\x07\x1b[31m",
)
"""Markup, quotes, templates, right-to-left marks, SQL, formats, formulas, ends of events, paths."""


class _Skeleton(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, ...]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, *(name for name, _ in attrs)))
        for name, value in attrs:
            assert not name.startswith("on"), f"<{tag} {name}>"
            assert name != "style", f"<{tag} style>"
            if name in ("href", "src", "action", "hx-get", "hx-post", "data-live"):
                assert (value or "").startswith(("/", "#")), f"<{tag} {name}={value!r}>"
                assert not (value or "").startswith("//"), f"<{tag} {name}={value!r}>"

    def handle_endtag(self, tag: str) -> None:
        self.found.append(("/", tag))

    def handle_decl(self, decl: str) -> None:
        self.found.append(("!", decl))

    def handle_comment(self, data: str) -> None:
        self.found.append(("comment",))


def skeleton(html: str) -> list[tuple[str, ...]]:
    """The tags of a page with their attributes' names: what may not depend on any text.

    Fails for an inline script or style, and for a link that leaves the console.
    """
    parser = _Skeleton()
    parser.feed(html)
    parser.close()
    return parser.found
