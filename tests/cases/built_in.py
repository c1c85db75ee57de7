"""Cases of the same kinds, built here: what shops export, and what must be read of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.cases.run import Case, left_out, net, said
from tests.evaluation.shops import subscribers, write

__all__ = ["BUILT_IN"]

DRY = ("--dry-run", "--json")
READ = [("replay", "orders.csv", *DRY)]


def _text(text: str, encoding: str = "utf-8") -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        (folder / "orders.csv").write_bytes(text.encode(encoding))

    return build


def _history(users: int = 300, days: int = 260, *, extra: str = "", guests: bool = False,
             per_order: bool = False) -> Callable[[Path], None]:  # fmt: skip
    """A made-up shop of regulars, newest first; `extra` lines come on top."""

    def build(folder: Path) -> None:
        draw = np.random.default_rng(5)
        rows = []
        for user in range(1, users + 1):
            at, gap = float(draw.uniform(0, 80)), float(draw.gamma(3, 6) + 2)
            end = min(days, at + float(draw.exponential(200)))
            while at < end:
                rows.append((at, user, float(draw.gamma(3, 9) + 3)))
                at += float(draw.gamma(2, gap / 2))
        rows.sort(reverse=True)
        lines = ["order,customer_id,person_id,date,total"]
        for i, (at, user, amount) in enumerate(rows):
            day = np.datetime64("2024-01-01T00:00:00") + np.timedelta64(int(at * 86_400), "s")
            name = "0" if guests and i % 2 else f"u{user}"
            lines.append(f"{i},{f'c{i}' if per_order else name},p{user},{day},{amount:.2f}")
        (folder / "plain.csv").write_text("\n".join(lines) + "\n")
        (folder / "orders.csv").write_text("\n".join([lines[0], *extra.split(), *lines[1:]]) + "\n")

    return build


def _same(outcomes: list) -> str:  # type: ignore[type-arg]
    if any(o.exit_code for o in outcomes):
        return said(outcomes)
    one, two = (o.json["metrics"] for o in outcomes)
    return "the same figures" if one == two else f"{one}\n{two}"


def _begins(text: str) -> Callable[[list], str]:  # type: ignore[type-arg]
    """The message, cut where `text` ends: what follows is not what is asked."""
    return lambda outcomes: said(outcomes)[: len(text)]


def _error_begins(text: str) -> Callable[[list], str]:  # type: ignore[type-arg]
    """The error behind any warnings, cut where `text` ends."""
    return lambda outcomes: said(outcomes)[max(said(outcomes).rfind("Error: "), 0) :][: len(text)]


_ASK_DATES = "Error: Column date: '03/04/2024' may be 2024-04-03 or 2024-03-04"
_ASK_SIGN = "Error: Column total: '1.250' may be a thousand or a decimal"
_ASK_LEVEL = "Error: Column amount: in 2 of 3 orders with several rows it is the same"
_EVENTS = "Error: orders.csv has a column behavior (pv 2, fav 1, buy 1): these are events"
_TOO_SHORT = "Error: Half of the customers order every 30 days or less often: a horizon of 28 days"
_NOBODY = "Error: 30 orders of 30 users: nobody has two."

BUILT_IN = (
    Case("shopify, blank order fields", READ, "2 orders of 2, net 120.00 (15.00 came back)", net,
         build=_text(
             "Name,Email,Financial Status,Currency,Total,Created at,Lineitem quantity,"
             "Lineitem name,Lineitem price,Lineitem sku,Cancelled at,Refunded Amount\n"
             "#9,ann@x.org,partially_refunded,EUR,95.00,2024-05-02 10:00:00 +0200,1,Lamp,70.00,L1,"
             ",15.00\n#9,ann@x.org,,,,2024-05-02 10:00:00 +0200,1,Bulb,25.00,B1,,\n"
             "#8,bob@x.org,paid,EUR,40.00,2024-05-01 09:00:00 +0200,2,Bulb,20.00,B1,,0.00\n"
             "#7,bob@x.org,paid,EUR,40.00,2024-05-01 08:00:00 +0200,2,Bulb,20.00,B1,"
             "2024-05-01 08:05:00 +0200,0.00\n#6,bob@x.org,pending,EUR,40.00,"
             "2024-05-01 07:00:00 +0200,2,Bulb,20.00,B1,,0.00\n")),
    Case("statuses", READ, "1 cancelled, voided or failed, 1 not paid yet", left_out,
         build=_text("order_id,customer_id,order_date,order_total,status\n1,a,2024-01-05,10,wc-completed\n"
                     "2,a,2024-01-06,20,wc-refunded\n3,b,2024-01-07,30,wc-failed\n"
                     "4,b,2024-01-08,40,wc-on-hold\n")),
    Case("a total on every row", READ, "2 orders of 2, net 72.50", net,
         build=_text("invoice,client_id,date,product,grand_total\n1,x,2024-01-05,A,60\n"
                     "1,x,2024-01-05,B,60\n1,x,2024-01-05,C,60\n2,y,2024-01-06,A,12.5\n")),
    Case("an amount that may be either", READ, _ASK_LEVEL, _begins(_ASK_LEVEL),
         build=_text("order,user,date,amount\n1,a,2024-01-05,5\n1,a,2024-01-05,5\n2,a,2024-01-06,7\n"
                     "2,a,2024-01-06,7\n3,b,2024-01-06,7\n3,b,2024-01-06,8\n")),
    Case("guests under 0 and NULL", READ, "5 no user (guest)", left_out,
         build=_text("user_id,ts,amount\n0,1706745600,5\nNULL,1706745601,5\n n/a ,1706745602,5\n"
                     "Guest,1706745603,5\n,1706745604,5\n17.0,1706745605,5\n18.0,1706745606,6\n")),
    Case("a clickstream", READ, _EVENTS, _begins(_EVENTS),
         build=_text("user_id,item_id,behavior,timestamp,price\n1,2,pv,1511544070,3\n"
                     "1,2,pv,1511544071,3\n1,2,fav,1511544072,3\n1,2,buy,1511544073,3\n")),
    Case("a clickstream, with the orders chosen", [("replay", "orders.csv", *DRY, "--only",
                                                    "behavior=buy")],
         "1 orders of 1, net 3.00", net,
         build=_text("user_id,item_id,behavior,timestamp,price\n1,2,pv,1511544070,3\n"
                     "1,2,pv,1511544071,3\n1,2,fav,1511544072,3\n1,2,buy,1511544073,3\n")),
    Case("dates that nothing settles", READ, _ASK_DATES, _begins(_ASK_DATES),
         build=_text("user,date,total\na,03/04/2024,5\nb,01/02/2024,6\n")),
    Case("dates that one row settles", READ, "3 orders of 2, net 11.00", net,
         build=_text("user,date,total\na,03/04/2024,5\nb,01/02/2024,4\na,30/04/2024,2\n")),
    Case("a sign that nothing settles", READ, _ASK_SIGN, _begins(_ASK_SIGN),
         build=_text("user,date,total\na,2024-04-03,1.250\nb,2024-04-03,7\n")),
    Case("a German workbook as CSV", READ, "2 orders of 2, net 1,247.00", net,
         build=_text("sep=;\nUmsätze 2024\n\nuser;date;total\nJürgen;3.4.2024;1.234,50\n"
                     "Änne;4.4.2024;12,50\n", "cp1252")),
    Case("UTF-16, newest first", READ, "2 orders of 2, net 9.00", net,
         build=_text("user\tdate\ttotal\nb\t2024-05-01\t5\na\t2024-04-01\t4\n", "utf-16")),
    Case("microseconds, and Excel's days", READ, "3 orders of 1, net 9.00", net,
         build=_text("user,date,total\na,1714557600000000,3\na,45413.5,3\na,20240503,3\n")),
    Case("an unclosed quote", [(*READ[0], "--max-left-out", "0.5")],
         "1 a quote is opened and never closed", left_out,
         build=_text('user,date,total,note\na,2024-05-01,1,"so\nb,2024-05-02,2,x\nc,2024-05-03,3,y\n')),
    Case("a decimal comma between commas", [(*READ[0], "--max-left-out", "0.5")],
         "1 more cells than the header has", left_out,
         build=_text("user,date,total\na,2024-05-01,1,50\nb,2024-05-02,2\nc,2024-05-03,3\n")),
    Case("another id in each order",
         [("train", "--orders", "orders.csv", "--out", "m")], _NOBODY, _error_begins(_NOBODY),
         build=_text("order_id,customer_id,date,total\n" + "".join(
             f"{i},c{i},2024-01-{i + 1:02},{i}\n" for i in range(30)))),
    Case("one mistyped year",
         [("train", "--orders", "plain.csv", "--out", "a", "--json", "--horizon-days", "14"),
          ("train", "--orders", "orders.csv", "--out", "b", "--json", "--horizon-days", "14")],
         "the same figures", _same, build=_history(extra="9999,u1,p1,2044-01-01,5")),
    Case("browsing only when asked for",
         [("replay", "orders.csv", "--dry-run"), ("replay", "orders.csv", "--dry-run", "--browse")],
         "no; yes",
         lambda found: "; ".join("yes" if "SIMULATED" in o.stdout else "no" for o in found),
         build=_text("user,date,total\na,2024-05-01,1\n")),
    Case("a horizon below the usual gap", [("evaluate", "--orders", "orders.csv")], _TOO_SHORT,
         _begins(_TOO_SHORT),
         build=lambda folder: write(folder / "orders.csv", subscribers(90, 40))),
    Case("guests in train",
         [("train", "--orders", "orders.csv", "--out", "m", "--json", "--horizon-days", "28")],
         "True", lambda found: str(0 < found[0].history["left_out"][0]["rows"]
                                   == found[0].history["rows"] // 2),
         build=_history(guests=True)),
)  # fmt: skip
