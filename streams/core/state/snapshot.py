"""Writes a shard's state down as arrays while it goes on changing, and makes a state of them again.

`freeze` marks a moment between two steps. The arrays it names can then be taken page by page, each
as it was at that moment, with steps in between (see `copy_on_write`); `thaw` ends it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from schemas.features import FEATURE_NAMES
from streams.core.state.columns import ROW
from streams.core.state.copy_on_write import PageGuard
from streams.core.state.layout import LAYOUT, in_own_layout
from streams.core.state.pages import Source
from streams.core.state.shard_state import STATE_FORMAT, Meta, ShardState
from streams.core.state.u64map import MapPart, U64Map
from streams.core.state.windows import Chunk, WindowSums

__all__ = ["comparable", "digest", "exported", "freeze", "load", "thaw"]


def freeze(state: ShardState, *, everything: bool) -> tuple[bytes, dict[str, Source]]:
    """The state now, as (meta, arrays by name). `everything`: not only what changed since the last
    call will be taken. Call `thaw` when all was taken."""
    rows, n = state.rows_guard, state.n
    sources = {
        "rows": Source(
            "|u1",
            n * ROW.itemsize,
            lambda page: rows.take(page).tobytes(),
            rows.freeze(n, everything=everything).tolist(),
            ROW.itemsize << rows.bits,
        ),
        "histogram": Source.constant(state.value_histogram.copy(), changed=True),
        "histogram_in_force": Source.constant(state.values_in_force.copy(), changed=True),
        "forgotten": Source.constant(state.rows_by_user.forgotten, changed=True),
    }
    sources["layout"] = Source.constant(LAYOUT)
    sources |= _users(state, everything)
    for name, table in _maps(state).items():
        progress = np.array(table.progress, np.int64)
        sources[f"{name}/progress"] = Source.constant(progress, changed=True)
        sources |= {f"{name}/{p}": _guarded(table, p, everything) for p in table.parts}
    for part, array in state.questions.export().items():
        loose = part.split("/")[1] in ("head", "open")
        sources[f"questions/{part}"] = Source.constant(array, changed=loose)
    for part, array in state.ranks.export().items():
        sources[f"ranks/{part}"] = Source.constant(array, changed=True)
    for part, array in state.candidates.export().items():
        sources[f"candidates/{part}"] = Source.constant(array, changed=True)
    for part, array in state.parked.export().items():
        sources[f"parked/{part}"] = Source.constant(array, changed=part == "gone")
    for kind, sums in (("counts", state.counts), ("money", state.money)):
        from_ms = sums.counted_from_ms.reshape(-1).copy()
        sources[f"counted_from/{kind}"] = Source.constant(from_ms, changed=True)
        sources |= _logs(kind, sums)
    return msgspec.msgpack.encode(state.meta), sources


def thaw(state: ShardState) -> None:
    """End what `freeze` began, whether or not everything was taken."""
    state.rows_guard.thaw()
    state.users_guard.thaw()
    for table in _maps(state).values():
        table.thaw()


def _maps(state: ShardState) -> dict[str, U64Map]:
    """The state's maps, by the names that their arrays have in a checkpoint."""
    return {
        "ids": state.seen_ids,
        "pairs": state.pairs,
        "orders": state.known_orders,
        "holds": state.holds,
        "exposures": state.exposures,
        "contacts": state.contacts,
    }


def _guarded(table: U64Map, part: MapPart, everything: bool) -> Source:
    guard: PageGuard = getattr(table, f"{part}_guard")
    now: NDArray[Any] = getattr(table, part)
    return Source(
        now.dtype.str,
        now.size,
        lambda page: table.take(part, page).tobytes(),
        guard.freeze(len(now), everything=everything).tolist(),
        now.itemsize * (now.shape[1] if now.ndim > 1 else 1) << guard.bits,
    )


