"""Expressions and users for property tests: well typed, with all that the language has."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from streams.rules import CATALOGUE, Kind

__all__ = ["NAMES", "conditions", "users"]

NAMES = {
    Kind.NUMBER: ("orders", "silence_over_gap", "lifetime_orders"),
    Kind.MONEY: ("expected_spend", "revenue_30d"),
    Kind.DURATION: ("days_since_order", "tenure_days", "time_to_next_order", "gap_mean_days"),
    Kind.SHARE: ("p_churn", "p_buy_7d"),
}
_LITERALS = {  # in rising order
    Kind.NUMBER: ("0", "1", "2.5", "10"),
    Kind.MONEY: ("0 EUR", "12.5 EUR", "50 EUR"),
    Kind.DURATION: ("0d", "12h", "1d12h", "3d", "2w"),
    Kind.SHARE: ("0%", "40%", "0.5", "100%"),
}
_CODES = ("high", "low", "none")


@st.composite
def numbers(draw: st.DrawFn, kind: Kind, depth: int, still: bool = False) -> str:
    """A number of a kind; `still`: without a name that moves with time."""
    names = [n for n in NAMES[kind] if not still or CATALOGUE[n].slope_per_day == 0]
    leaf = st.sampled_from(names) | st.sampled_from(_LITERALS[kind])
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        return draw(leaf)
    inner = numbers(kind, depth - 1, still)
    shape = draw(st.integers(0, 6))
    if shape == 0:
        return f"({draw(inner)} {draw(st.sampled_from('+-'))} {draw(inner)})"
    if shape == 1:
        return f"({draw(inner)} * {draw(numbers(Kind.NUMBER, depth - 1, still=True))})"
    if shape == 2:
        # what literals alone make could be a division by zero, which is refused
        return f"({draw(inner)} / {draw(st.sampled_from(('orders', '4', 'silence_over_gap')))})"
    if shape == 3:
        return f"{draw(st.sampled_from(('min', 'max')))}({draw(inner)}, {draw(inner)})"
    if shape == 4:
        return f"if({draw(conditions(depth - 1))}, {draw(inner)}, {draw(inner)})"
    if shape == 5 and kind is Kind.SHARE:
        return f"rank({draw(st.sampled_from(NAMES[Kind.MONEY]))})"
    return f"(-{draw(inner)})"


@st.composite
def conditions(draw: st.DrawFn, depth: int = 3) -> str:
    """A condition."""
    if depth > 0 and draw(st.booleans()):
        word = draw(st.sampled_from(("and", "or", "not")))
        inner = draw(conditions(depth - 1))
        if word == "not":
            return f"not ({inner})"
        return f"({inner}) {word} ({draw(conditions(depth - 1))})"
    kind = draw(st.sampled_from(tuple(NAMES)))
    left = draw(numbers(kind, depth))
    shape = draw(st.integers(0, 6))
    if shape <= 2:
        # the named side first: of two literals one may be out of a share's range
        return (
            f"{left} {draw(st.sampled_from(('<', '<=', '>', '>=')))} {draw(numbers(kind, depth))}"
        )
    if shape == 3:
        name = draw(st.sampled_from([n for n in NAMES[kind] if not CATALOGUE[n].slope_per_day]))
        return (
            f"{name} {draw(st.sampled_from(('==', '!=')))} {draw(st.sampled_from(_LITERALS[kind]))}"
        )
    if shape == 4:
        literals = sorted(draw(st.permutations(range(len(_LITERALS[kind]))))[:2])
        low, high = (_LITERALS[kind][at] for at in literals)
        word = draw(st.sampled_from(("between", "not between")))
        return f"{draw(st.sampled_from(NAMES[kind]))} {word} {low} and {high}"
    if shape == 5:
        listed = ", ".join(f'"{code}"' for code in draw(st.permutations(_CODES))[:2])
        return f"value_tier {draw(st.sampled_from(('', 'not ')))}in ({listed})"
    return draw(st.sampled_from((f"known({left})", "alert_open", "segment.vip")))


@st.composite
def users(draw: st.DrawFn) -> dict[str, Any]:
    """One user; whole eighths, so that most sums are exact. NaN and None are unknown."""
    some = st.integers(-16, 320).map(lambda eighths: eighths / 8) | st.just(float("nan"))
    share = st.integers(0, 10).map(lambda tenths: tenths / 10) | st.just(float("nan"))
    user: dict[str, Any] = {}
    for kind, names in NAMES.items():
        user |= {name: draw(share if kind is Kind.SHARE else some) for name in names}
    user |= {f"rank {name}": draw(share) for name in NAMES[Kind.MONEY]}
    return user | {
        "value_tier": draw(st.sampled_from((*_CODES, None))),
        "alert_open": draw(st.booleans()),
        "segment.vip": draw(st.booleans()),
    }
