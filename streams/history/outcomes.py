"""What a status, or a kind of row, says about an order: it counts, was refunded, or never was.

Words are compared by their letters: `wc-refunded`, `Partially Refunded` and `REFUNDED` are known.
A word that is not known counts as an order, and the report names it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final, Literal

from streams.history.fields import plain

__all__ = ["Kind", "Outcome", "is_charge", "is_no", "kind_of", "mixed_events", "outcome_of"]

Outcome = Literal["counts", "refunded", "partly refunded", "cancelled", "pending", "unknown"]
Kind = Literal["order", "return", "cancelled", "other"]

_OUTCOMES: Final[tuple[tuple[Outcome, str], ...]] = (
    # the first that fits: `partially_refunded` before `refunded`, `unpaid` before `paid`
    ("partly refunded", r"partial\w*refund|refund\w*partial|partlyrefund"),
    ("refunded", r"refund|chargeback|chargedback|returned|^return$|reversed|moneyback"),
    ("cancelled", r"cancel|void|fail|declin|reject|refused|denied|expired|fraud|trash|deleted|"
     r"abandon|^error|unavailable|^blocked|requirespaymentmethod|incomplete|unfulfillable|disputedlost|"
     r"annul|storno|abgebrochen"),
    ("pending", r"pending|onhold|holded|^hold$|unpaid|notpaid|await|draft|^open$|uncaptured|"
     r"paymentreview|requires(action|capture|confirmation)|^created$|^quote|^cart$|^unconfirmed|"
     r"invoiceunconfirmed|^authori[sz]ed$"),
    ("counts", r"paid|complet|process|ship|deliver|fulfil|approved|invoiced|succe|captured|"
     r"closed|received|^ok$|confirmed|accepted|settled|dispatched|sold|done|finished|active|"
     r"^cod$|placed|^new$|exchange|ready|transit|picked|packed|preparing|^valid"),
)  # fmt: skip
_KINDS: Final[tuple[tuple[Kind, str], ...]] = (
    ("cancelled", r"^(order|purchase)?(cancel|void)\w*$"),
    ("return", r"refund|return|^credit(note|memo)?$|chargeback"),
    ("order", r"^(order|orders|ordered|orderplaced|placed|purchase|purchased|purchases|sale|sales|"
     r"sell|sold|payment|charge|buy|bought|transaction|checkoutcompleted?|ordercompleted?|"
     r"ordercreated|invoice|exchange|orderpaid|conversion|completed?)$"),
)  # fmt: skip
_BROWSING: Final = re.compile(
    r"view|click|cart|basket|wish|fav|^pv$|search|session|scroll|impression|login|visit|browse|"
    r"checkoutstarted|begincheckout|remove|share|signup|register|pageload"
)
_CHARGE: Final = re.compile(
    r"^(?:(?:discount|coupon|voucher|rebate|promo(?:tion|code)?|shipping|delivery|postage|"
    r"freight|carriage|handling|gift ?-?cards?|gift ?-?vouchers?|dotcomgiftshop gift voucher|"
    r"gift ?-?wrap(?:ping)?|rounding|tip|tax|vat|sales tax|service fee|bank charges|adjustment|"
    r"adjust bad debt|store credit|surcharge|deposit|payment fee|processing fee|dotcom postage|"
    r"amazon ?fee|manual|next day carriage|versand(?:kosten)?|rabatt|gutschein|frais de port)"
    r"(?:s|es)?(?:$|[\s:#_(£$€%-].*)|(?:post|dot|gift_\d.*|ship|disc)$)",
    re.IGNORECASE,
)
_NO: Final = frozenset(("false", "no", "0", "f", "n"))
_INVOICE_CODES: Final = frozenset(("D", "M", "S", "C2", "CRUK", "PADS", "POST", "DOT"))


def outcome_of(
    word: str, of_export: Mapping[str, str] | None = None, counted: Collection[str] = ()
) -> Outcome:
    """What a status means. `of_export`: plain words that mean something else in this export.
    `counted`: plain words that the user says count as orders.

    >>> [outcome_of(w) for w in ("Paid", "wc-refunded", "partially_refunded", "canceled", "unpaid")]
    ['counts', 'refunded', 'partly refunded', 'cancelled', 'pending']
    """
    letters = plain(word)
    letters = letters.removeprefix("wc") if letters not in ("wc",) else letters
    if letters in counted or plain(word) in counted:
        return "counts"
    if of_export and letters in of_export:
        found = of_export[letters]
        return next(outcome for outcome, _ in _OUTCOMES if outcome == found)
    return next((o for o, pattern in _OUTCOMES if re.search(pattern, letters)), "unknown")


def is_no(word: str) -> bool:
    """Whether a yes-or-no column says no.

    >>> is_no("FALSE"), is_no("true"), is_no("2024-03-01")
    (True, False, False)
    """
    return plain(word) in _NO


def kind_of(word: str) -> Kind:
    """What a row is by its type.

    >>> [kind_of(w) for w in ("purchase", "Refund", "page_view", "cancelled")]
    ['order', 'return', 'other', 'cancelled']
    """
    letters = plain(word)
    return next((kind for kind, pattern in _KINDS if re.search(pattern, letters)), "other")


def mixed_events(words: Collection[str]) -> bool:
    """Whether the values of a type column are a clickstream's: some of them are no orders.

    >>> mixed_events(["view", "cart", "purchase"]), mixed_events(["Payment", "Refund"])
    (True, False)
    """
    return any(kind_of(w) == "other" and _BROWSING.search(plain(w)) for w in words)


def is_charge(text: str, *, of_invoice: bool = False) -> bool:
    """Whether a line is no product: a discount, shipping, a gift card, a fee. `of_invoice`: it is
    the stock code of an invoice as UCI's, where D is a discount and M was put in by hand.

    >>> [is_charge(t) for t in ("Shipping", "POST", "Gift Card 25", "Discount - SAVE20", "Shirt")]
    [True, True, True, True, False]
    """
    return _CHARGE.match(text.strip()) is not None or (of_invoice and text in _INVOICE_CODES)