def _users(state: ShardState, everything: bool) -> dict[str, Source]:
    """The user ids, so many in a page: a list of texts in MessagePack, so of any length."""
    guard, n = state.users_guard, state.n
    changed = set(guard.freeze(n, everything=everything).tolist())

    def source(page: int) -> Source:
        def take(_: int) -> bytes:
            return msgspec.msgpack.encode(guard.take(state.users, page).tolist())

        return Source("|u1", -1, take, (0,) if page in changed else ())

    return {f"users/{page}": source(page) for page in range(-(-n >> guard.bits))}


def _logs(kind: str, sums: WindowSums) -> dict[str, Source]:
    """There may be thousands, and most were there last time: each is named once."""
    found: dict[str, Source] = {}
    for hop, tile, chunk in sums.chunks():
        if not chunk.written:
            chunk.number = next(sums.numbers)
            name = f"{kind}/{hop}/{tile}/{chunk.number}"
            chunk.written = (
                (f"{name}/{'gaps' if chunk.gaps else 'cells'}", Source.constant(chunk.cells)),
                (f"{name}/deltas", Source.constant(chunk.deltas)),
            )
        found.update(chunk.written)
    return found


def exported(state: ShardState) -> tuple[bytes, dict[str, NDArray[Any]]]:
    """The whole state at once: what `load` takes."""
    meta, sources = freeze(state, everything=True)
    arrays = {}
    for name, source in sources.items():
        raw = b"".join(source.take(page) for page in range(source.pages))
        arrays[name] = np.frombuffer(raw, np.dtype(source.dtype))
    thaw(state)
    return meta, arrays


def load(meta: bytes, arrays: Mapping[str, NDArray[Any]], features: int) -> ShardState:
    """An equal state; of another release's, the values whose names this build has.

    Raises KeyError, ValueError or msgspec.DecodeError for damaged arrays, and for values that can't
    be read by name.
    """
    decoded = msgspec.msgpack.decode(meta, type=Meta)
    if decoded.format != STATE_FORMAT:
        raise ValueError(
            f"state has format {decoded.format}; this build reads format {STATE_FORMAT}"
        )
    arrays = in_own_layout(arrays, decoded)
    if decoded.learner is not None:
        decoded.learner = decoded.learner.by_name(FEATURE_NAMES)
    state = ShardState(decoded.shard, features)
    state.meta = decoded
    rows = arrays["rows"].view(ROW)
    users: list[str] = []
    for page in range(sum(name.startswith("users/") for name in arrays)):
        users += msgspec.msgpack.decode(arrays[f"users/{page}"].tobytes(), type=list[str])
    if len(users) != len(rows):
        raise ValueError(f"{len(users)} user ids for {len(rows)} rows")
    state.restore_users(users, rows, arrays["forgotten"])
    state.parked.load(_under(arrays, "parked/"))
    for name, table in _maps(state).items():
        keys, values = arrays[f"{name}/keys"], arrays[f"{name}/values"]
        if len(keys) != len(values):
            raise ValueError(f"{name}: {len(keys)} keys for {len(values)} values")
        words = arrays[f"{name}/words"] if "words" in table.parts else None
        table.load(keys, values, arrays[f"{name}/progress"].tolist(), words)
    state.questions.load(_under(arrays, "questions/"))
    for name, sums in (("counts", state.counts), ("money", state.money)):
        from_ms = arrays[f"counted_from/{name}"]
        logs = _under(arrays, f"{name}/")
        _load_logs(sums, decoded.clock_ms, state.columns.capacity, logs, from_ms)
    state.value_histogram = arrays["histogram"].copy()
    state.values_in_force = arrays["histogram_in_force"].copy()
    state.ranks.load(_under(arrays, "ranks/"))
    state.candidates.load(_under(arrays, "candidates/"))
    return state


