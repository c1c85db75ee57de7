"""An event's schema as arrays for the kernel that reads it, derived from the msgspec structs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec.inspect as mi
import numpy as np
from numpy.typing import NDArray

__all__ = ["BOOLEAN", "DECIMAL", "ID", "INTEGER", "LINES", "NAME", "TEXT", "USER", "Fields"]

# The kinds of values, and what is kept of each.
USER: Final = 0  # an id that must be the record's key: its hash
ID: Final = 1  # a text of `low` to `high` characters: its hash
TEXT: Final = 2  # a text of `low` to `high` characters: nothing
INTEGER: Final = 3  # the number
DECIMAL: Final = 4  # the number
NAME: Final = 5  # one of a list of names: its index
BOOLEAN: Final = 6  # nothing
LINES: Final = 7  # an array of at most `high` objects: their number

_ANY_INT: Final = 2**62
_NAME_BYTES: Final = 16


class Fields(NamedTuple):
    """The fields of one kind of object, in the order of the struct.

    words: uint64 [f, 2], the bytes of each field's name; lengths: int64 [f], their number. kinds:
    int64 [f], see above; slots: int64 [f], the column of the result, or -1 if nothing is kept. low,
    high: int64 [f], the least and the greatest length or value. names_from, names_known: int64 [f],
    first and number of the field's `names`, uint64 [m, 2]. nullable: bool [f]. bits: int64 [f], a
    different bit for each required field, else 0; required: all of them.
    """

    words: NDArray[np.uint64]
    lengths: NDArray[np.int64]
    kinds: NDArray[np.int64]
    slots: NDArray[np.int64]
    nullable: NDArray[np.bool_]
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    names_from: NDArray[np.int64]
    names_known: NDArray[np.int64]
    bits: NDArray[np.int64]
    required: int
    names: NDArray[np.uint64]

    @staticmethod
    def of(
        struct: type,
        *,
        slots: Mapping[str, int],
        user: str = "",
        version: tuple[str, int] | None = None,
        names: Mapping[str, Sequence[str]] | None = None,
    ) -> Fields:
        """The table of a struct. `slots` says where a field's value goes; `user` is the field that
        must equal the key; `version` must have that value; `names` are the known values of some
        text fields, in the order of their indices (0 also stands for null)."""
        names = names or {}
        rows: list[tuple[bytes, int, bool, int, int, Sequence[str], bool]] = []
        for f in mi.type_info(struct).fields:  # type: ignore[attr-defined]
            kind, nullable, low, high, known = _reading(f.type)
            if f.name == user:
                kind = USER
            elif f.name in names:
                kind, known = NAME, names[f.name]
            elif version is not None and f.name == version[0]:
                low = high = version[1]
            elif kind == TEXT and f.name in slots:
                kind = ID
            rows.append((f.encode_name.encode(), kind, nullable, low, high, known, f.required))
        counts = np.array([len(known) for *_, known, _ in rows], np.int64)
        bits = np.array([required << i for i, (*_, required) in enumerate(rows)], np.int64)
        return Fields(
            _words([name for name, *_ in rows]),
            np.array([len(name) for name, *_ in rows], np.int64),
            np.array([kind for _, kind, *_ in rows], np.int64),
            np.array([slots.get(name.decode(), -1) for name, *_ in rows], np.int64),
            np.array([nullable for _, _, nullable, *_ in rows], np.bool_),
            np.array([low for _, _, _, low, *_ in rows], np.int64),
            np.array([high for _, _, _, _, high, *_ in rows], np.int64),
            np.cumsum(counts) - counts,
            counts,
            bits,
            int(bits.sum()),
            _words([name.encode() for *_, known, _ in rows for name in known]),
        )


def _reading(declared: mi.Type) -> tuple[int, bool, int, int, Sequence[str]]:
    """(kind, nullable, low, high, names) of a field's type. Raises TypeError for an unknown one."""
    nullable = False
    if isinstance(declared, mi.UnionType) and declared.includes_none:
        (declared,) = (t for t in declared.types if not isinstance(t, mi.NoneType))
        nullable = True
    bounds: Any = declared
    match declared:
        case mi.IntType():
            return INTEGER, nullable, -_ANY_INT, _ANY_INT, ()
        case mi.FloatType():
            return DECIMAL, nullable, int(bounds.ge), int(bounds.le), ()
        case mi.StrType():
            return TEXT, nullable, bounds.min_length or 0, bounds.max_length or _ANY_INT, ()
        case mi.BoolType():
            return BOOLEAN, nullable, 0, 0, ()
        case mi.ListType():
            return LINES, nullable, 0, bounds.max_length, ()
        case mi.LiteralType():  # its order here is not that of the declaration: `names` has it
            return NAME, nullable, 0, 0, ()
    raise TypeError(f"no kernel reads {declared}")


def _words(names: Sequence[bytes]) -> NDArray[np.uint64]:
    """Names of up to 16 bytes as two little-endian numbers each, uint64 [n, 2]."""
    if long := [name for name in names if len(name) > _NAME_BYTES]:
        raise ValueError(f"names of more than {_NAME_BYTES} bytes: {long}")
    return np.array(
        [
            [int.from_bytes(name[:8], "little"), int.from_bytes(name[8:], "little")]
            for name in names
        ],
        np.uint64,
    ).reshape(-1, 2)
