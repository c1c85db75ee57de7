"""`tideline start` as a newcomer runs it, on a real broker and a real ClickHouse."""

from __future__ import annotations

import csv
import json
import random
import time
import tomllib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from clickhouse_driver import Client
from clickhouse_driver.errors import Error as DriverError
from kafka import KafkaProducer
from kafka.admin import NewTopic

from models.artifact import load_artifact
from models.registry import artifact_directory
from schemas.topics import TopicNames
from streams.cli import tideline
from streams.clickhouse.client import clickhouse_target
from streams.clickhouse.migrations import pending
from streams.commands.start import read_files, run_with
from streams.commands.support import Invocation
from streams.core.partitioning import PartitionerName, partitions_of_keys
from streams.kafka import topics
from streams.kafka.admin import connect
from streams.local.clickhouse import ChdbServer
from streams.settings import Settings, load, override
from streams.start.questions import Value
from streams.start.run import Start
from streams.start.steps import CommandName
from streams.start.terminal import Nobody
from tests.faults.old_clickhouse import OldClickHouse, missing

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.timeout(600)]
NOW = datetime.now(UTC)
NOW_MS = int(NOW.timestamp() * 1000)


class Newcomer:
    """Answers `tideline start` line by line; out of answers, they press Ctrl-D."""

    def __init__(self, target: Path, here: Settings) -> None:
        self.target = target
        self.here = here

    def run(self, *answers: str, args: Sequence[str] = (), **environ: str) -> Result:
        return CliRunner().invoke(
            tideline, ["start", "--config", str(self.target), *args],
            input="".join(f"{answer}\n" for answer in answers), env=environ, prog_name="tideline",
        )  # fmt: skip

    @property
    def names(self) -> list[str]:
        """Options that keep this test's topics and tables apart from others'."""
        return ["--kafka-app-id", self.here.kafka.app_id,
                "--clickhouse-database", self.here.clickhouse.database]  # fmt: skip

    @property
    def all(self) -> list[str]:
        """Options that answer everything."""
        kafka, clickhouse = self.here.kafka, self.here.clickhouse
        return [
            *self.names, "--kafka-broker-url", kafka.broker_url,
            "--kafka-clickstream-topic", kafka.clickstream_topic,
            "--kafka-orders-topic", kafka.orders_topic, "--clickhouse-port", str(clickhouse.port),
        ]  # fmt: skip

    @property
    def answers(self) -> dict[str, str]:
        """Question -> answer, of a newcomer whose topics are not there yet."""
        kafka = self.here.kafka
        return {
            "broker": kafka.broker_url, "clicks": kafka.clickstream_topic,
            "orders": kafka.orders_topic, "partitions": "2", "partitioner": "", "host": "",
            "port": str(self.here.clickhouse.port), "user": "", "password": "", "files": "none",
            "currency": "EUR", "right": "y", "write": "y",
        }  # fmt: skip

    @property
    def draft(self) -> Path:
        return self.target.with_name(f"{self.target.name}.draft")

    def written(self) -> dict[str, Any]:
        return tomllib.loads(self.target.read_text())


@pytest.fixture
def someone(
    tmp_path: Path, settings: Settings, clickhouse: ChdbServer, monkeypatch: pytest.MonkeyPatch
) -> Newcomer:
    """At a terminal, with a broker and a ClickHouse, and nothing in them that is theirs."""
    monkeypatch.setattr("streams.commands.start._at_a_terminal", lambda: True)
    here = override(
        settings, clickhouse_host=clickhouse.host, clickhouse_port=clickhouse.port,
        clickhouse_database=settings.kafka.app_id,
    )  # fmt: skip
    directory = tmp_path / "shop"
    directory.mkdir()
    return Newcomer(directory / "tideline.toml", here)


def create(here: Settings, **partitions: int) -> None:
    with connect(here.kafka.brokers) as admin:
        admin.create_topics([NewTopic(name, n, 1) for name, n in partitions.items()])
        admin.wait_for_topics(list(partitions))