def _load_logs(
    sums: WindowSums,
    now_ms: int,
    rows: int,
    arrays: Mapping[str, NDArray[Any]],
    counted_from_ms: NDArray[np.int64],
) -> None:
    chunks = []
    for name, deltas in arrays.items():
        hop, tile, number, what = name.split("/")
        if what == "deltas":
            place = f"{hop}/{tile}/{number}"
            gaps = f"{place}/gaps" in arrays
            cells = arrays[f"{place}/{'gaps' if gaps else 'cells'}"]
            if len(cells) != len(deltas):
                raise ValueError(f"{place}: {len(cells)} cells for {len(deltas)} deltas")
            chunks.append((int(hop), int(tile), Chunk(cells, deltas, gaps)))
    sums.load(now_ms, rows, chunks, counted_from_ms)


def _under(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def comparable(state: ShardState) -> tuple[bytes, dict[str, NDArray[Any]]]:
    """Everything that matters, bit for bit, in one order: two states that will give the same
    outputs for ever are equal here, however their entries, logs and rows are arranged."""
    rows = np.flatnonzero(state.rows_by_user.named(np.arange(state.n)))
    names = state.users[rows]
    order = rows[np.argsort(names, kind="stable")]
    rank = np.zeros(state.n, np.int64)
    rank[order] = np.arange(len(order))
    packed = state.columns.pack(order)
    arrays = {f"columns/{name}": packed[name] for name in ROW.names or ()}
    arrays["users"] = np.frombuffer(msgspec.msgpack.encode(state.users[order].tolist()), np.uint8)
    parked, packed = state.parked.everyone(state.meta.horizon_since)
    by_name = sorted(range(len(parked)), key=parked.__getitem__)
    arrays |= {f"parked/{name}": packed[name][by_name] for name in ROW.names or ()}
    in_order = msgspec.msgpack.encode([parked[i] for i in by_name])
    arrays["parked/users"] = np.frombuffer(in_order, np.uint8)
    arrays["forgotten"] = np.array([len(state.rows_by_user.forgotten)])
    arrays["histogram"] = state.value_histogram.copy()
    arrays["histogram_in_force"] = state.values_in_force.copy()
    arrays |= {f"ranks/{name}": array for name, array in state.ranks.export().items()}
    arrays |= {f"candidates/{name}": a for name, a in state.candidates.export().items()}
    for name, table in _maps(state).items():
        kept = table.kept
        by_key = np.argsort(table.keys[kept])
        arrays[f"{name}/keys"] = table.keys[kept][by_key]
        arrays[f"{name}/values"] = table.values[kept][by_key]
        if "words" in table.parts:
            arrays[f"{name}/words"] = table.words[kept][by_key]
    for horizon_days, queue in state.questions.by_horizon.items():
        questions = queue.everything()
        whose = rank[questions.rows] if state.n else questions.rows
        by_time = np.lexsort((whose, questions.asked_ms))
        arrays[f"questions/{horizon_days}/users"] = whose[by_time]
        for name in ("asked_ms", "champion", "learner", "scores", "x"):
            arrays[f"questions/{horizon_days}/{name}"] = getattr(questions, name)[by_time]
    for name, sums in (("counts", state.counts), ("money", state.money)):
        arrays |= {f"{name}/{k}": v for k, v in sums.export(rank).items()}
        arrays[f"counted_from/{name}"] = sums.counted_from_ms.reshape(-1).copy()
    return msgspec.msgpack.encode(state.meta), arrays


def digest(state: ShardState) -> str:
    """A hash of `comparable`: 32 hex digits, equal for equal states on every machine.

    Keys of pairs hold each user's number, which depends on the order in which users came. The hash
    leaves that out, so of pairs it has only the times.
    """
    meta, arrays = comparable(state)
    for name in ("pairs/keys", "columns/pair_owner", "parked/pair_owner"):
        del arrays[name]
    arrays["pairs/values"] = np.sort(arrays["pairs/values"])
    total = xxhash.xxh3_128(meta)
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(f"{name} {array.dtype.str} {array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()
