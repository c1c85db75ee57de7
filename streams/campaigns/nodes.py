"""YAML as nodes that know their place in the text; nothing in it can name code or repeat itself.

PyYAML's parser is read event by event. Tags, anchors and aliases are refused, so that no text
grows when it is read (an alias bomb) or makes an object. Every scalar is a text; who reads it says
what it must be.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import yaml

from streams.rules.problems import Fault

__all__ = ["MAX_BYTES", "MAX_DEPTH", "List", "Node", "Record", "Scalar", "decoded", "nodes"]

MAX_BYTES: Final = 256 * 1024
MAX_DEPTH: Final = 8
"""Levels of lists and mappings; the format has four."""


@dataclass
class Scalar:
    """A text at `source[start:end]`, which has quotes, indentation and more that it has not."""

    start: int
    end: int
    value: str
    style: str = ""
    """`'`, `"`, `|` or `>`; empty: plain."""


@dataclass
class List:
    """A sequence."""

    start: int
    end: int
    items: list[Node] = field(default_factory=list)


@dataclass
class Record:
    """A mapping; keys may repeat."""

    start: int
    end: int
    entries: list[tuple[Scalar, Node]] = field(default_factory=list)


Node: TypeAlias = Scalar | List | Record

_HINTS: Final = (
    ("'\\t'", "indent with spaces, not with tabs"),
    ("mapping values are not allowed", "put a text that has `: ` in it into quotes"),
    ("expected ',' or", "close it; in brackets and braces, put a text with commas into quotes"),
    ("'<scalar>'", "write a text of several lines, or one that begins with a quote, below `|`"),
    ("expected <block end>", "indent all keys of one level alike"),
    ("could not find expected ':'", "write `key: value`, with a space after the colon"),
    ("while scanning a quoted scalar", "close the quote"),
    ("'%'", "put a text that begins with % into quotes"),
    ("'@'", "put a text that begins with @ into quotes"),
    ("'`'", "put a text that begins with ` into quotes"),
    ("expected the node content", "write a value there"),
    ("alphabetic or numeric character", "write the value out; anchors and aliases are not allowed"),
)


def decoded(content: bytes) -> str:
    """A file's text. Raises Fault."""
    if len(content) > MAX_BYTES:
        raise Fault(0, 0, f"the file has {len(content):,} bytes, and {MAX_BYTES:,} are allowed",
                    "delete what is not in use")  # fmt: skip
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = len(content[: error.start].decode("utf-8-sig", "replace"))
        raise Fault(at, at + 1, "this is not UTF-8", "save the file as UTF-8") from error


def nodes(text: str) -> Node:
    """The nodes of the one document in a text. Raises Fault at the first thing that is wrong."""
    try:
        return _composed(text)
    except yaml.reader.ReaderError as error:
        at = error.position
        what = f"the character U+{ord(text[at]):04X} can't be in YAML"
        raise Fault(at, at + 1, what, "delete it") from error
    except yaml.MarkedYAMLError as error:
        raise _syntax(text, error) from error
    except (ValueError, OverflowError) as error:  # PyYAML lets these of `chr` through
        at = max(text.find("\\U"), 0)
        what = "an escape names a character that does not exist"
        raise Fault(at, at + 10, what, "write the character itself") from error


def _syntax(text: str, error: yaml.MarkedYAMLError) -> Fault:
    mark = error.problem_mark or error.context_mark
    if error.context_mark and "quoted scalar" in (error.context or ""):
        mark = error.context_mark  # where the quote begins; the end of the file tells nothing
    at = min(mark.index if mark else 0, len(text))
    words = f"{error.context or ''} {error.problem or ''}"
    fix = next((fix for sign, fix in _HINTS if sign in words), "check indentation and quotes here")
    return Fault(at, at + 1, f"this is no YAML: {error.problem}", fix)


def _composed(text: str) -> Node:
    """Events become nodes with a stack of its own, so that depth costs no recursion."""
    open_nodes: list[List | Record] = []
    keys: list[Scalar | None] = []
    root: Node | None = None
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.DocumentStartEvent) and root is not None:
            raise _fault(event, "a second document begins here", "keep one, and delete the rest")
        if isinstance(event, yaml.CollectionEndEvent):
            open_nodes.pop().end = event.end_mark.index
            keys.pop()
        elif isinstance(event, yaml.NodeEvent):
            node = _node(event)
            if open_nodes:
                _put(open_nodes[-1], keys, node)
            else:
                root = node
            if not isinstance(node, Scalar):
                if len(open_nodes) == MAX_DEPTH:
                    raise _fault(event, f"nested more than {MAX_DEPTH} levels deep", "flatten it")
                open_nodes.append(node)
                keys.append(None)
    if root is None:
        raise Fault(0, 0, "the file is empty", "begin it with `version: 1`")
    return root


def _fault(event: Any, what: str, fix: str) -> Fault:
    return Fault(event.start_mark.index, max(event.end_mark.index, event.start_mark.index + 1),
                 what, fix)  # fmt: skip


def _node(event: Any) -> Node:
    if isinstance(event, yaml.AliasEvent):
        raise _fault(event, "aliases are not allowed", "write the value out")
    if event.anchor is not None:
        raise _fault(event, "anchors are not allowed", f"delete `&{event.anchor}`")
    if event.tag is not None:
        raise _fault(event, "tags are not allowed", "delete what begins with `!`")
    start, end = event.start_mark.index, event.end_mark.index
    if isinstance(event, yaml.ScalarEvent):
        return Scalar(start, end, event.value, event.style or "")
    return List(start, end) if isinstance(event, yaml.SequenceStartEvent) else Record(start, end)


def _put(parent: List | Record, keys: list[Scalar | None], node: Node) -> None:
    if isinstance(parent, List):
        parent.items.append(node)
        return
    key = keys[-1]
    if key is not None:
        parent.entries.append((key, node))
        keys[-1] = None
    elif isinstance(node, Scalar):
        keys[-1] = node
    else:
        raise Fault(node.start, node.start + 1, "a key must be a name", "write `name: value`")
