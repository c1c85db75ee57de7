"""What became of a file: the mapping, the choices, what is in it, and each row left out and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from schemas.errors import SettingsError

__all__ = ["DEFAULT_MAX_LEFT_OUT", "LeftOut", "Report"]

DEFAULT_MAX_LEFT_OUT: Final = 0.05
EXAMPLES: Final = 3


@dataclass(frozen=True)
class LeftOut:
    """Rows that are not used, for one reason."""

    reason: str
    rows: int
    examples: tuple[str, ...]
    """Such as `line 3: 'soon'`."""
    fault: bool
    """Whether it is a mistake in the file. A guest's or a cancelled order is none: it is left out
    because it should be."""


@dataclass(frozen=True)
class Report:
    """How a file was read. Money is in units of the currency; times in ms since 1970 UTC."""

    name: str
    read_as: str
    """The kind of file, and the export it was recognised as."""
    mapping: str
    """Field=column, as `--map` takes it."""
    choices: Mapping[str, str]
    """What was settled by looking at the whole file: dates, decimal sign, amounts, statuses."""
    rows: int
    orders: int
    returns: int
    """Returned events: rows of a negative amount, and refunds."""
    users: int
    revenue: Mapping[str, float]
    """Placed less returned, by currency ("" where none is named)."""
    returned: Mapping[str, float]
    first_ms: int | None
    last_ms: int | None
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
    clicks: int = 0
    one_order_each: str = ""
    """Why nobody has two orders may be a mistake; empty if somebody has."""

    @property
    def faults(self) -> int:
        """Rows that can't be used because something is wrong with them."""
        return sum(found.rows for found in self.left_out if found.fault)

    def check(self, *, strict: bool = False, max_share: float = DEFAULT_MAX_LEFT_OUT) -> None:
        """Raises SettingsError if nothing is left, too large a share of the rows is wrong, or any
        row at all was left out in `strict`."""
        left = self._left_out_lines()
        if not self.rows:
            raise SettingsError(f"{self.name}: there are no rows below the header line.")
        if self.faults > max_share * self.rows:
            raise SettingsError(
                f"{self.name}: {self.faults:,} of {self.rows:,} rows can't be used, more than "
                f"{max_share:.0%}.{left}\nCheck --map, --tz, --dates, --decimal and --time-format, "
                "mend these rows, or allow a larger --max-left-out."
            )
        if strict and self.left_out:
            number = sum(found.rows for found in self.left_out)
            raise SettingsError(
                f"{self.name}: {number:,} of {self.rows:,} rows are left out, and --strict allows "
                f"none.{left}\nMend these rows, or run without --strict."
            )
        if not self.orders and not self.returns and not self.clicks:
            raise SettingsError(
                f"{self.name}: no order is left of {self.rows:,} rows.{left}\n"
                f"The mapping was: {self.mapping or 'none'}. Check --map, such as user=COLUMN."
            )

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "source": self.name,
            "read_as": self.read_as,
            "mapping": self.mapping,
            "choices": dict(self.choices),
            "rows": self.rows,
            "orders": self.orders,
            "returns": self.returns,
            "clickstream": self.clicks,
            "users": self.users,
            "revenue": dict(self.revenue),
            "returned": dict(self.returned),
            "from": _iso(self.first_ms),
            "to": _iso(self.last_ms),
            "left_out": [
                {"reason": f.reason, "rows": f.rows, "fault": f.fault, "examples": list(f.examples)}
                for f in self.left_out
            ],
            "notes": list(self.notes),
        }

    def lines(self) -> list[tuple[str, str]]:
        """(label, value) pairs for a table on the terminal, and for the model card."""
        shown = [("file", f"{self.name}: {self.read_as}"), ("mapping", self.mapping)]
        shown += [(name, value) for name, value in self.choices.items()]
        shown += [
            ("rows", f"{self.rows:,}"),
            ("orders", f"{self.orders:,} of {self.users:,} users, "
                       f"{_iso(self.first_ms)} to {_iso(self.last_ms)}"),
            ("revenue", _money(self.revenue)),
        ]  # fmt: skip
        if self.returns:
            shown.append(
                ("returned", f"{_money(self.returned)}, {self.returns:,} times (taken off)")
            )
        if self.clicks:
            shown.append(("clicks", f"{self.clicks:,}"))
        shown += [
            ("left out", f"{f.rows:,} rows: {f.reason}"
             + (f" ({'; '.join(f.examples)})" if f.examples else ""))
            for f in self.left_out
        ]  # fmt: skip
        shown += [("note", note) for note in self.notes]
        return [(name, value) for name, value in shown if value]

    def markdown(self) -> str:
        """For the model card."""
        return "\n".join(
            f"- {name}: {value}" for name, value in self.lines() if name not in ("file",)
        )

    def _left_out_lines(self) -> str:
        return "".join(
            f"\n  {f.rows:,} rows: {f.reason}"
            + (f" ({'; '.join(f.examples)})" if f.examples else "")
            for f in self.left_out
        )


def _iso(ms: int | None) -> str:
    if ms is None:
        return "-"
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds")


def _money(by_currency: Mapping[str, float]) -> str:
    return ", ".join(f"{v:,.2f} {name}".strip() for name, v in by_currency.items()) or "0.00"
