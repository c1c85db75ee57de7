"""The right answers for a directory of cases that were handed in: files, and what must be read.

Each case's own `CASE.md` says where it comes from. `CASES` holds those that are about files.
"""

from __future__ import annotations

from tests.cases.run import Case, Outcome, left_out, net, said

__all__ = ["CASES"]

DRY = ("--dry-run", "--json")


def _same_model(outcomes: list[Outcome]) -> str:
    """Whether two trainings measured the same, and what the second one left out."""
    if any(o.exit_code for o in outcomes):
        return said(outcomes)
    one, two = (o.json["metrics"] for o in outcomes)
    same = "same figures" if one == two else f"auc {one['auc']:.3f} and {two['auc']:.3f}"
    return f"{same}; {left_out(outcomes[1:])}"


def _carded(outcomes: list[Outcome]) -> str:
    """What train and evaluate say of the file, and whether the model card does too."""
    if any(o.exit_code for o in outcomes):
        return said(outcomes)
    card = next(outcomes[0].folder.glob("m/*/MODEL_CARD.md")).read_text()
    in_card = "mapping: user=customer_id" in card and "1,531 rows: no user" in card
    return f"{net(outcomes)}; {left_out(outcomes)}; card {'says so' if in_card else 'is silent'}"


def _own_words(outcomes: list[Outcome]) -> str:
    message = said(outcomes)
    return message.split("Error: ", 1)[-1]


def _each_in_own_words(outcomes: list[Outcome]) -> str:
    # a warning before it may hold the name of an error
    return "; ".join(said([outcome]).rsplit("Error: ", 1)[-1] for outcome in outcomes)


def _mapping_and_read(outcomes: list[Outcome]) -> str:
    user = outcomes[0].history["mapping"].split(",")[0]
    return f"{user}: {net(outcomes[:1])}; {_own_words(outcomes[1:])}"


def _clicks(outcomes: list[Outcome]) -> str:
    source = outcomes[0].json["source"]
    return (
        "simulated" if "browsing" in source else f"{source['clickstream']} clicks, {net(outcomes)}"
    )