def send(here: Settings, topic: str, events: Sequence[dict[str, Any]], name: PartitionerName,
         partitions: int) -> None:  # fmt: skip
    producer = KafkaProducer(bootstrap_servers=here.kafka.broker_url, linger_ms=20)
    for event in events:
        key = event["user_id"].encode()
        at = int(partitions_of_keys([key], name, partitions)[0])
        producer.send(topic, json.dumps(event).encode(), key, partition=at)
    producer.flush()
    producer.close()


def views(n: int, **other: Any) -> list[dict[str, Any]]:
    ts = NOW_MS
    return [
        {"event_id": f"e{i}", "user_id": f"u{i}", "type": "view", "ts": ts - i, "item_id": "sku-1",
         **other}
        for i in range(n)
    ]  # fmt: skip


def sales(path: Path, heading: Sequence[str] = ("customer_id", "created_at", "total", "order_id"),
          currency: str = "", users: int = 60) -> Path:  # fmt: skip
    """Customers who order every ten days or so, for a year; half of them leave at some time."""
    draw = random.Random(5)
    rows: list[tuple[str, ...]] = []
    for user in range(users):
        days = draw.uniform(0, 30)
        gone = draw.uniform(60, 360) if user % 2 else 365.0
        while days < gone:
            at = NOW - timedelta(days=365 - days)
            number = f"{user}-{len(rows)}"
            rows.append(
                (
                    f"u{user}",
                    at.isoformat(timespec="seconds"),
                    f"{draw.uniform(5, 90):.2f}",
                    number,
                    *([currency] if currency else []),
                )
            )
            days += 0.5 + draw.expovariate(1 / 10)
    rows.sort(key=itemgetter(1))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*heading, *(["currency"] if currency else [])])
        writer.writerows(rows)
    return path


def flat(result: Result) -> str:
    """What was said, without line breaks."""
    return " ".join(result.output.split())


def test_start_without_history_sets_everything_up(someone: Newcomer) -> None:
    done = someone.run(*someone.answers.values(), args=someone.names)
    assert done.exit_code == 0, done.output
    kafka, clickhouse = someone.here.kafka, someone.here.clickhouse
    assert someone.written() == {
        "kafka": {
            "broker_url": kafka.broker_url, "app_id": kafka.app_id, "partitions": 2,
            "clickstream_topic": kafka.clickstream_topic, "orders_topic": kafka.orders_topic,
        },
        "clickhouse": {"port": clickhouse.port, "database": clickhouse.database},
        "stream": {"currency": "EUR"},
    }  # fmt: skip
    made = load({}, someone.target)
    assert all(report.state == "ok" for report in topics.check(made))
    assert pending(clickhouse_target(made)) == []
    assert not someone.draft.exists()
    assert f"export TIDELINE_CONFIG={someone.target}" in done.output
    assert "fail" not in [line[:4] for line in done.output.splitlines()]
    again = someone.run(args=["--yes", *someone.all, "--no-history"])
    assert again.exit_code == 0, again.output
    assert "Write" not in again.output, "nothing differs"


def test_start_interrupted_after_any_answer_continues_there(someone: Newcomer) -> None:
    answers = someone.answers
    del answers["partitioner"]
    stopped = 0
    for question, answer in answers.items():
        done = someone.run(answer, args=someone.names)
        if question == "write":
            break
        assert done.exit_code == 130, done.output
        assert f"Your answers are kept in {someone.draft}" in done.output
        assert not someone.target.exists()
        stopped += 1
        if question == "partitions":  # the next question has a proposal, taken here
            someone.run("", args=someone.names)
    assert done.exit_code == 0, done.output
    assert stopped == len(answers) - 1
    assert someone.written()["stream"] == {"currency": "EUR"}
    assert not someone.draft.exists()


