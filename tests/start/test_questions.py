"""Which question comes next, given what is known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from schemas.topics import TopicNames
from streams.settings import Settings, describe
from streams.start.questions import (
    ASKED,
    SECRETS,
    STAGES,
    Ask,
    Check,
    Facts,
    Known,
    Question,
    Stage,
    Value,
    next_step,
)

BY_NAME = {stage.name: stage for stage in STAGES}
TOPICS = {"kafka.clickstream_topic": "clicks", "kafka.orders_topic": "orders"}


def questions(
    stage: str, values: dict[str, Value] | None = None, facts: Facts | None = None
) -> dict[str, Question]:
    """What a stage asks, if each proposal is taken as long as nothing else is known."""
    known = dict(values or {})
    found: dict[str, Question] = {}
    while True:
        open_ = [q for q in BY_NAME[stage].questions(known, facts or Facts()) if q.key not in known]
        if not open_:
            return found
        found[open_[0].key] = open_[0]
        known[open_[0].key] = "given" if open_[0].default is None else open_[0].default


def at(stage: str, values: dict[str, Value]) -> Known:
    """Known, with all stages before this one passed."""
    before = [s.name for s in STAGES[: STAGES.index(BY_NAME[stage])]]
    return Known(values, Facts(), frozenset(before))


def walk(known: Known, answers: dict[str, Value]) -> list[str]:
    """The keys asked and the stages checked (in brackets), all of which pass."""
    trace: list[str] = []
    while (step := next_step(known)) is not None:
        if isinstance(step, Check):
            trace.append(f"[{step.stage.name}]")
            known = known.after(step.stage, known.facts)
            continue
        trace.append(step.question.key)
        default = step.question.default
        known = known.answered(step.question.key, answers.get(step.question.key, default or ""))
    return trace


def test_a_stage_is_checked_as_soon_as_its_questions_are_answered() -> None:
    assert walk(Known(), {}) == [
        "kafka.broker_url", "[kafka]",
        "kafka.clickstream_topic", "kafka.orders_topic", "kafka.partitions", "[topics]",
        "kafka.partitioner", "[keys]",
        "clickhouse.host", "clickhouse.port", "clickhouse.user", "clickhouse.password",
        "clickhouse.database", "[clickhouse]", "[secrets]",
        "start.files", "[history]", "stream.currency", "[currency]", "[model]", "[look]",
    ]  # fmt: skip


def test_known_answers_are_not_asked_for() -> None:
    keys = ("kafka.broker_url", "clickhouse.port", "clickhouse.password", "start.files")
    trace = walk(Known(dict.fromkeys(keys, 1)), {})
    assert not set(keys) & set(trace)
    assert [t for t in trace if t.startswith("[")] == [f"[{s.name}]" for s in STAGES]


def test_login_is_asked_for_only_where_the_listener_wants_one() -> None:
    assert list(questions("kafka")) == ["kafka.broker_url"]
    plain = questions("kafka", facts=Facts(secured=True))
    assert plain["kafka.security"].default == "sasl_plaintext"
    assert "kafka.ca_file" not in plain
    over_tls = questions("kafka", facts=Facts(secured=True, tls=True))
    assert over_tls["kafka.security"].default == "sasl_ssl"
    assert list(over_tls)[2:] == [
        "kafka.ca_file", "kafka.sasl_mechanism", "kafka.username", "kafka.password",
    ]  # fmt: skip
    assert over_tls["kafka.username"].default is None
    assert list(questions("kafka", {"kafka.security": "ssl"})) == [
        "kafka.broker_url", "kafka.ca_file",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("topics", "partitions"), [({"clicks": 6, "orders": 6}, 6), ({"orders": 12}, 12)]
)
def test_partitions_are_those_of_the_topics(topics: dict[str, int], partitions: int) -> None:
    found = questions("topics", dict(TOPICS), Facts(topics=topics))["kafka.partitions"]
    assert (found.default, found.only) == (partitions, True)
    free = questions("topics", dict(TOPICS), Facts(topics={"other": 3}))["kafka.partitions"]
    assert (free.default, free.only) == (Settings().kafka.partitions, False)


def test_topics_are_proposed_by_what_there_is() -> None:
    facts = Facts(
        topics={"shop.clicks": 3, "shop.orders": 3, TopicNames("", "", "tideline").journal: 3}
    )
    found = questions("topics", facts=facts)
    assert found["kafka.clickstream_topic"].default == "shop.clicks"
    assert found["kafka.orders_topic"].default == "shop.orders"
    assert "journal" not in found["kafka.clickstream_topic"].hint
    usual = questions("topics", facts=Facts(topics={"aclick": 1, "clickstream": 1}))
    assert usual["kafka.clickstream_topic"].default == "clickstream"


@pytest.mark.parametrize(("brokers", "replicas"), [(1, None), (2, 2), (5, 3)])
def test_replicas_are_asked_for_where_there_are_several_brokers(
    brokers: int, replicas: int | None
) -> None:
    found = questions("topics", facts=Facts(brokers=brokers)).get("kafka.replication_factor")
    assert (found and found.default) == replicas


def test_another_prefix_is_asked_for_if_ours_is_taken() -> None:
    found = questions("topics", dict(TOPICS), Facts(own_taken=True))["kafka.app_id"]
    assert found.default == "tideline-2"


@pytest.mark.parametrize(
    ("facts", "default", "only"),
    [
        (Facts(keys=90, fitting=("crc32",)), "crc32", True),
        (Facts(keys=1, fitting=("murmur2", "crc32")), "murmur2", True),
        (Facts(keys=90), None, False),
        (Facts(keys=0, fitting=("murmur2", "crc32", "fnv1a")), "murmur2", False),
    ],
)
def test_the_partitioner_is_guessed_from_keys(facts: Facts, default: Value, only: bool) -> None:
    found = questions("keys", facts=facts)["kafka.partitioner"]
    assert (found.default, found.only) == (default, only)


def test_clickhouse_is_asked_for_tls_by_its_port_or_after_a_failure() -> None:
    assert "clickhouse.secure" not in questions("clickhouse")
    usual = questions("clickhouse", {"clickhouse.port": 9440})
    assert usual["clickhouse.secure"].only
    assert "clickhouse.ca_file" not in usual
    failed = questions("clickhouse", {"clickhouse.port": 9440}, Facts(clickhouse_failed=True))
    assert not failed["clickhouse.secure"].only
    assert "clickhouse.ca_file" in failed


def test_where_to_keep_a_password_is_asked_only_if_it_was_typed() -> None:
    assert questions("secrets") == {}
    typed = questions("secrets", facts=Facts(secrets=frozenset({"kafka.password"})))
    assert typed["start.keep"].default == "file"


def test_rates_are_asked_for_if_orders_name_other_currencies() -> None:
    assert list(questions("currency", facts=Facts(currencies=("EUR",)))) == ["stream.currency"]
    found = questions("currency", facts=Facts(currencies=("EUR", "GBP")))
    assert found["stream.currency"].default == "EUR"
    assert found["stream.currency_rates"].default is None
    assert "GBP=" in found["stream.currency_rates"].hint


def test_a_model_is_asked_about_only_with_a_history_to_train_on() -> None:
    assert questions("model") == {}
    found = questions("model", facts=Facts(history=True, horizon_days=60, models="m"))
    assert found["start.horizon_days"].default == 60
    assert found["model.artifact"].default == "m"
    slow = questions("model", facts=Facts(history=True, horizon_days=180, slow=True))
    assert slow["alerts.active_within_days"].default == 540.0


def test_a_failed_stage_is_asked_again_with_its_answers_proposed() -> None:
    known = at("clickhouse", {"clickhouse.host": "db"})
    for key in ("clickhouse.port", "clickhouse.user", "clickhouse.database"):
        known = known.answered(key, 1)
    known = known.answered("clickhouse.password", "wrong")
    step = next_step(known)
    assert step == Check(BY_NAME["clickhouse"])
    again = known.again(BY_NAME["clickhouse"], known.facts)
    step = next_step(again)
    assert isinstance(step, Ask)
    assert (step.question.key, step.question.default) == ("clickhouse.host", "db")
    for key in ("clickhouse.host", "clickhouse.port", "clickhouse.user"):
        again = again.answered(key, 1)
    secret = next_step(again)
    assert isinstance(secret, Ask)
    assert (secret.question.key, secret.question.default) == ("clickhouse.password", "")


def test_answers_of_the_environment_stay_when_a_stage_is_asked_again() -> None:
    known = at("clickhouse", {"clickhouse.host": "db", "clickhouse.port": 1})
    again = known.again(BY_NAME["clickhouse"], known.facts, frozenset({"clickhouse.host"}))
    assert again.values == {"clickhouse.host": "db"}


def test_a_change_checks_all_later_stages_again() -> None:
    known = replace(Known(), passed=frozenset(BY_NAME))
    again = known.again(BY_NAME["clickhouse"], known.facts)
    assert again.passed == {"kafka", "topics", "keys"}


def test_stages_that_need_a_failed_one_are_skipped_without_a_user() -> None:
    known = Known().given_up(BY_NAME["kafka"])
    checked = [t for t in walk(known, {}) if t.startswith("[")]
    assert checked == ["[clickhouse]", "[history]", "[currency]", "[model]"]


def test_every_question_has_an_option_or_a_variable() -> None:
    every = Facts(
        secured=True, tls=True, brokers=3, own_taken=True, clickhouse_failed=True, slow=True,
        history=True, currencies=("EUR", "USD"), secrets=frozenset({"kafka.password"}),
    )  # fmt: skip
    found: set[str] = set()
    for stage in STAGES:
        found |= set(questions(stage.name, {"clickhouse.secure": True}, every))
    found |= {"clickhouse.secure"}
    assert {key for key in found if not key.startswith("start.")} == {*ASKED, *SECRETS}
    names = {f"{row.table}.{row.name}" for row in describe(Settings())}
    assert set(ASKED) <= names


def test_stages_need_only_stages_before_them() -> None:
    seen: set[str] = set()
    for stage in STAGES:
        assert isinstance(stage, Stage)
        assert set(stage.needs) <= seen
        seen.add(stage.name)
