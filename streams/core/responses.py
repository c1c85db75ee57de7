"""What follows from being in an audience, for every arm: sums, so that an effect can be computed.

Who enters an audience is exposed, held out or not, and counted once per horizon of the campaign:
spend before (the last 90 days), and once the horizon has passed the orders and the spend since.
Sums are whole numbers, so those of all partitions can be added in any order, and effects, also with
the spend before as a covariate (CUPED: Deng et al., WSDM 2013), follow from sums alone.

The horizon is looked at by the user's timer, so to the second; orders count that the shard has
seen by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.features import FEATURE_NAMES
from schemas.lives import life_of
from streams.core.audiences import Assignment
from streams.core.features import DAY_MS
from streams.core.hashing import hashes, mix
from streams.core.state.exposures import NEVER
from streams.core.state.shard_state import ShardState
from streams.core.state.slots import ARMS, ArmSums, Campaign
from streams.core.texts import TableRows

__all__ = ["SPEND_BEFORE", "answer_exposures", "expose", "sum_rows"]

SPEND_BEFORE: Final = "revenue_90d"
_SPEND_BEFORE_AT: Final = FEATURE_NAMES.index(SPEND_BEFORE)


def campaign_of(state: ShardState, audience: str, salt: str, horizon_ms: int) -> Campaign:
    """The campaign with this salt, which begins now if there is none."""
    campaigns = state.meta.campaigns
    for campaign in campaigns:
        if campaign.salt == salt:
            return campaign
    campaigns.append(Campaign(audience, salt, horizon_ms))
    return campaigns[-1]


def expose(
    state: ShardState,
    rows: NDArray[np.int64],
    x: NDArray[np.float32],
    assignments: Sequence[Assignment],
    now_ms: int,
    due_ms: NDArray[np.int64],
) -> set[str]:
    """Begin to count those of the users in `rows` (int64 [k], features x float32 [k, F]) who
    entered an audience and are not being counted for it. Lowers their `due_ms` (int64 [k]).

    Returns the salts of the campaigns whose sums have changed.
    """
    c = state.columns
    changed = set()
    for each in assignments:
        at = np.flatnonzero(each.entered)
        if not len(at):
            continue
        audience = each.slot.audience
        campaign = campaign_of(state, audience.name, audience.salt, audience.horizon_ms)
        hashed = hashes([audience.salt])
        keys = _keys(state, rows[at], hashed)
        found = state.exposures.find(keys)
        open_ = np.zeros(len(at), np.bool_)
        open_[found >= 0] = state.exposures.values[found[found >= 0]] != NEVER
        new, keys = at[~open_], keys[~open_]
        if not len(new):
            continue
        changed.add(audience.salt)
        who, end_ms = rows[new], now_ms + campaign.horizon_ms
        state.exposures.put(keys, np.full(len(new), end_ms // DAY_MS, np.int32))
        positions = state.exposures.find(keys)
        state.exposures.before_change(positions)
        records = state.exposures.records
        records["owner"][positions] = c.user_hash[who]
        records["campaign"][positions] = hashed[0]
        records["due_ms"][positions] = end_ms
        before = np.nan_to_num(x[new, _SPEND_BEFORE_AT].astype(np.float64))
        records["x_cents"][positions] = np.rint(before * 100).astype(np.int64)
        records["cents"][positions] = c.revenue_cents[who]
        records["orders"][positions] = c.orders[who]
        records["arm"][positions] = each.arms[new]
        c.exposures[who] += 1
        due_ms[new] = np.minimum(due_ms[new], end_ms)
        for arm, people in enumerate(np.bincount(each.arms[new], minlength=len(ARMS)).tolist()):
            campaign.arms[arm].exposed += people
    return changed


def answer_exposures(
    state: ShardState, rows: NDArray[np.int64], now_ms: int, due_ms: NDArray[np.int64]
) -> set[str]:
    """Add what followed for those of the users in `rows` (int64 [k]) whose horizon has passed, and
    lower `due_ms` (int64 [k]) to when the others' will have.

    Returns the salts of the campaigns whose sums have changed.
    """
    c = state.columns
    at = np.flatnonzero(c.exposures[rows] > 0)
    changed: set[str] = set()
    if not len(at):
        return changed
    for campaign in state.meta.campaigns:
        if all(sums.answered == sums.exposed for sums in campaign.arms):
            continue
        found = state.exposures.find(_keys(state, rows[at], hashes([campaign.salt])))
        here = np.flatnonzero(found >= 0)
        here = here[state.exposures.values[found[here]] != NEVER]
        positions, who = found[here], at[here]
        ends_ms = state.exposures.records["due_ms"][positions]
        due_ms[who] = np.minimum(due_ms[who], np.where(ends_ms > now_ms, ends_ms, due_ms[who]))
        over = ends_ms <= now_ms
        if over.any():
            changed.add(campaign.salt)
            _add(state, campaign, positions[over], rows[who[over]])
    return changed


def _add(
    state: ShardState,
    campaign: Campaign,
    positions: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> None:
    c, records = state.columns, state.exposures.records[positions]
    orders = np.maximum(c.orders[rows] - records["orders"], 0)
    y = c.revenue_cents[rows] - records["cents"]
    for arm, sums in enumerate(campaign.arms):
        of_arm = records["arm"] == arm
        if of_arm.any():
            _add_up(sums, orders[of_arm], records["x_cents"][of_arm], y[of_arm])
    state.exposures.before_change(positions)
    state.exposures.words[positions] = 0
    state.exposures.values[positions] = NEVER
    c.exposures[rows] -= 1


def _add_up(
    sums: ArmSums, orders: NDArray[np.int32], x: NDArray[np.int64], y: NDArray[np.int64]
) -> None:
    sums.answered += len(orders)
    sums.buyers += int(np.count_nonzero(orders))
    sums.orders += int(orders.sum())
    sums.y_cents += int(y.sum())
    sums.x_cents += int(x.sum())
    # As Python's integers: squares of cents may not fit into 64 bits.
    pairs = list(zip(x.tolist(), y.tolist(), strict=True))
    sums.y_squared = str(int(sums.y_squared) + sum(b * b for _, b in pairs))
    sums.x_squared = str(int(sums.x_squared) + sum(a * a for a, _ in pairs))
    sums.x_times_y = str(int(sums.x_times_y) + sum(a * b for a, b in pairs))


def _keys(
    state: ShardState, rows: NDArray[np.int64], campaign: NDArray[np.uint64]
) -> NDArray[np.uint64]:
    """Keys of the users' exposures to a campaign (hash of its salt, uint64 [1])."""
    return mix(state.columns.user_hash[rows], np.repeat(campaign, len(rows)))


