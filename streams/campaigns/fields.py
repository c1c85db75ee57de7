"""Fields of a file of definitions: what each must be, and what to write where it is not that."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from schemas.segments import LIFECYCLE, VALUE_TIERS
from streams.campaigns.nodes import List, Node, Record, Scalar
from streams.rules import CATALOGUE
from streams.rules.parse import RESERVED
from streams.rules.problems import Fault, quoted, similar
from streams.rules.tokens import duration_days

__all__ = ["MAX_OTHERS", "RESERVED_NAMES", "Fields"]

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
_SALT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_SHARE: Final = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?) ?(%?)")
_MONEY: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) ?([A-Z]{3})")
_RANGE: Final = re.compile(r"([0-9]{1,12})\.\.([0-9]{1,12})")
_DAY_MS: Final = 86_400_000
_MAX_TEXT: Final = 200
_MAX_DAYS: Final = 3_660
MAX_OTHERS: Final = 128
"""Values, audiences, rows of the policy: limits what a mistake may cost, and nobody's work."""
RESERVED_NAMES: Final = RESERVED | set(CATALOGUE) | set(VALUE_TIERS) | set(LIFECYCLE) | {
    "alerts", "all", "control", "default", "global", "holdout", "policy", "segment", "value",
}  # fmt: skip
"""They mean something already, in expressions, feeds or tables."""

_NAMES: Final = "use a to z, 0 to 9 and _, beginning with a letter, at most 40"
_BELOW: Final = "write `key: value` lines below it"


def _is_empty(node: Node) -> bool:
    """Whether there is nothing, as after `segments:` at the end of a file."""
    return isinstance(node, Scalar) and not node.value and not node.style


