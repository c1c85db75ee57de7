"""`segments.yaml` becomes `Definitions`, or one error with everything that is wrong with it.

A salt that the file doesn't give is chosen here: an audience keeps the one that it has, and a new
audience gets one that no audience ever had, so that a holdout never repeats another's choice.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Final

import msgspec

from schemas.definitions import (
    MAX_RANKS,
    MAX_SEGMENTS,
    STANDARD,
    AlertRules,
    Case,
    Definitions,
    Expected,
    PolicyRow,
    SegmentDefinition,
)
from schemas.segments import LIFECYCLE, VALUE_TIERS
from streams.campaigns.alert_rules import read_alerts, read_caps
from streams.campaigns.audiences import AUDIENCE_KEYS, Audiences
from streams.campaigns.fields import MAX_OTHERS, Fields
from streams.campaigns.nodes import Node, Scalar, decoded, nodes
from streams.campaigns.places import DocumentError, offset_in_file
from streams.campaigns.salts import Salts
from streams.rules import RulesError, compile_rules, rules_of
from streams.rules.problems import Fault, quoted

__all__ = ["content_version", "read_definitions", "standard_file"]

_TOP: Final = (
    "version", "segments", "values", "tiers", "lifecycle", "lapsed_after", "audiences", "policy",
    "global_holdout", "global_salt", "alerts", "caps", "suppress", "rfm",
)  # fmt: skip
_SEGMENT: Final = ("title", "owner", "when", "leave", "hold", "expect", *AUDIENCE_KEYS)
_TIERS: Final = tuple(name for name in VALUE_TIERS if name != "none")
_OF_A_LOW: Final = "orders > 0 and known(expected_spend)"
_ALWAYS: Final = "true"


def content_version(definitions: Definitions) -> str:
    """The first 16 hex digits of SHA-256 over what is defined, whoever applied it and when."""
    alerts = msgspec.structs.replace(definitions.alerts, utc_offsets=())  # follow from the zone
    content = msgspec.structs.replace(
        definitions, number=0, version="", applied_at_ms=0, applied_by="", note="", alerts=alerts
    )
    return hashlib.sha256(msgspec.json.encode(content)).hexdigest()[:16]


def standard_file() -> bytes:
    """What ships, as a file: what a shop's own begins with."""
    return files("streams.campaigns").joinpath("standard.yaml").read_bytes()


def read_definitions(
    content: bytes,
    *,
    file: str,
    currency: str,
    earlier: Sequence[Definitions] = (),
    now_ms: int = 0,
) -> Definitions:
    """The definitions in a file's content, numbered after the last of `earlier`.

    `file` is its name in errors, `currency` the shop's, `earlier` all that was ever applied, in its
    order. From `now_ms` on the clock changes of a time zone are looked up. Raises DocumentError
    with every problem.
    """
    try:
        text = decoded(content)
    except Fault as fault:
        shown = content.decode("utf-8-sig", "replace") if fault.end else ""
        raise DocumentError(file, shown, [fault]) from fault
    reading = _Reading(text, currency, earlier, now_ms)
    try:
        found = reading.definitions(nodes(text))
    except Fault as fault:
        raise DocumentError(file, text, [fault]) from fault
    if reading.fields.faults:
        raise DocumentError(file, text, reading.fields.faults)
    return msgspec.structs.replace(found, version=content_version(found))


