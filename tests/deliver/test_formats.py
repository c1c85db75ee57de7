"""What each format says to its API, over HTTP, to doubles that refuse what is not documented."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import ssl
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.messages import AudienceChange
from streams.deliver.courier import Courier
from streams.deliver.destinations import Destination
from streams.deliver.exchange import Answer, Refusal, chunks
from streams.deliver.http import Poster
from streams.deliver.klaviyo import METRICS
from streams.settings import Secret
from tests.certificates import Authority
from tests.deliver.doubles import Braze, Klaviyo, Receiver, serving

ROOT = Path(__file__).parents[2]
OLD, NEW = "an old secret of the shop", "a new secret of the shop"


def change(user: str, number: int = 1, what: str = "entered", **values: Any) -> AudienceChange:
    audience = values.pop("audience", "save_now")
    return AudienceChange(
        change_id=f"{user}-{audience}-{number}", audience=audience, segment="leaving",
        user_id=user, change=what, number=number, at="2026-11-30T12:00:00.000Z",
        definitions="0123456789abcdef", **values,
    )  # fmt: skip


class Tries:
    def __init__(self) -> None:
        self.results: list[str] = []
        self.waits: list[float] = []

    def tried(self, result: str, seconds: float) -> None:
        assert seconds >= 0
        self.results.append(result)

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)


def deliver(
    where: Destination, changes: Sequence[AudienceChange], tries: Tries | None = None
) -> list[Refusal | None]:
    tries = tries or Tries()

    async def run() -> list[Refusal | None]:
        poster = Poster(where)
        await poster.start()
        try:
            courier = Courier(where, poster.send, tries, sleep=tries.sleep, draw=lambda: 1.0)
            return await courier.deliver(changes)
        finally:
            await poster.stop()

    return asyncio.run(run())


def webhook(receiver: Receiver, **values: Any) -> Destination:
    given: dict[str, Any] = {"secrets": (Secret(NEW), Secret(OLD)), "batch": 3, **values}
    return Destination("crm", "webhook", f"{receiver.url}/hook?shop=1", **given)


# -- webhook


def test_a_webhook_gets_changes_in_order_in_batches_with_both_signatures() -> None:
    with serving(Receiver()) as receiver:
        changes = [change("ann", n, p_churn=0.5) for n in range(1, 5)]
        assert deliver(webhook(receiver), changes) == [None] * 4
    first, second = receiver.got
    assert (first.method, first.path) == ("POST", "/hook?shop=1")
    assert [c["number"] for c in first.document["changes"]] == [1, 2, 3]
    assert msgspec.json.decode(second.body)["changes"] == [msgspec.to_builtins(changes[3])]
    assert second.headers["idempotency-key"] == "ann-save_now-4"
    stamp, *values = (p.split("=")[1] for p in first.headers["tideline-signature"].split(","))
    assert abs(int(stamp) - time.time()) < 300
    signed = stamp.encode() + b"." + first.body
    for secret, value in zip((NEW, OLD), values, strict=True):
        assert value == hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    assert NEW not in str(first.headers)


def snippet() -> dict[str, Any]:
    """What docs/audiences.md tells a receiver to run."""
    page = (ROOT / "docs" / "audiences.md").read_text()
    code = page.split("<!-- verification -->")[1].split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102  (our own page)
    return names


def test_the_documented_snippet_takes_either_secret_and_refuses_the_rest() -> None:
    is_genuine = snippet()["is_genuine"]
    with serving(Receiver()) as receiver:
        deliver(webhook(receiver), [change("ann")])
    (got,) = receiver.got
    header, now = got.headers["tideline-signature"], time.time()
    assert is_genuine(got.body, header, NEW, now)
    assert is_genuine(got.body, header, OLD, now)
    assert not is_genuine(got.body, header, "another secret", now)
    assert not is_genuine(got.body + b" ", header, NEW, now)
    assert not is_genuine(got.body, header, NEW, now + 3600)
    for broken in ("", "t=1", "v1=ab", "t=x,v1=ab", header.replace("t=", "t=9")):
        assert not is_genuine(got.body, broken, NEW, now)


def test_what_says_nothing_about_a_change_is_sent_again_and_signed_anew() -> None:
    replies = [
        (503, {"Retry-After": "7"}, b""), (500, {}, b"down"), (429, {"Retry-After": "2"}, b""),
        (302, {"Location": "/elsewhere"}, b""), (401, {}, b"wrong key"),
        (0, {}, b""),
    ]  # fmt: skip
    tries = Tries()
    with serving(Receiver()) as receiver:
        receiver.next.extend(replies)
        assert deliver(webhook(receiver), [change("ann")], tries) == [None]
    assert tries.results == ["failed", "failed", "limited", "failed", "failed", "failed", "taken"]
    assert tries.waits == [7.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    assert {got.headers["idempotency-key"] for got in receiver.got} == {"ann-save_now-1"}
    assert {got.path for got in receiver.got} == {"/hook?shop=1"}, "no redirect was followed"


def test_a_time_out_and_a_refused_connection_are_sent_again() -> None:
    tries = Tries()
    with serving(Receiver()) as receiver:
        asleep = threading.Event()

        def never(_: object) -> tuple[int, dict[str, str], bytes]:
            asleep.wait(30)
            return 200, {}, b""

        receiver.next.append(never)
        assert deliver(webhook(receiver, timeout_seconds=0.3), [change("a")], tries) == [None]
        asleep.set()
    assert tries.results == ["failed", "taken"]


def test_of_a_batch_only_what_is_itself_refused_is_given_up() -> None:
    class Picky(Receiver):
        def take(self, got: Any) -> Any:
            users = [each["user_id"] for each in got.document["changes"]]
            return (422, {}, b"no such customer") if "bad" in users else (200, {}, b"")

    with serving(Picky()) as receiver:
        users = ["ann", "bad", "cid", "dan", "bad"]
        refusals = deliver(webhook(receiver, batch=5), [change(u, i) for i, u in enumerate(users)])
    assert [r and r.reason for r in refusals] == [None, "http_422", None, None, "http_422"]
    assert refusals[1] == Refusal("http_422", "no such customer")
    taken = [
        c["user_id"]
        for got in receiver.got
        for c in got.document["changes"]
        if "bad" not in got.body.decode()
    ]
    assert taken == ["ann", "cid", "dan"]


# -- Klaviyo


def klaviyo(double: Klaviyo, **values: Any) -> Destination:
    given: dict[str, Any] = {"lists": {"save_now": "LIST1", "win_back": "LIST2"}, **values}
    return Destination("klaviyo", "klaviyo", double.url, (Secret(double.key),), **given)


def test_klaviyos_lists_have_who_is_in_also_who_came_back_within_a_batch() -> None:
    double = Klaviyo(profiles={"ann": "P1", "bob": "P2", 'q"\\,)': "P3"},
                     lists={"LIST1": set(), "LIST2": {"P1"}})  # fmt: skip
    with serving(double):
        changes = [
            change("ann", 1), change("bob", 1), change("ann", 1, "left", audience="win_back"),
            change("bob", 2, "left"), change('q"\\,)', 1), change("ann", 2, "left"),
            change("ann", 3), change("nobody", 1, "left"),
        ]  # fmt: skip
        assert deliver(klaviyo(double), changes) == [None] * len(changes)
        assert double.lists == {"LIST1": {"P1", "P3"}, "LIST2": set()}
        assert deliver(klaviyo(double), changes) == [None] * len(changes)  # repeats change nothing
    assert double.lists == {"LIST1": {"P1", "P3"}, "LIST2": set()}


def test_klaviyo_gets_new_profiles_only_if_that_is_wanted() -> None:
    double = Klaviyo(profiles={"ann": "P1"}, lists={"LIST1": set()})
    with serving(double):
        refused = deliver(klaviyo(double), [change("new"), change("ann")])
        assert [r and r.reason for r in refused] == ["unknown_profile", None]
        assert double.lists == {"LIST1": {"P1"}}
        assert deliver(klaviyo(double, create_profiles=True), [change("new")]) == [None]
    assert double.lists["LIST1"] == {"P1", double.profiles["new"]}


def test_klaviyo_gets_an_event_for_an_audience_without_a_list_once() -> None:
    double = Klaviyo()
    entered = change("ann", audience="alerts", p_churn=0.75, expected_spend=None)
    with serving(double):
        for _ in range(2):
            refusals = deliver(klaviyo(double), [entered, change("refused", audience="alerts")])
    assert [r and r.reason for r in refusals] == [None, "http_400"]
    ((key, event),) = double.events.items()
    assert key == ("ann", METRICS["entered"], entered.change_id)
    assert event["properties"] == {"audience": "alerts", "segment": "leaving", "number": 1,
                                   "p_churn": 0.75}  # fmt: skip
    assert event["time"] == entered.at


def test_klaviyos_limits_are_kept_and_its_errors_are_told() -> None:
    double, tries = Klaviyo(profiles={"ann": "P1"}), Tries()
    limited = (429, {"Retry-After": "9"}, b'{"errors": [{"code": "throttled"}]}')
    with serving(double):
        double.next.append(limited)
        (refusal,) = deliver(klaviyo(double), [change("ann")], tries)
    assert refusal is not None
    assert refusal.reason == "http_404"
    assert "LIST1 does not exist" in refusal.detail
    assert (tries.results, tries.waits) == (["limited", "taken", "refused"], [9.0])


def test_a_filter_of_klaviyos_stays_short_however_long_the_ids_are() -> None:
    users = [f"{'x' * 900}-{n}" for n in range(12)]
    double = Klaviyo(
        profiles={user: f"P{n}" for n, user in enumerate(users)}, lists={"LIST1": set()}
    )
    with serving(double):
        assert deliver(klaviyo(double), [change(user) for user in users]) == [None] * 12
    assert len(double.lists["LIST1"]) == 12
    assert max(len(got.path) for got in double.got) < 8_000


# -- Braze


def braze(double: Braze, **values: Any) -> Destination:
    return Destination("braze", "braze", double.url, (Secret(double.key),), **values)


def test_brazes_attribute_has_the_audiences_of_who_is_known() -> None:
    double = Braze(users={"ann": {}, "bob": {"tideline_audiences": ["save_now"]}})
    changes = [change("ann", 1), change("bob", 2, "left"), change("ann", 1, audience="win_back"),
               change("new", 1), change("ann", 2, "left"), change("ann", 3)]  # fmt: skip
    with serving(double):
        for _ in range(2):
            assert deliver(braze(double), changes) == [None] * 6
        assert double.users == {"ann": {"tideline_audiences": ["win_back", "save_now"]},
                                "bob": {"tideline_audiences": []}}  # fmt: skip
        deliver(braze(double, create_profiles=True, attribute="in"), [change("new", 1)])
    assert double.users["new"] == {"in": ["save_now"]}


def test_brazes_partial_errors_are_refusals_and_its_rate_limit_is_kept() -> None:
    double, tries = Braze(users={"ann": {}}, refuses={"bad"}), Tries()
    reset = (429, {"X-RateLimit-Reset": str(int(time.time()) + 30)}, b'{"message": "Rate limited"}')
    with serving(double):
        double.next.append(reset)
        refusals = deliver(braze(double), [change("bad"), change("ann")], tries)
        assert [r and r.reason for r in refusals] == ["braze_error", None]
        double.next.append(
            (201, {}, json.dumps({"message": "success", "errors": ["odd"]}).encode())
        )
        again = deliver(braze(double), [change("ann", 2, "left"), change("bob", 1)])
    assert again == [None, None]  # an error that names nobody: each is sent by itself
    assert 25 < tries.waits[0] <= 30
    assert double.users["ann"] == {"tideline_audiences": []}


# -- all


def test_no_request_has_two_changes_of_a_user_where_there_is_no_order() -> None:
    parts = chunks([change(u) for u in "aabcab"], 3, once_per_user=True)
    assert ["".join(c.user_id for c in part) for part in parts] == ["a", "abc", "ab"]
    assert chunks([], 3, once_per_user=True) == []


@pytest.mark.parametrize("body", [b"", b"[]", b'{"data": [{}]}', b"<html>"])
def test_an_answer_that_is_not_as_documented_is_a_refusal_and_no_crash(body: bytes) -> None:
    async def send(_: object) -> Answer:
        return Answer(200, {}, body)

    courier = Courier(
        Destination("k", "klaviyo", "http://x", (Secret("k" * 20),), lists={"save_now": "L"}),
        send,
        Tries(),
    )
    (refusal,) = asyncio.run(courier.deliver([change("ann")]))
    assert refusal is not None
    assert refusal.reason == "unexpected_answer"


def test_only_a_certificate_that_our_authority_signed_is_trusted(tmp_path: Path) -> None:
    ours, other = Authority(tmp_path / "ours"), Authority(tmp_path / "other")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ours.sign("crm"))
    tries = Once()
    with serving(Receiver(), context) as receiver:
        trusted = webhook(receiver, ca_file=str(ours.file))
        assert deliver(trusted, [change("ann")]) == [None]
        for ca_file in (str(other.file), ""):
            with pytest.raises(KeyError, match="enough"):
                deliver(webhook(receiver, ca_file=ca_file), [change("ann")], tries)
    assert tries.results == ["failed", "failed"]
    assert len(receiver.got) == 1


class Once(Tries):
    """Tries once, where a courier would go on for ever."""

    async def sleep(self, seconds: float) -> None:
        raise KeyError("enough")
