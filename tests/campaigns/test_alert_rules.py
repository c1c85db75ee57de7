"""What the file says of alerts, caps and suppression."""

from __future__ import annotations

import pytest

from schemas.definitions import AlertRules, ContactCap, alert_problems
from streams.campaigns import DocumentError, differences, read_definitions
from streams.core.rulebook import rulebook_of

NOW_MS = 1_796_000_000_000  # November 2026, by winter time
WHOLE = """
version: 1
segments:
  complained: {when: support_30d > 2}
alerts:
  enter: 60%
  leave: 45%
  cooldown: 21d
  per_day: 50
  zone: Europe/Berlin
  quiet: {from: "21:00", to: "08:30"}
caps: {contacts: 3, per: 7d}
suppress: segment.complained
"""


def read(text: str, now_ms: int = NOW_MS) -> object:
    return read_definitions(text.encode(), file="s.yaml", currency="EUR", now_ms=now_ms)


def test_a_whole_section_is_read() -> None:
    found = read_definitions(WHOLE.encode(), file="s.yaml", currency="EUR", now_ms=NOW_MS)
    rules = found.alerts
    assert (rules.enter, rules.leave, rules.cooldown_ms) == (0.6, 0.45, 21 * 86_400_000)
    assert (rules.per_day, rules.zone, rules.quiet) == (50, "Europe/Berlin", (1_260, 510))
    assert rules.utc_offsets[0] == (0, 60)
    assert [minutes for _, minutes in rules.utc_offsets[1:3]] == [120, 60]
    assert found.caps == ContactCap(3, 7 * 86_400_000)
    assert found.suppress == "segment.complained"
    assert alert_problems(found) == []
    assert rulebook_of(found, "EUR").rules.rules["alerts.suppress"] >= 0


def test_nothing_said_is_as_the_settings_say() -> None:
    found = read_definitions(b"version: 1", file="s.yaml", currency="EUR", now_ms=NOW_MS)
    assert (found.alerts, found.caps, found.suppress) == (AlertRules(), None, "")


def test_the_same_file_next_year_is_the_same_though_the_clocks_change_at_other_times() -> None:
    one, other = (
        read_definitions(WHOLE.encode(), file="s.yaml", currency="EUR", now_ms=ms)
        for ms in (NOW_MS, NOW_MS + 365 * 86_400_000)
    )
    assert one.alerts.utc_offsets != other.alerts.utc_offsets
    assert one.version == other.version
    assert differences(one, other) == []


def test_what_changes_is_a_difference() -> None:
    one = read_definitions(WHOLE.encode(), file="s.yaml", currency="EUR", now_ms=NOW_MS)
    text = WHOLE.replace("per_day: 50", "per_day: 5").replace("caps: {contacts: 3, per: 7d}\n", "")
    other = read_definitions(text.encode(), file="s.yaml", currency="EUR", now_ms=NOW_MS)
    found = {(d.kind, d.name, d.change) for d in differences(one, other)}
    assert found == {("alerts", "rules", "changed"), ("alerts", "caps", "removed")}


@pytest.mark.parametrize(
    ("good", "bad", "said"),
    [
        ("enter: 60%", "enter: 60", "write `60%`, not `60`"),
        ("enter: 60%", "enter: 0%", "write a probability between 0% and 100%"),
        ("leave: 45%", "leave: 70%", "`leave` is above `enter`"),
        ("cooldown: 21d", "cooldown: 21", "`21d` for days"),
        ("per_day: 50", "per_day: some", "no whole number"),
        ("zone: Europe/Berlin", "zone: Berlin", "no time zone `Berlin` is known"),
        ('from: "21:00"', 'from: "9pm"', 'write it as "21:00"'),
        ('to: "08:30"', 'to: "21:00"', "quiet hours end when they begin"),
        (', to: "08:30"', "", "has no `to`"),
        ("contacts: 3", "contacts: 300", "no whole number from 0 to 10"),
        ("contacts: 3", "contacts: 0", "nobody could ever be contacted"),
        ("per: 7d", "per: 365d", "longer than 90d"),
        ("segment.complained\n", "segment.complaint\n", "`segment.complained`"),
        ("per_day:", "perday:", "did you mean `per_day`"),
    ],
)
def test_a_slip_is_told_with_what_to_write(good: str, bad: str, said: str) -> None:
    assert WHOLE.count(good) == 1
    with pytest.raises(DocumentError) as told:
        read(WHOLE.replace(good, bad))
    assert said in str(told.value)