_NOBODY = (
    "2,000 orders of 2,000 users: nobody has two. Is customer_id the customer? The file also has "
    "customer_unique_id (200 values): --map user=COLUMN. [2]"
)
_TOO_SHORT = (
    "Half of the customers order every 30 days or less often: a horizon of 28 days calls 75% of "
    "the customers lost after every order that they make (of 363 who ordered on three days or "
    "more). Use {}, or --horizon-anyway to keep 28 days. [2]"
)
CASES = (
    Case("01-shopify-multirow", [("replay", "orders.csv", "--no-browse", *DRY)],
         "3 orders of 2, net 135.00 (100.00 came back)", net),
    Case("01-shopify-multirow",
         [("replay", "orders.csv", "--no-browse", *DRY, "--map",
           "user=Email,timestamp=Created at,order=Name,price=Lineitem price,"
           "quantity=Lineitem quantity,item=Lineitem sku")],
         "3 orders of 2, net 150.00 (100.00 came back)", net),
    Case("02-refunded-voided-orders",
         [("replay", "orders.csv", "--no-browse", *DRY, "--map", "order=Name")],
         "3 orders of 2, net 135.00 (100.00 came back)", net),
    Case("02-refunded-voided-orders", [("replay", "orders.csv", *DRY)],
         "1 cancelled, voided or failed, 1 no user (guest)", left_out),
    Case("03-order-total-on-every-line",
         [("replay", "orders.csv", *DRY), ("replay", "orders.csv", *DRY, "--map", "price=price"),
          ("replay", "repeated-row.csv", *DRY)],
         "3 orders of 2, net 70.00; 3 orders of 2, net 70.00; 2 orders of 2, net 60.00", net),
    Case("04-placeholder-users", [("replay", "orders.csv", "--no-browse", *DRY)],
         "Error: orders.csv: no order is left of 9 rows. 9 rows: no user (guest) (line 2; line 3; "
         "line 4) The mapping was: user=customer_id, timestamp=created_at, amount=total, "
         "order=order_id. Check --map, such as user=COLUMN. [2]", said),
    Case("07-clickstream-file-as-orders",
         [("replay", "events.csv", *DRY),
          ("replay", "events.csv", *DRY, "--only", "event_type=purchase")],
         "Error: events.csv has a column event_type (view 2, cart 1, purchase 1): these are "
         "events, and not all of them orders. Say which rows are orders: "
         "--only event_type=purchase. [2]; "
         "1 orders of 1, net 35.79", net),
    Case("08-dates-in-train-and-evaluate",
         [("replay", "orders.csv", *DRY), ("replay", "orders.csv", *DRY, "--time-format",
                                           "%d/%m/%Y %H:%M")],
         "3 orders of 2, net 30.00; 3 orders of 2, net 30.00", net),
    Case("08-dates-in-train-and-evaluate",
         [("evaluate", "--orders", "orders.csv", "--horizon", "7d"),
          ("evaluate", "--orders", "orders.csv", "--time-format", "%d/%m/%Y %H:%M", "--tz",
           "Europe/Berlin")],
         "read; read", lambda o: "; ".join("read" if "Every order has the same amount" in x.stderr
                                           else said([x]) for x in o)),
    Case("09-microseconds",
         [("replay", "orders.csv", "--no-browse", *DRY, "--map", "timestamp=event_timestamp")],
         "3 orders of 2, net 31.00", net),
    Case("09-microseconds",
         [("evaluate", "--orders", "long.csv", "--map", "timestamp=event_timestamp", "--json"),
          ("train", "--orders", "long.csv", "--map", "timestamp=event_timestamp", "--out", "m",
           "--json")],
         "900 orders of 60, net 24,820.01; 900 orders of 60, net 24,820.01", net,
         prepare=["make_long.py > long.csv"]),
    Case("11-one-mistyped-year",
         [("train", "--orders", "orders.csv", "--out", "a", "--json"),
          ("train", "--orders", "orders-typo.csv", "--out", "b", "--json")],
         "same figures; 1 in the future", _same_model, prepare=["make.py"]),
    Case("13-train-and-evaluate-leave-out-silently",
         [("train", "--orders", "orders.csv", "--out", "m", "--json"),
          ("evaluate", "--orders", "orders.csv", "--json")],
         "1,633 orders of 360, net 268,792.38; 1,633 orders of 360, net 268,792.38; "
         "1,531 no user (guest); 1,531 no user (guest); card says so", _carded,
         prepare=["make.py"]),
    Case("14-one-id-per-order",
         [("replay", "orders.csv", *DRY),
          ("train", "--orders", "orders.csv", "--out", "m", "--map", "user=customer_id"),
          ("evaluate", "--orders", "orders.csv", "--map", "user=customer_id")],
         f"user=customer_unique_id: 2,000 orders of 200, net 178,080.01; {_NOBODY}; "
         f"Error: {_NOBODY}", _mapping_and_read, prepare=["make.py > orders.csv"]),
    Case("21-replay-makes-up-clicks-by-default", [("replay", "orders.csv", "--stamp-now", *DRY)],
         "0 clicks, 3 orders of 2, net 30.00", _clicks),
    Case("25-monthly-subscribers",
         [("train", "--orders", "orders.csv", "--out", "m"),
          ("evaluate", "--orders", "orders.csv")],
         f"{_TOO_SHORT.format('--horizon-days 60')}; {_TOO_SHORT.format('--horizon 60d')}",
         _each_in_own_words, prepare=["make.py"]),
    Case("25-monthly-subscribers",
         [("train", "--orders", "orders.csv", "--out", "m", "--horizon-days", "60", "--json")],
         "fits, 60 days", lambda found: "{verdict}, {fitting_days} days".format(
             **found[0].json["rhythm"]), prepare=["make.py"]),
)  # fmt: skip
