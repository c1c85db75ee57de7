"""Templates: the environment, what they may call, and the page as HTML."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.filters import FILTERS
from markupsafe import Markup, escape

from streams.console import words
from streams.console.page import Chart, Note, Picture, Table, page_path
from streams.console.pages import ROUTES

__all__ = ["Renderer", "Static", "load_static", "profile_path"]

_HERE: Final = files("streams.console")
_TYPES: Final = {
    "css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}  # fmt: skip


@dataclass(frozen=True)
class Static:
    """One file that is served."""

    content_type: str
    body: bytes
    version: str


def load_static() -> dict[str, Static]:
    """Name -> file; all are in memory, so a name is found here or nowhere."""
    found: dict[str, Static] = {}
    for folder, prefix in ((_HERE / "static", ""), (_HERE / "static" / "vendor", "vendor/")):
        for file in folder.iterdir():
            kind = _TYPES.get(file.name.rpartition(".")[2])
            if kind and file.is_file():
                body = file.read_bytes()
                version = hashlib.sha256(body).hexdigest()[:12]
                found[prefix + file.name] = Static(kind, body, version)
    return found


def profile_path(user_id: str) -> str:
    """The path of a customer's page."""
    return page_path("customers", user_id)


def local_path(path: str) -> str:
    """A path of ours as it is; anything else, such as javascript:, becomes nothing."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) else ""


def marked(text: str) -> Markup:
    """A sentence whose `commands` between backticks are shown as such; all else is escaped.

    >>> str(marked("<b> `tideline doctor`"))
    '&lt;b&gt; <code>tideline doctor</code>'
    """
    parts = [str(escape(part)) for part in str(text).split("`")]
    if len(parts) % 2 == 0:  # a sign that stands alone
        parts[-2:] = ["`".join(parts[-2:])]
    shown = "".join(f"<code>{part}</code>" if at % 2 else part for at, part in enumerate(parts))
    return Markup(shown)  # noqa: S704  (each part is escaped above)


class Renderer:
    """Makes HTML of pages."""

    def __init__(self, static: Mapping[str, Static], currency: str) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(str(_HERE / "templates")),
            autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        self._environment.filters.update(
            marked=marked, first_of=lambda text, sign: text.split(sign)[0]
        )
        # Its result would not be escaped: no page may say that a text is safe.
        for name in ("safe", "xmlattr"):
            self._environment.filters.pop(name, FILTERS.get(name))
        self._environment.globals.update(
            routes=ROUTES, currency=currency, words=words,
            profile_path=profile_path, local_path=local_path,
            static=lambda name: f"/static/{name}?v={static[name].version}",
            part_kind=lambda part: _PARTS[type(part)],
        )  # fmt: skip

    def html(self, template: str, zone: tzinfo, now_ms: int, **values: Any) -> str:
        """The template with `values`; `zone` is how times are shown."""
        at = datetime.fromtimestamp(now_ms / 1000, zone)
        return self._environment.get_template(template).render(
            zone=zone, zone_name=at.tzname() or str(zone), now_ms=now_ms, **values
        )


_PARTS: Final[Mapping[type[Any], str]] = {
    Table: "table", Chart: "chart", Note: "note", Picture: "picture",
}  # fmt: skip
