"""What a new file changes, definition by definition and field by field."""

from __future__ import annotations

from pathlib import Path

import msgspec

from schemas.definitions import STANDARD
from streams.campaigns import Difference, differences, read_definitions

WHOLE = (Path(__file__).parent / "whole.yaml").read_text()


def changed(*edits: tuple[str, str]) -> list[Difference]:
    text = WHOLE
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    before = read_definitions(WHOLE.encode(), file="a", currency="EUR")
    after = read_definitions(text.encode(), file="b", currency="EUR", earlier=[before])
    return differences(before, after)


def test_the_same_content_has_no_differences() -> None:
    assert changed() == []
    stamped = msgspec.structs.replace(STANDARD, number=9, applied_by="me", applied_at_ms=3)
    assert differences(STANDARD, stamped) == []


def test_fields_that_change_are_told_with_before_and_after() -> None:
    assert changed(("p_churn < 30%", "p_churn < 20%"), ("hold: 10m", "hold: 1h"),
                   ("size: 200..5000", "size: 200..6000"), ("holdout: 10%", "holdout: 20%"),
                   ("0.5 * rank(rev", "0.6 * rank(rev"),
                   ("global_holdout: 1%", "global_holdout: 2%"),
                   ("cost: 5 EUR", "cost: 6 EUR"), ("high: orders > 0", "high: orders > 1")) == [
        Difference("segment", "save_now", "changed", {
            "leave": ("p_churn < 30%", "p_churn < 20%"), "hold_ms": (600_000, 3_600_000),
            "expect.size": ((200, 5000), (200, 6000))}),
        Difference("value", "worth", "changed", {"expression": (
            "0.5 * rank(revenue_90d) + 0.5 * rank(expected_spend)",
            "0.6 * rank(revenue_90d) + 0.5 * rank(expected_spend)")}),
        Difference("tier", "high", "changed", {"when": (
            "orders > 0 and rank(value.worth) > 95%", "orders > 1 and rank(value.worth) > 95%")}),
        Difference("audience", "save_now", "changed", {"holdout_share": (0.1, 0.2)}),
        Difference("policy", "1", "changed", {"cost": (5.0, 6.0)}),
        Difference("setting", "global_holdout_share", "changed", {"value": (0.01, 0.02)}),
    ]  # fmt: skip


def test_what_is_added_and_removed_is_told_whole() -> None:
    found = changed(("  best:", "  finest:"), ("segment: best", "segment: finest"),
                    ("  calls: {segment: alerts, priority: 20}\n", ""))  # fmt: skip
    assert [(d.kind, d.name, d.change) for d in found] == [
        ("segment", "finest", "added"), ("segment", "best", "removed"),
        ("audience", "thanks", "changed"), ("audience", "calls", "removed"),
    ]  # fmt: skip
    added, removed, _, _ = found
    assert added.fields["when"] == (None, "value.worth > 80% and not segment.save_now")
    assert removed.fields["when"] == ("value.worth > 80% and not segment.save_now", None)


def test_the_order_of_cases_is_a_difference() -> None:
    found = changed(("  visitor: orders == 0\n  lapsed: days_since_order >= 120d\n",
                     "  lapsed: days_since_order >= 120d\n  visitor: orders == 0\n"))  # fmt: skip
    assert [(d.kind, d.name, dict(d.fields)) for d in found] == [
        ("lifecycle", "lapsed", {"place": (2, 1)}), ("lifecycle", "visitor", {"place": (1, 2)}),
    ]  # fmt: skip
