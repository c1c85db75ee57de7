"""Asks a running lag monitor over HTTP, for the commands: it has watched for longer."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any, Final
from urllib.parse import quote

from streams.settings import Settings

__all__ = ["ask", "url_of"]

_TIMEOUT_SECONDS: Final = 5.0


def url_of(settings: Settings) -> str:
    """Where the monitor of these settings serves; '': it does not."""
    web = settings.web
    return f"http://{web.metrics_host}:{web.metrics_port}" if web.metrics_port else ""


def ask(url: str, group: str = "") -> dict[str, Any]:
    """The monitor's document: of all groups without partitions, or of one with them.

    A monitor that is blind answers so. Raises OSError if there is none: it does not answer, or
    something else does.
    """
    base = url.rstrip("/") + "/v1/groups"
    found = _get(base)
    if not group or (found["blind"] and not found["groups"]):
        return found
    found["groups"] = [
        _get(f"{base}/{quote(group, safe='')}")
        for each in found["groups"]
        if each["consumer_group"] == group
    ]
    return found


def _get(url: str) -> dict[str, Any]:
    if not url.startswith(("http://", "https://")):
        raise OSError("its URL must begin with http:// or https://")
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310
            body = answer.read()
    except urllib.error.HTTPError as error:
        body = error.read()
        error.close()
    except urllib.error.URLError as error:
        raise OSError(str(error.reason)) from None
    try:
        found = json.loads(body)
    except ValueError:
        raise OSError("it is no lag monitor") from None
    if not isinstance(found, dict) or "blind" not in found:
        raise OSError("it is no lag monitor")
    return {"groups": [], "problems": [], **found}