class Fields:
    """Reads fields of one text; `faults` has what was wrong. A wrong field yields None."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.faults: list[Fault] = []

    def fail(self, node: Node, what: str, fix: str) -> None:
        """Note a fault at a node: at its first line, if it has several."""
        line_end = self.text.find("\n", node.start)
        end = node.end if line_end < 0 else min(node.end, line_end)
        fault = Fault(node.start, max(end, node.start + 1), what, fix)
        if not any((f.start, f.what) == (fault.start, what) for f in self.faults[-20:]):
            self.faults.append(fault)  # a segment and the audience that it makes share keys

    def entries(self, node: Node, what: str) -> Iterator[tuple[Scalar, Node]]:
        """The entries of a mapping, each key once."""
        if not isinstance(node, Record):
            if not _is_empty(node):
                self.fail(node, f"{what} must be keys with values", _BELOW)
            return
        seen: dict[str, Scalar] = {}
        for key, value in node.entries:
            if key.value in seen:
                line = self.text.count("\n", 0, seen[key.value].start) + 1
                self.fail(key, f"{quoted(key.value)} is there twice, first in line {line}",
                          "keep one of them")  # fmt: skip
            else:
                seen[key.value] = key
                yield key, value

    def record(self, node: Node, what: str, keys: Collection[str]) -> dict[str, Node] | None:
        """The entries of a mapping that has certain keys only; None if it is none."""
        if not isinstance(node, Record) and not _is_empty(node):
            self.fail(node, f"{what} must be keys with values", _BELOW)
            return None
        found = {}
        for key, value in self.entries(node, what):
            if key.value in keys:
                found[key.value] = value
            else:
                near = similar(key.value, keys) or f"its keys are {', '.join(keys)}"
                self.fail(key, f"{what} has no key {quoted(key.value)}", near)
        return found

    def named(self, node: Node, what: str) -> Iterator[tuple[Scalar, Node]]:
        """The entries of a mapping whose keys are names that the shop chose."""
        for key, value in self.entries(node, what):
            if not _NAME.fullmatch(key.value):
                self.fail(key, f"{quoted(key.value)} is no name", _NAMES)
            elif key.value in RESERVED_NAMES:
                self.fail(key, f"the name `{key.value}` has a meaning already", "choose another")
            else:
                yield key, value

    def items(self, node: Node, what: str) -> list[Node]:
        """The items of a list."""
        if isinstance(node, List) or _is_empty(node):
            return node.items if isinstance(node, List) else []
        self.fail(node, f"{what} must be a list", "begin each item with `- `")
        return []

    def scalar(self, node: Node, what: str, example: str) -> Scalar | None:
        """A value that is one text, and not empty."""
        if isinstance(node, Scalar) and node.value.strip():
            return node
        self.fail(node, f"{what} must be one value" if not isinstance(node, Scalar)
                  else f"{what} is empty", f"write {example}")  # fmt: skip
        return None

    def text_of(self, node: Node, what: str, most: int = _MAX_TEXT) -> str | None:
        """Words for people, on one line."""
        found = self.scalar(node, what, "a text")
        if found is None:
            return None
        value = " ".join(found.value.split())
        if len(value) > most or not value.isprintable():
            self.fail(node, f"{what} is no text of up to {most} characters", "shorten it")
            return None
        return value

    def name_of(self, node: Node, what: str) -> str | None:
        """A name that the shop chose."""
        found = self.scalar(node, what, "a name")
        if found is None or _NAME.fullmatch(found.value):
            return found.value if found else None
        self.fail(node, f"{what} {quoted(found.value)} is no name",
                  _NAMES)  # fmt: skip
        return None

    def salt(self, node: Node) -> str | None:
        """What decides, with a user's id, who is held out."""
        found = self.scalar(node, "the salt", "letters and digits")
        if found is None or _SALT.fullmatch(found.value):
            return found.value if found else None
        self.fail(node, f"{quoted(found.value)} is no salt",
                  "use up to 64 letters, digits, `_`, `.` and `-`")  # fmt: skip
        return None

    def share(self, node: Node, what: str, most: float = 1.0) -> float | None:
        """A share such as `10%`, or as 0.1."""
        found = self.scalar(node, what, "a share such as `10%`")
        if found is None:
            return None
        match = _SHARE.fullmatch(found.value.strip())
        value = float(match[1]) / (100 if match[2] else 1) if match else -1.0
        if match and 0 <= value <= most:
            return value
        plain = match and not match[2]
        fix = f"write `{match[1]}%`, not `{match[1]}`" if plain and match else (
            f"write a share from `0%` to `{most:.0%}`")  # fmt: skip
        self.fail(node, f"{what} {quoted(found.value)} is no share from 0% to {most:.0%}", fix)
        return None

    def optional_text(self, record: Mapping[str, Node], key: str) -> str:
        """Words for people; empty if there are none."""
        return (self.text_of(record[key], f"`{key}`") or "") if key in record else ""

    def optional_ms(
        self, record: Mapping[str, Node], key: str, least_ms: int = 0, instead: int = 0
    ) -> int:
        """A duration in milliseconds; `instead` if there is none."""
        if key not in record:
            return instead
        found = self.duration_ms(record[key], f"`{key}`")
        if found is not None and found < least_ms:
            self.fail(record[key], f"`{key}` is no time at all", "write one such as `28d`")
        return instead if found is None else found

    def too_many(self, node: Node, most: int, what: str) -> None:
        """Note that there are more than `most`."""
        self.fail(node, f"there are more than {most} {what}", "delete what is not in use")

    def duration_ms(self, node: Node, what: str, most_days: int = _MAX_DAYS) -> int | None:
        """A duration such as `10m`, in milliseconds."""
        found = self.scalar(node, what, "a duration such as `10m` or `28d`")
        if found is None:
            return None
        try:
            days = duration_days(found.value.strip())
        except Fault as fault:
            number = found.value.strip().isdecimal()
            self.fail(node, f"{what}: {fault.what}", f"write it with its unit: `{found.value}d` for"
                      " days, `m` for minutes, `h`, `w`" if number else fault.fix)  # fmt: skip
            return None
        if days > most_days:
            self.fail(node, f"{what} is longer than {most_days}d", "shorten it")
            return None
        return round(days * _DAY_MS)

    def money(self, node: Node, what: str, currency: str) -> float | None:
        """An amount such as `5 EUR`, in the shop's currency."""
        found = self.scalar(node, what, f"an amount such as `5 {currency}`")
        if found is None:
            return None
        match = _MONEY.fullmatch(found.value.strip())
        if match and match[2] == currency:
            return float(match[1])
        amount = match[1] if match else found.value.strip()
        known = match or re.fullmatch(r"[0-9.]{1,15}", amount)
        self.fail(node, f"{what} {quoted(found.value)} is no amount in {currency}",
                  f"write `{amount if known else 5} {currency}`")  # fmt: skip
        return None

    def whole(self, node: Node, what: str, most: int) -> int | None:
        """A whole number from 0."""
        found = self.scalar(node, what, "a whole number")
        if found is None:
            return None
        value = found.value.strip()
        if re.fullmatch(r"[0-9]{1,9}", value) and int(value) <= most:
            return int(value)
        self.fail(node, f"{what} {quoted(value)} is no whole number from 0 to {most:,}",
                  "write one such as `10`")  # fmt: skip
        return None

    def span(self, node: Node, what: str) -> tuple[int, int] | None:
        """A range such as `200..5000`, both ends included."""
        found = self.scalar(node, what, "a range such as `200..5000`")
        if found is None:
            return None
        match = _RANGE.fullmatch(found.value.strip())
        if match and int(match[1]) <= int(match[2]):
            return int(match[1]), int(match[2])
        self.fail(node, f"{what} {quoted(found.value)} is no range",
                  "write the lower and the higher number with two dots: `200..5000`")  # fmt: skip
        return None

    def needed(self, at: Node, record: Mapping[str, Node], what: str, key: str) -> Node | None:
        """The value of a key that must be there; None, and a fault at `at`, if it is not."""
        if key not in record:
            self.fail(at, f"{what} has no `{key}`", f"add `{key}:` to it")
        return record.get(key)
