"""`tideline deliver` as a process: what arrives, what is kept, and what is sent again."""

from __future__ import annotations

import json
import random
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.kafka.access import kafka_access
from streams.kafka.admin import connect as connect_admin
from streams.kafka.end_offsets import EndOffsets
from streams.kafka.groups import committed_by
from streams.local.process import free_port, wait_until
from streams.settings import Settings, override
from tests.deliver.doubles import Got, Receiver, Reply, serving
from tests.deliver.shop import Process, Shop, some_changes
from tests.local_broker import Cli

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

CRM = """
[destinations.crm]
format = "webhook"
url = "{url}/hook"
secret_env = "CRM_SECRET"
audiences = ["*"]
batch = {batch}
timeout_seconds = 5
"""
DEAD = """
[destinations.dead]
format = "webhook"
url = "http://127.0.0.1:{port}/"
secret_env = "CRM_SECRET"
audiences = ["*"]
"""
Shops = Callable[..., Shop]


def arrived(receiver: Receiver) -> list[dict[str, Any]]:
    """The changes of all requests, in order of arrival."""
    return [change for got in list(receiver.got) for change in got.document["changes"]]


def first_arrivals(changes: list[dict[str, Any]]) -> dict[str, list[int]]:
    """User -> the numbers of their changes, in order of first arrival."""
    seen: set[str] = set()
    found: dict[str, list[int]] = {}
    for change in changes:
        if change["change_id"] not in seen:
            seen.add(change["change_id"])
            found.setdefault(change["user_id"], []).append(change["number"])
    return found