def sum_rows(state: ShardState, salts: set[str], now_ms: int) -> TableRows | None:
    """`campaign_sums` rows of the campaigns with these salts, a row per arm; None: there are none.

    They are totals since the campaign began, so the newest row of a shard and an arm counts."""
    meta = state.meta
    chosen = [
        (campaign, arm, sums)
        for campaign in meta.campaigns
        if campaign.salt in salts
        for arm, sums in zip(ARMS, campaign.arms, strict=True)
    ]
    if not chosen:
        return None
    n = len(chosen)
    counts = ("exposed", "answered", "buyers", "orders", "y_cents", "x_cents")
    squares = ("y_squared", "x_squared", "x_times_y")
    return {
        "audience": [campaign.audience for campaign, _, _ in chosen],
        "salt": [campaign.salt for campaign, _, _ in chosen],
        "arm": [arm for _, arm, _ in chosen],
        "shard": np.full(n, meta.shard, np.uint16),
        "seq": np.full(n, meta.seq, np.uint64),
        "as_of": np.full(n, now_ms, np.int64),
        "horizon_days": [campaign.horizon_ms / DAY_MS for campaign, _, _ in chosen],
        **{name: np.array([getattr(s, name) for _, _, s in chosen], np.int64) for name in counts},
        **{name: [float(getattr(s, name)) for _, _, s in chosen] for name in squares},
        "life": np.full(n, life_of(meta.seq), np.uint32),
    }