def test_wrong_broker_is_reported_at_once_and_asked_for_again(
    someone: Newcomer, dead_broker: str
) -> None:
    done = someone.run("localhost", dead_broker, someone.here.kafka.broker_url, args=someone.names)
    assert "'localhost' does not fit. Expected: host:port" in flat(done)
    assert f"Kafka at {dead_broker} does not answer" in flat(done)
    assert f"Kafka brokers [{dead_broker}]" in done.output, "the answer is proposed again"
    assert f"{someone.here.kafka.broker_url} answers" in done.output
    assert someone.here.kafka.broker_url in someone.draft.read_text()


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[OldClickHouse]:
    why = missing()
    if why is not None:
        pytest.skip(why)
    server = OldClickHouse(tmp_path / "old")
    with server:
        # It looks every two seconds whether the file is of another second than before: one that was
        # written in the second of its start must be written again.
        stop = time.monotonic() + 60.0
        while not (let_in(server, "sesame-right") and not let_in(server, "sesame-wrong")):
            assert time.monotonic() < stop
            server.configure_user(password="sesame-right")
            time.sleep(3.0)
        yield server


def let_in(server: OldClickHouse, password: str) -> bool:
    try:
        with Client(server.host, port=server.port, password=password) as client:
            client.execute("SELECT 1")
    except DriverError:
        return False
    return True


def test_wrong_password_is_asked_for_again_and_never_shown_or_kept(
    someone: Newcomer, guarded: OldClickHouse
) -> None:
    args = [*someone.all, "--clickhouse-host", guarded.host, "--clickhouse-user", "default",
            "--no-history", "--dry-run"]  # fmt: skip
    args[args.index("--clickhouse-port") + 1] = str(guarded.port)
    right = ["", "", "", "", "sesame-right", "", "environment", "EUR", "y"]
    done = someone.run("2", "", "sesame-wrong", *right, args=args)
    assert done.exit_code == 0, done.output
    assert "fail  clickhouse" in done.output
    assert "sesame" not in done.output
    assert list(someone.target.parent.iterdir()) == [], "--dry-run"
    kept = someone.run("2", "", "sesame-right", "file", args=[a for a in args if a != "--dry-run"])
    assert kept.exit_code == 130, kept.output
    secret = someone.target.parent / "tideline.clickhouse-password"
    assert secret.read_text() == "sesame-right\n"
    assert secret.stat().st_mode & 0o777 == 0o600
    assert "sesame" not in someone.draft.read_text() + kept.output
    later = someone.run("EUR", "y", args=args)
    assert later.exit_code == 0, later.output
    assert "Its password" not in later.output, "it is read from its file"


def test_a_password_from_the_environment_is_neither_asked_for_nor_written(
    someone: Newcomer,
) -> None:
    answers = someone.answers
    del answers["password"]
    done = someone.run(*answers.values(), args=someone.names,
                       TIDELINE_CLICKHOUSE_PASSWORD="sesame-env")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "sesame-env" not in done.output + someone.target.read_text()
    assert "  TIDELINE_CLICKHOUSE_PASSWORD\n" in done.output


@pytest.mark.parametrize("keep", ["toml", "environment"])
def test_typed_password_is_kept_in_the_chosen_place(someone: Newcomer, keep: str) -> None:
    answers = [*someone.answers.values()]
    answers[8:9] = ["sesame-typed", keep]  # the local ClickHouse takes any
    done = someone.run(*answers, args=someone.names)
    assert done.exit_code == 0, done.output
    assert "sesame-typed" not in done.output
    mode = someone.target.stat().st_mode & 0o777
    if keep == "toml":
        assert someone.written()["clickhouse"]["password"] == "sesame-typed"
        assert mode == 0o600
    else:
        assert "sesame-typed" not in someone.target.read_text()
        assert "  TIDELINE_CLICKHOUSE_PASSWORD\n" in done.output
    assert [p.name for p in someone.target.parent.iterdir()] == ["tideline.toml"]