def page(process: Process, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{process.port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def metric(process: Process, name: str) -> float:
    text = page(process, "/metrics")[1]
    return sum(float(v) for v in re.findall(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE))


@pytest.fixture
def shop(settings: Settings, tmp_path: Path) -> Iterator[Shops]:
    made: list[Shop] = []

    def make(destinations: str, where: Settings = settings) -> Shop:
        made.append(Shop(where, tmp_path, destinations))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_changes_arrive_and_what_is_refused_is_kept_and_sent_again(shop: Shops, cli: Cli) -> None:
    class Picky(Receiver):
        is_picky = True

        def take(self, got: Got) -> Reply:
            refused = self.is_picky and b'"user_id":"u1"' in got.body
            return (422, {}, b"no such customer") if refused else (200, {}, b"")

    with serving(Picky()) as receiver:
        here = shop(CRM.format(url=receiver.url, batch=10) + DEAD.format(port=free_port()))
        changes = some_changes(40, users=4)
        here.send([*changes, b"{not json", b'{"arm":"holdout"}'])
        process = here.start()
        of_u1 = [c for c in changes if c.user_id == "u1"]
        delivered = 'tideline_deliveries_total{destination="crm",result="delivered"}'
        refused = 'tideline_deliveries_total{destination="crm",result="undelivered"}'
        assert wait_until(
            lambda: (
                metric(process, delivered) == 40 - len(of_u1)
                and metric(process, refused) == len(of_u1) + 2
            ),
            90,
        ), process.log
        # the dead one holds nobody up, and is told
        failing = 'tideline_delivery_failing_seconds{destination="dead"}'
        assert wait_until(lambda: metric(process, failing) > 0, 60), process.log
        assert metric(process, 'tideline_delivery_failing_seconds{destination="crm"}') == 0
        assert page(process, "/healthz")[0] == 200

        listed = cli("deliver", "undelivered", "--json", settings=here.settings)
        kinds = {(k["destination"], k["reason"]): k["letters"] for k in json.loads(listed.stdout)}
        assert kinds == {("crm", "http_422"): len(of_u1), ("crm", "unreadable"): 2}
        shown = cli("deliver", "undelivered", "--each", "--reason", "http_422",
                    settings=here.settings)  # fmt: skip
        assert "no such customer" in shown.stdout

        receiver.is_picky = False
        dry = cli("deliver", "resend", settings=here.settings)
        assert "Nothing was sent" in dry.stdout
        sent = cli("deliver", "resend", "--yes", "--json", settings=here.settings)
        report = json.loads(sent.stdout)
        # only the newest change of u1: an older one would undo it
        assert (report["sendable"], report["sent"]) == (1, 1)
        assert {k["why"]: k["changes"] for k in report["kept"]} == {
            "superseded": len(of_u1) - 1, "unreadable": 2,
        }  # fmt: skip
        newest = of_u1[-1].change_id
        assert wait_until(lambda: metric(process, delivered) == 41 - len(of_u1), 60), process.log
        assert arrived(receiver)[-1]["change_id"] == newest
        assert process.stop() == 0, process.log
    assert "Traceback" not in process.log
    assert "the-secret-of-a-shop" not in process.log


class Unreliable(Receiver):
    """Fails at random, before or after it has taken what came."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._draw = random.Random(seed)
        self.kept: list[dict[str, Any]] = []

    def take(self, got: Got) -> Reply:
        with self.arrived:
            draw = self._draw.random()
            if draw < 0.05:
                return 503, {}, b""
            if draw < 0.08:
                return 429, {"Retry-After": "1"}, b""
            self.kept += got.document["changes"]
        return (0, {}, b"") if draw < 0.12 else (200, {}, b"")  # taken, and not acknowledged


@pytest.mark.parametrize(
    ("count", "kills"),
    [pytest.param(100, 1, id="short", marks=pytest.mark.slow),
     pytest.param(5_000, 8, id="whole",
                  marks=[pytest.mark.full, pytest.mark.slow])],
)  # fmt: skip
def test_killed_at_any_moment_every_change_arrives_and_each_person_s_in_order(
    shop: Shops, count: int, kills: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    settings: Settings = request.getfixturevalue("settings")
    if count > 1_000:
        settings = override(
            settings, kafka_broker_url=request.getfixturevalue("kafka_broker").bootstrap
        )
    draw = random.Random(count)
    with serving(Unreliable(seed=count)) as receiver:
        here = shop(
            CRM.format(url=receiver.url, batch=20) + DEAD.format(port=free_port()), settings
        )
        changes = some_changes(count, users=count // 20, seed=count)
        steps = [changes[i : i + 50] for i in range(0, count, 50)]

        def produce() -> None:
            for step in steps:
                here.send(step)

        producer = threading.Thread(target=produce)
        producer.start()
        share = count // (kills + 1)
        for n in range(kills):
            process = here.start()
            other = here.start() if n % 3 == 2 else None  # they share the partitions
            wanted = share * n + draw.randrange(1, share)
            distinct = distinct_of(receiver)
            assert wait_until(lambda: distinct() >= wanted, 120), process.log  # noqa: B023
            process.kill()
            if other is not None:
                assert other.stop() == 0, other.log
        producer.join()
        process = here.start()
        distinct = distinct_of(receiver)
        assert wait_until(lambda: distinct() == count, 180), process.log
        group = here.settings.topic_names.delivery_group("crm")
        # The last change may have arrived from a process that was killed before it knew.
        assert wait_until(lambda: committed(here, group) == ends(here), 120, 0.5), process.log
        assert process.stop() == 0, process.log
        kept = list(receiver.kept)
    assert {c["change_id"] for c in kept} == {c.change_id for c in changes}
    wanted_order: dict[str, list[int]] = {}
    for change in changes:
        wanted_order.setdefault(change.user_id, []).append(change.number)
    assert first_arrivals(kept) == wanted_order
    assert len(kept) >= count


def distinct_of(receiver: Unreliable) -> Callable[[], int]:
    """A count of different changes that stays quick: it looks at what is new only."""
    seen: set[str] = set()
    at = 0

    def count() -> int:
        nonlocal at
        new = receiver.kept[at:]
        at += len(new)
        seen.update(change["change_id"] for change in new)
        return len(seen)

    return count


def committed(here: Shop, group: str) -> dict[int, int]:
    with connect_admin(kafka_access(here.settings)) as admin:
        found = committed_by(admin, group)
    return {partition: each.offset for (_, partition), each in found.items()}


def ends(here: Shop) -> dict[int, int]:
    topic = here.settings.topic_names.audiences
    places = [(topic, n) for n in range(here.settings.kafka.partitions)]
    with EndOffsets(kafka_access(here.settings)) as reader:
        return {partition: end for (_, partition), end in reader.of(places).items()}


def test_a_file_that_can_t_be_used_is_refused_before_anything_starts(
    settings: Settings, cli: Cli, tmp_path: Path
) -> None:
    done = cli("deliver", settings=settings)
    assert done.exit_code == 2
    assert "TIDELINE_DELIVER_DESTINATIONS_FILE is not set" in done.output


def test_a_topic_that_is_missing_is_told_and_not_waited_for(
    settings: Settings, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "destinations.toml"
    file.write_text(CRM.format(url="https://crm.example", batch=5))
    monkeypatch.setenv("CRM_SECRET", "the-secret-of-a-shop")
    done = cli("deliver", settings=override(settings, deliver_destinations_file=str(file)))
    assert done.exit_code == 1
    assert f"{settings.topic_names.audiences}: it does not exist" in done.output
    assert "tideline topics --create" in done.output


def test_check_shows_destinations_and_no_secret(
    settings: Settings, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "destinations.toml"
    file.write_text(CRM.format(url="https://crm.example/hook?token=abc", batch=5))
    here = override(settings, deliver_destinations_file=str(file))
    monkeypatch.setenv("CRM_SECRET", "the-secret-of-a-shop")
    done = cli("deliver", "check", settings=here)
    assert done.exit_code == 0, done.output
    assert "crm.example" in done.stdout
    assert "abc" not in done.output
    assert "the-secret" not in done.output