class _Reading:
    """One pass over a file's nodes."""

    def __init__(
        self, text: str, currency: str, earlier: Sequence[Definitions], now_ms: int
    ) -> None:
        self.text, self.currency, self.now_ms = text, currency, now_ms
        self.number = earlier[-1].number + 1 if earlier else 1
        self.salts = Salts(earlier)
        self.fields = Fields(text)
        self.expressions: dict[str, Scalar] = {}
        """By the names of `streams.rules.definitions`."""
        self.values: dict[str, Scalar] = {}
        self.audiences = Audiences(self.fields, self.salts)

    def definitions(self, root: Node) -> Definitions:
        """Everything; faults are in `fields`."""
        fields = self.fields
        top = fields.record(root, "the file", _TOP) or {}
        version = fields.needed(root, top, "the file", "version")
        if version is not None:
            self._version(version)
        segments = self._segments(top["segments"]) if "segments" in top else []
        names = [segment.name for segment in segments]
        values = self._values(top["values"]) if "values" in top else {}
        tiers = self._cases(top.get("tiers"), "value_tier", _TIERS)
        lifecycle = self._cases(top.get("lifecycle"), "lifecycle", LIFECYCLE)
        if "audiences" in top:
            self.audiences.read(top["audiences"])
        policy = self._policy(top["policy"]) if "policy" in top else list(STANDARD.policy)
        suppress = ""
        if "suppress" in top:
            suppress = self._expression(top["suppress"], "`suppress`", "alerts.suppress")
        share = self.audiences.share_of_all(top)
        found = Definitions(
            number=self.number,
            version="",
            segments=tuple(segments),
            values=tuple(values.items()),
            value_tier=tiers,
            lifecycle=lifecycle,
            lapsed_after_ms=fields.optional_ms(
                top, "lapsed_after", least_ms=1, instead=STANDARD.lapsed_after_ms
            ),
            audiences=self.audiences.salted(names),
            policy=tuple(policy),
            alerts=(
                read_alerts(fields, top["alerts"], self.now_ms) if "alerts" in top else AlertRules()
            ),
            caps=read_caps(fields, top["caps"]) if "caps" in top else None,
            suppress=suppress,
            rfm="rfm" in top and self._is_on(top["rfm"]),
            global_holdout_share=share,
            global_salt=self.salts.of_all(share > 0, self.audiences.salt(top, "global_salt")),
        )
        for node, what, fix in self.salts.problems:
            fields.fail(node, what, fix)
        self._compile(names)
        if not fields.faults:
            self._count_ranks(found)
        return found

    def _is_on(self, node: Node) -> bool:
        found = self.fields.scalar(node, "`rfm`", "`on` or `off`")
        if found is not None and found.value not in ("on", "off"):
            self.fields.fail(node, f"`rfm` is {quoted(found.value)}", "write `on` or `off`")
        return found is not None and found.value == "on"

    def _version(self, node: Node) -> None:
        found = self.fields.scalar(node, "the version", "`version: 1`")
        if found is not None and found.value != "1":
            self.fields.fail(node, f"version {quoted(found.value)} of the format is not known",
                             "write `version: 1`")  # fmt: skip

    def _expression(self, node: Node, what: str, rule: str) -> str:
        found = self.fields.scalar(node, what, "a condition such as `p_churn > 40%`")
        if found is None:
            return ""
        self.expressions[rule] = found
        return _one_line(found.value)

    # -- segments, values, dimensions

    def _segments(self, node: Node) -> list[SegmentDefinition]:
        found = []
        for key, entry in self.fields.named(node, "`segments`"):
            what = f"the segment `{key.value}`"
            record = self.fields.record(entry, what, _SEGMENT)
            found.append(self._segment(key, record, what))
            if len(found) > MAX_SEGMENTS:
                self.fields.too_many(key, MAX_SEGMENTS, "segments")
                break
            if record and any(name in record for name in AUDIENCE_KEYS):
                self.audiences.add(key, record, key.value)
        return found

    def _segment(self, key: Scalar, record: dict[str, Node] | None, what: str) -> SegmentDefinition:
        name = key.value
        if record is None:
            return SegmentDefinition(name, "")
        when = self.fields.needed(key, record, what, "when")
        expect: dict[str, tuple[int, int] | None] = {}
        if "expect" in record:
            spans = self.fields.record(record["expect"], "`expect`", ("size", "per_day")) or {}
            expect = {k: self.fields.span(v, f"`{k}`") for k, v in spans.items()}
        return SegmentDefinition(
            name=name,
            when=self._expression(when, "`when`", name) if when is not None else "",
            leave=self._expression(record["leave"], "`leave`", f"{name}.leave")
            if "leave" in record
            else "",
            hold_ms=self.fields.optional_ms(record, "hold"),
            title=self.fields.optional_text(record, "title"),
            owner=self.fields.optional_text(record, "owner"),
            expect=Expected(**expect),
        )

    def _values(self, node: Node) -> dict[str, str]:
        found: dict[str, str] = {}
        for key, value in self.fields.named(node, "`values`"):
            scalar = self.fields.scalar(value, f"the value `{key.value}`", "a number")
            if len(found) == MAX_OTHERS:
                self.fields.too_many(key, MAX_OTHERS, "values")
                break
            if scalar is not None:
                self.values[key.value] = scalar
                found[key.value] = _one_line(scalar.value)
        return found

    def _cases(self, node: Node | None, dimension: str, names: Sequence[str]) -> tuple[Case, ...]:
        """The cases of a dimension; standard ones where the file has none."""
        if node is None:
            return tuple(getattr(STANDARD, dimension))
        key = "tiers" if dimension == "value_tier" else dimension
        found = self.fields.record(node, f"`{key}`", names) or {}
        cases = [
            Case(name, self._expression(when, f"`{name}`", f"{dimension}.{at}"))
            for at, (name, when) in enumerate(found.items())
        ]
        if dimension == "lifecycle" and (not cases or cases[-1] != Case("active", _ALWAYS)):
            cases.append(Case("active", _ALWAYS))  # who fits no case
        if dimension == "value_tier" and "low" not in found:
            cases.append(Case("low", _OF_A_LOW))
        return tuple(cases)

    # -- policy

    def _policy(self, node: Node) -> list[PolicyRow]:
        found = []
        for at, item in enumerate(self.fields.items(node, "`policy`")):
            what = f"row {at + 1} of the policy"
            record = self.fields.record(item, what, ("when", "action", "cost", "uplift"))
            if record is None:
                continue
            when = self.fields.needed(item, record, what, "when")
            action = self.fields.needed(item, record, what, "action")
            if when is None or action is None:
                continue
            if at == MAX_OTHERS:
                self.fields.too_many(item, MAX_OTHERS, "rows in the policy")
                break
            cost, uplift = None, None
            if "cost" in record:
                cost = self.fields.money(record["cost"], "`cost`", self.currency)
            if "uplift" in record:
                uplift = self.fields.share(record["uplift"], "`uplift`")
            found.append(PolicyRow(
                when=self._expression(when, "`when`", f"policy.{at}"),
                action=self.fields.text_of(action, "`action`", 64) or "",
                cost=cost or 0.0,
                uplift=uplift,
            ))  # fmt: skip
        return found

    # -- expressions

    def _compile(self, segments: Sequence[str]) -> None:
        texts = {rule: scalar.value for rule, scalar in self.expressions.items()}
        values = {name: scalar.value for name, scalar in self.values.items()}
        try:
            compile_rules(texts, values, segments, self.currency)
        except RulesError as error:
            for problem in error.problems:
                stem, _, name = problem.rule.partition(".")
                scalar = self.values[name] if stem == "value" else self.expressions[problem.rule]
                start = offset_in_file(self.text, scalar, problem.start)
                end = offset_in_file(self.text, scalar, problem.end)
                self.fields.faults.append(
                    Fault(start, max(end, start + 1), problem.what, problem.fix)
                )

    def _count_ranks(self, found: Definitions) -> None:
        ranks = rules_of(found, self.currency).ranks
        if len(ranks) > MAX_RANKS:
            last = [match.start() for match in re.finditer(r"\brank\(", self.text)][-1]
            what = f"`rank(...)` has {len(ranks)} different names, and {MAX_RANKS} are allowed"
            self.fields.faults.append(Fault(last, last + 4, what, "rank by fewer"))


def _one_line(expression: str) -> str:
    """An expression without comments and line breaks, so that layout is no change of it."""
    return " ".join(re.sub(r"#[^\n]*", " ", expression).split())