def test_partitions_and_partitioner_are_those_of_the_topics(someone: Newcomer) -> None:
    kafka = someone.here.kafka
    create(someone.here, **{kafka.clickstream_topic: 3, kafka.orders_topic: 3})
    events = [*views(40), *views(3, type="vieww")]
    send(someone.here, kafka.clickstream_topic, events, "crc32", 3)
    done = someone.run(args=[*someone.all, "--yes", "--no-history"])
    assert done.exit_code == 0, done.output
    assert "Partitions: 3, as the topics have." in done.output
    assert "Partitioner: crc32. It puts all of the newest 43 keys where they are." in flat(done)
    found = someone.written()["kafka"]
    assert (found["partitions"], found["partitioner"]) == (3, "crc32")
    assert "of the newest 43 records, 40 are read and 3 refused" in flat(done)
    assert "3 refused invalid_field" in flat(done)
    assert "u0 view sku-1" in flat(done)


def test_topics_of_different_partitions_are_refused_and_others_asked_for(
    someone: Newcomer,
) -> None:
    kafka = someone.here.kafka
    other = f"{kafka.orders_topic}.three"
    create(someone.here, **{kafka.clickstream_topic: 3, kafka.orders_topic: 5, other: 3})
    args = [*someone.all, "--no-history"]
    done = someone.run("", other, "", args=args)
    assert f"topic {kafka.orders_topic}: it has 5 partitions, needed are 3" in flat(done)
    assert f'orders_topic = "{other}"' in someone.draft.read_text()
    assert "partitions = 3" in someone.draft.read_text()


def test_prefix_of_another_installation_is_not_used(someone: Newcomer) -> None:
    app = someone.here.kafka.app_id
    journal = TopicNames("", "", app).journal
    create(someone.here, **{journal: 2})
    done = someone.run("", "", "", f"{app}-b", "2", "", args=[*someone.all, "--no-history"])
    assert f"topic {journal}: it has 2 partitions, needed are 4" in flat(done)
    assert f'app_id = "{app}-b"' in someone.draft.read_text()


def test_keys_that_fit_no_partitioner_are_left_to_the_user(someone: Newcomer) -> None:
    kafka = someone.here.kafka
    create(someone.here, **{kafka.clickstream_topic: 3, kafka.orders_topic: 3})
    for name in ("crc32", "murmur2"):
        send(someone.here, kafka.clickstream_topic, views(40), name, 3)
    listed = someone.run(args=[*someone.all, "--yes", "--no-history"])
    assert listed.exit_code == 2
    assert "This is missing or wrong" in listed.output
    assert "--kafka-partitioner" in listed.output
    done = someone.run("murmur2", "n", "murmur2", "y", args=[*someone.all, "--no-history"])
    assert "belong to another one" in flat(done)
    assert "\nClickHouse\n" in done.output
    unchecked = someone.run("", "", "", args=[*someone.all, "--no-history", "--kafka-partitioner",
                                              "unchecked"])  # fmt: skip
    assert "Continue all the same" not in unchecked.output


def ready(someone: Newcomer) -> list[str]:
    """Everything but the history, on a terminal, without writing."""
    return [*someone.all, "--kafka-partitions", "2", "--kafka-partitioner", "murmur2",
            "--clickhouse-host", someone.here.clickhouse.host, "--clickhouse-user", "default",
            "--dry-run"]  # fmt: skip


def test_a_missing_file_and_a_directory_are_asked_for_again(
    someone: Newcomer, tmp_path: Path
) -> None:
    orders = sales(tmp_path / "my orders.csv")
    done = someone.run(
        "", str(tmp_path / "nope.csv"), str(tmp_path), f"'{orders}'", "EUR", "", "", "y",
        args=ready(someone),
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "nope.csv: No such file or directory" in flat(done)
    assert "Is a directory" in flat(done)
    assert "of 60 users" in flat(done)
    assert f"tideline backfill '{orders}'" in flat(done)
    assert "--horizon-days" in flat(done)
    assert "placed order" in flat(done)


def test_wrongly_read_file_is_read_again_with_the_named_option(
    someone: Newcomer, tmp_path: Path
) -> None:
    orders = sales(tmp_path / "o.csv", ("who", "when", "total", "order_id"))
    done = someone.run(
        "", str(orders), "map", "user=who,timestamp=when", "EUR", "", "",
        "n", "history", "tz", "Europe/Berlin", "y", args=ready(someone),
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "use --map" in flat(done)
    assert "mapping user=who, timestamp=when, amount=total, order=order_id" in flat(done)
    assert "--map=user=who,timestamp=when --tz=Europe/Berlin" in flat(done)


def test_file_without_orders_can_be_dropped(someone: Newcomer, tmp_path: Path) -> None:
    picture = tmp_path / "x.png"
    picture.write_bytes(b"\x89PNG\r\n")
    done = someone.run("", str(picture), "none", "EUR", "y", args=ready(someone))
    assert done.exit_code == 0, done.output
    assert "is a picture" in flat(done)
    assert "backfill" not in done.output
    assert "train" not in done.output


def test_currency_comes_from_the_files_and_rates_are_asked_for(
    someone: Newcomer, tmp_path: Path
) -> None:
    euro, pound = (sales(tmp_path / f"{c}.csv", currency=c) for c in ("EUR", "GBP"))
    done = someone.run("", f"{euro} {pound}", "", "x", "GBP=1.17", "", "", "y", args=ready(someone))
    assert done.exit_code == 0, done.output
    assert "Currency of all results [EUR]" in done.output
    assert "'x' does not fit. Expected: a list like EUR=1.08" in flat(done)
    assert 'currency_rates = "GBP=1.17"' in done.output
    assert "--orders" in done.output.split("And then")[1]


def test_files_of_events_with_clicks_are_read(someone: Newcomer, tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    ts = NOW_MS
    order = {"event_id": "o", "user_id": "u1", "type": "placed", "ts": ts - 5000, "order_id": "1",
             "amount": 5, "currency": "EUR"}  # fmt: skip
    events.write_text("".join(json.dumps(e) + "\n" for e in [*views(5), order, {"ts": 1}]))
    done = someone.run("", "", "y", args=[*ready(someone), "--max-left-out", "0.2", str(events)])
    assert done.exit_code == 0, done.output
    assert "clicks 5" in flat(done)
    assert "left out 1 rows" in flat(done)
    assert "No model can be trained on this history" in flat(done)
    assert "tideline backfill" in done.output
    assert "tideline train" not in done.output


def test_yes_takes_proposals_and_lists_everything_missing(
    someone: Newcomer, dead_broker: str
) -> None:
    args = [*someone.all, "--yes", "--no-history"]
    done = someone.run(args=args, TIDELINE_KAFKA_SECURITY="sasl_plaintext")
    assert done.exit_code == 2
    assert "Kafka user: --kafka-username, or TIDELINE_KAFKA_USERNAME" in flat(done)
    dead = someone.run(args=[*args, "--kafka-broker-url", dead_broker],
                       TIDELINE_CLICKHOUSE_PORT=dead_broker.split(":")[1])  # fmt: skip
    assert dead.exit_code == 2
    listed = flat(dead).split("missing or wrong")[1]
    assert f"kafka: Kafka at {dead_broker} does not answer" in listed
    assert "clickhouse: asking ClickHouse" in listed, "and what does not need Kafka, too"
    assert list(someone.target.parent.iterdir()) == [], "nobody has typed anything"


def test_failure_that_only_the_environment_can_correct_ends_the_start(
    someone: Newcomer, dead_broker: str
) -> None:
    done = someone.run("", args=someone.names, TIDELINE_KAFKA_BROKER_URL=dead_broker)
    assert done.exit_code == 2
    assert "comes from the environment" in flat(done)


def test_file_with_other_settings_is_replaced_only_if_allowed(someone: Newcomer) -> None:
    text = '# mine\n[alerts]\nenter = 0.6\n[kafka]\nmisplaced = "dead_letter"\n'
    someone.target.write_text(text)
    args = [*someone.all, "--no-history"]
    refused = someone.run(args=[*args, "--yes"])
    assert refused.exit_code == 2
    assert "--overwrite" in refused.output
    assert someone.target.read_text() == text
    no = someone.run("4", "", "", "", "", "EUR", "y", "n", args=args)
    assert no.exit_code == 2, no.output
    assert someone.target.read_text() == text
    done = someone.run(args=[*args, "--yes", "--overwrite"])
    assert done.exit_code == 0, done.output
    assert someone.written()["alerts"] == {"enter": 0.6}
    assert someone.written()["kafka"]["misplaced"] == "dead_letter"


def test_a_dry_run_writes_nothing(someone: Newcomer) -> None:
    done = someone.run(args=[*someone.all, "--yes", "--no-history", "--dry-run"])
    assert done.exit_code == 0, done.output
    assert list(someone.target.parent.iterdir()) == []
    with connect(someone.here.kafka.brokers) as admin:
        assert someone.here.kafka.orders_topic not in admin.list_topics()
    assert len(pending(clickhouse_target(someone.here))) > 0
    assert "create the topics that are missing" in done.output


def test_start_without_a_terminal_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "t.toml"
    done = CliRunner().invoke(tideline, ["start", "--config", str(target)])
    assert done.exit_code == 2
    assert "not a terminal" in done.output
    assert not any(tmp_path.iterdir())


def test_unreadable_settings_and_draft_are_reported(someone: Newcomer) -> None:
    someone.target.write_text("[kafka]\npartitions = 'many'\n")
    done = someone.run()
    assert done.exit_code == 2
    assert "TIDELINE_KAFKA_PARTITIONS" in done.output
    someone.target.unlink()
    someone.draft.write_text("not = [toml")
    assert "Delete it to begin again" in someone.run().output


def test_history_is_counted_and_model_trained_once(someone: Newcomer, tmp_path: Path) -> None:
    orders = sales(tmp_path / "orders.csv", users=300)
    args = [*someone.all, "--yes", "--kafka-partitions", "2", str(orders)]
    done = someone.run(args=args)
    assert done.exit_code == 0, done.output
    made = load({}, someone.target)
    assert made.model.artifact == str(someone.target.parent / "models")
    assert load_artifact(artifact_directory(made.model.artifact)).horizon_days == 28
    assert "tideline worker" in done.output
    before = someone.target.read_text()
    again = someone.run(args=args)
    assert again.exit_code == 0, again.output
    assert "Shard 0, 1 had this history already" in flat(again)
    assert "model there already" in flat(again)
    assert someone.target.read_text() == before


def test_start_interrupted_in_a_step_continues_with_that_step(
    someone: Newcomer, tmp_path: Path
) -> None:
    orders = sales(tmp_path / "orders.csv", users=300)
    really = run_with(Invocation(), someone.target)
    here = someone.here
    given: dict[str, Value] = {
        "kafka.broker_url": here.kafka.broker_url, "kafka.app_id": here.kafka.app_id,
        "kafka.clickstream_topic": here.kafka.clickstream_topic,
        "kafka.orders_topic": here.kafka.orders_topic, "kafka.partitions": 2,
        "clickhouse.port": here.clickhouse.port, "clickhouse.database": here.clickhouse.database,
        "start.files": str(orders),
    }  # fmt: skip

    def go(stop_at: str = "") -> list[str]:
        ran: list[str] = []

        def run(name: CommandName, arguments: Sequence[str], settings: Settings) -> int:
            if name == stop_at:
                raise KeyboardInterrupt
            ran.append(name)
            return really(name, arguments, settings)

        guide = Start(
            someone.target, {}, given, Nobody(), read_files, run, {}, lambda: NOW_MS,
            keep=True, dry_run=False, overwrite=False, program="tideline",
        )  # fmt: skip
        if not stop_at:
            assert guide.run() == 0
            return ran
        with pytest.raises(KeyboardInterrupt):
            guide.run()
        assert someone.draft.exists()
        return ran

    assert go("backfill") == []
    assert go("train") == ["backfill"]
    assert not load({}, someone.target).model.artifact, "workers would find no model there"
    assert go() == ["train"]
    assert load({}, someone.target).model.artifact
    assert not someone.draft.exists()
