from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import evidence
from schemas.errors import SettingsError
from schemas.topics import TopicNames
from streams.settings import (
    SECTIONS,
    Secret,
    Settings,
    as_environ,
    describe,
    load,
    override,
    secret_files,
)
from streams.settings.reader import CACHE_ENV, CONFIG_ENV, TEST_PREFIX, env_name

ALL = {
    env_name(table, item.name): (table, item.name)
    for table, section in SECTIONS.items()
    for item in fields(section)
}


def problems(environ: dict[str, str], file: Path | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        load(environ, file)
    return str(caught.value)


def toml(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "tideline.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_defaults_pass_their_own_rules() -> None:
    assert load({}) == Settings()


def test_describe_covers_every_setting_once_with_help_and_rule() -> None:
    rows = describe(Settings())
    assert {row.env: (row.table, row.name) for row in rows} == ALL
    assert len(rows) == len(ALL) == sum(len(fields(section)) for section in SECTIONS.values())
    for row in rows:
        assert row.env == f"TIDELINE_{row.table}_{row.name}".upper()
        assert row.help
        assert "\n" not in row.help
        assert row.allowed
        assert row.origin == "default"
        assert row.value == row.default


@pytest.mark.parametrize("kind", ["seconds", "days"])
def test_durations_name_their_unit_in_name_and_help(kind: str) -> None:
    for row in describe(Settings()):
        if row.name.endswith(f"_{kind}"):
            assert kind in row.help, row


def test_environment_wins_over_file_over_default(tmp_path: Path) -> None:
    file = toml(tmp_path, '[kafka]\npartitions = 8\napp_id = "shop"\n[stream]\nclock = "event"\n')
    settings = load({"TIDELINE_KAFKA_PARTITIONS": "16"}, file)
    assert settings.kafka.partitions == 16
    assert settings.kafka.app_id == "shop"
    assert settings.stream.clock == "event"
    assert settings.kafka.orders_topic == "orders"
    origins = {row.env: row.origin for row in describe(settings)}
    assert origins["TIDELINE_KAFKA_PARTITIONS"] == "environment"
    assert origins["TIDELINE_KAFKA_APP_ID"] == f"file {file}"
    assert origins["TIDELINE_KAFKA_ORDERS_TOPIC"] == "default"


def test_config_variable_names_the_file(tmp_path: Path) -> None:
    file = toml(tmp_path, "[stream]\nlateness_days = 3\n")
    assert load({"TIDELINE_CONFIG": str(file)}).stream.lateness_days == 3.0


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    file = toml(
        tmp_path,
        '[kafka]\npartitons = 4\nclickhouse_host = "db"\n[kafak]\n[web]\nmetrics_port = "9"\n',
    )
    environ = {
        "TIDELINE_KAFKA_PARTITIONS": "four",
        "TIDELINE_STREAM_CLOCK": "walk",
        "TIDELINE_ALERTS_ENTER": "1.5",
        "TIDELINE_KAFKA_BROKER_URL": "kafka://one:9092",
        "TIDELINE_LOG_LEVLE": "info",
        "TIDELINE_STREAM_SWEEP_INTERVAL_SECONDS": "nan",
    }
    text = problems(environ, file)
    for expected in (
        "TIDELINE_KAFKA_PARTITIONS: got 'four' (from environment); expected a whole number from 1",
        "TIDELINE_STREAM_CLOCK: got 'walk' (from environment); expected wall or event",
        "TIDELINE_ALERTS_ENTER: got '1.5'",
        "without kafka://",
        "TIDELINE_LOG_LEVLE: no such setting (from environment); did you mean TIDELINE_LOG_LEVEL?",
        "[kafka] partitons: no such setting",
        "did you mean [kafka] partitions?",
        "[kafka] clickhouse_host: no such setting",
        "did you mean [clickhouse] host?",
        "[kafak]: no such table",
        "did you mean [kafka]?",
        f"TIDELINE_WEB_METRICS_PORT: got '9' (from file {file}); expected",
        "TIDELINE_STREAM_SWEEP_INTERVAL_SECONDS: got 'nan'",
    ):
        assert expected in text, (expected, text)
    assert text.startswith("10 settings are wrong")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"TIDELINE_ALERTS_LEAVE": "0.5"}, "less than [alerts] enter"),
        ({"TIDELINE_KAFKA_MIN_INSYNC_REPLICAS": "2"}, "at most [kafka] replication_factor"),
        ({"TIDELINE_HEALTH_LATE_WARN_SHARE": "0.2"}, "at most [health] late_fail_share"),
        (
            {"TIDELINE_HEALTH_DEAD_LETTER_FAIL_SHARE": "0.001"},
            "at most [health] dead_letter_fail_share",
        ),
        (
            {"TIDELINE_KAFKA_ORDERS_TOPIC": "clickstream"},
            "another topic than [kafka] clickstream_topic",
        ),
        ({"TIDELINE_KAFKA_ORDERS_TOPIC": Settings().topic_names.alerts}, "not Tideline's own"),
        ({"TIDELINE_STREAM_CURRENCY_RATES": "USD=2"}, "no rate for USD itself"),
        ({"TIDELINE_STREAM_CURRENCY_RATES": "EUR=1,EUR=2"}, "a list like"),
        (
            {"TIDELINE_WEB_METRICS_PORT": "80", "TIDELINE_WEB_PORT": "80"},
            "another port than [web] port",
        ),
        ({"TIDELINE_WEB_METRICS_PORT": "65536"}, "a port from 1 to 65535, or 0"),
        ({"TIDELINE_KAFKA_BROKER_URL": ""}, "host:port"),
        ({"TIDELINE_KAFKA_BROKER_URL": "a:1,"}, "host:port"),
        ({"TIDELINE_CLICKHOUSE_DATABASE": "x; DROP"}, "letters, digits"),
        ({"TIDELINE_CONFIG": "/no/such/file.toml"}, "can't read /no/such/file.toml"),
    ],
)
def test_a_wrong_setting_says_what_is_allowed(environ: dict[str, str], expected: str) -> None:
    assert expected in problems(environ)


def test_broken_toml_says_where(tmp_path: Path) -> None:
    assert "line 2" in problems({}, toml(tmp_path, "[kafka]\nbroker_url = x:1\n"))
    assert "[kafka]: expected a table" in problems({}, toml(tmp_path, "kafka = 3"))
    assert "[kafka] broker_url?" in problems({}, toml(tmp_path, 'broker_url = "x:1"'))


# The fields that once repeated their table: table, old name, new name.
RENAMED = [
    *(("kafka", f"kafka_{name}", name) for name in (
        "security", "ca_file", "client_cert_file", "client_key_file", "client_key_password",
        "sasl_mechanism", "username", "password",
    )),
    *(("clickhouse", f"clickhouse_{name}", name) for name in (
        "host", "port", "database", "user", "password", "secure", "ca_file",
    )),
    *(("alerts", f"alert_{name}", name) for name in (
        "enter", "leave", "overdue_ratio", "cooldown_days", "min_orders", "active_within_days",
    )),
    ("model", "learner_publish_seconds", "learner_publish_interval_seconds"),
    ("web", "web_port", "port"),
    ("log", "log_level", "level"),
    ("log", "log_format", "format"),
]  # fmt: skip


@pytest.mark.parametrize(("table", "old", "new"), RENAMED)
def test_an_old_name_is_refused_and_the_new_one_is_named(
    table: str, old: str, new: str, tmp_path: Path
) -> None:
    text = problems({}, toml(tmp_path, f'[{table}]\n{old} = "x"\n'))
    assert f"[{table}] {old}: no such setting" in text
    assert text.splitlines()[1].endswith(f"; did you mean [{table}] {new}?")
    if f"TIDELINE_{old.upper()}" not in ALL:
        _refused_with_a_hint(f"TIDELINE_{old.upper()}", env_name(table, new))


@pytest.mark.parametrize(("name", "home"), list(ALL.items()))
def test_a_name_without_its_table_is_refused_and_the_whole_one_is_named(
    name: str, home: tuple[str, str], tmp_path: Path
) -> None:
    """As all environment names were once: `TIDELINE_BROKER_URL`."""
    table, field = home
    if len([other for _, other in ALL.values() if other.endswith(field)]) > 1:
        return  # such as `host`: nobody can tell whose
    _refused_with_a_hint(f"TIDELINE_{field.upper()}", name)
    outside = problems({}, toml(tmp_path, f'{field} = "x"\n'))
    assert f"{field}: outside of any table" in outside
    assert f"did you mean [{table}] {field}?" in outside
    elsewhere = "privacy" if table != "privacy" else "log"
    assert f"did you mean [{table}] {field}?" in problems(
        {}, toml(tmp_path, f'[{elsewhere}]\n{field} = "x"\n')
    )


def _refused_with_a_hint(name: str, meant: str) -> None:
    line = problems({name: "x"}).splitlines()[1]
    assert line == f"  {name}: no such setting (from environment); did you mean {meant}?"


def test_environment_names_do_not_collide() -> None:
    """Neither with each other nor with the variables that are not settings."""
    names = [row.env for row in describe(Settings())] + secret_files() + [CONFIG_ENV, CACHE_ENV]
    assert len(set(names)) == len(names)
    assert not [name for name in names if name.startswith(TEST_PREFIX)]


def test_no_field_repeats_the_name_of_its_table() -> None:
    for table, field in ALL.values():
        assert table.removesuffix("s") not in field.split("_"), f"[{table}] {field}"


@hypothesis.settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=12))
def test_secrets_show_nowhere(text: str) -> None:
    password = f"☃{text}"  # Hypothesis knows the words of our source; no setting is called that
    settings = load({"TIDELINE_CLICKHOUSE_PASSWORD": password})
    assert settings.clickhouse.password.reveal() == password
    assert password not in repr(settings)
    assert password not in f"{settings.clickhouse.password}"
    assert password not in repr(describe(settings))


def test_secret_from_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("hunter2\n", encoding="utf-8")
    environ = {"TIDELINE_CLICKHOUSE_PASSWORD_FILE": str(secret)}
    settings = load(environ)
    assert settings.clickhouse.password == Secret("hunter2")
    assert settings.origins["TIDELINE_CLICKHOUSE_PASSWORD"] == f"file {secret}"
    both = environ | {"TIDELINE_CLICKHOUSE_PASSWORD": "x"}
    assert "set only one of them" in problems(both)
    assert "can't read" in problems({"TIDELINE_CLICKHOUSE_PASSWORD_FILE": str(tmp_path / "no")})
    assert "no such setting" in problems({"TIDELINE_KAFKA_BROKER_URL_FILE": "x"})


def test_a_wrong_secret_is_not_in_the_message(tmp_path: Path) -> None:
    text = problems({}, toml(tmp_path, "[clickhouse]\npassword = 4711\n"))
    assert "4711" not in text
    assert "TIDELINE_CLICKHOUSE_PASSWORD: got (secret)" in text


@given(
    kafka_partitions=st.integers(1, 10_000),
    alerts_enter=st.floats(0.4, 1.0),
    stream_lateness_days=st.floats(0, 90),
    clickhouse_secure=st.booleans(),
    stream_clock=st.sampled_from(["wall", "event"]),
    clickhouse_password=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
)
def test_override_and_environment_round_trip(**values: Any) -> None:
    settings = override(Settings(), **values)
    assert load(as_environ(settings)) == settings
    assert settings.origins["TIDELINE_STREAM_CLOCK"] == "command"
    assert settings.kafka.partitions == values["kafka_partitions"]
    assert settings.stream.lateness_days == values["stream_lateness_days"]


def test_override_checks_values_and_names() -> None:
    with pytest.raises(SettingsError, match="TIDELINE_ALERTS_ENTER"):
        override(Settings(), alerts_leave=0.9)
    with pytest.raises(SettingsError, match="did you mean TIDELINE_KAFKA_PARTITIONS"):
        override(Settings(), kafka_partitons=3)


def test_rates_include_the_currency_itself() -> None:
    settings = load({"TIDELINE_STREAM_CURRENCY_RATES": "EUR=1.08, GBP=1.27"})
    assert settings.stream.rates == {"USD": 1.0, "EUR": 1.08, "GBP": 1.27}


def test_topic_names_and_brokers() -> None:
    settings = load({"TIDELINE_KAFKA_APP_ID": "shop", "TIDELINE_KAFKA_BROKER_URL": "a:1, [::1]:2"})
    assert settings.topic_names == TopicNames("clickstream", "orders", "shop")
    assert settings.kafka.brokers == ("a:1", "[::1]:2")


def test_other_programs_variables_are_left_alone() -> None:
    assert load({"PATH": "/bin", "TIDELINE_TEST_KAFKA": "1", "TIDELINE_CACHE": "x"}) == Settings()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"KAFKA_SECURITY": "sasl_ssl"}, "KAFKA_USERNAME: missing"),
        ({"KAFKA_SECURITY": "sasl_ssl", "KAFKA_USERNAME": "x"}, "KAFKA_PASSWORD: missing"),
        ({"KAFKA_USERNAME": "x"}, "KAFKA_USERNAME: of no use while"),
        ({"KAFKA_SECURITY": "ssl", "KAFKA_PASSWORD": "x"}, "KAFKA_PASSWORD: of no use while"),
        ({"KAFKA_CA_FILE": "x"}, "KAFKA_CA_FILE: of no use while"),
        ({"KAFKA_SECURITY": "ssl", "KAFKA_CLIENT_KEY_FILE": "x"}, "CLIENT_CERT_FILE: missing"),
        ({"KAFKA_SECURITY": "tls"}, "expected plaintext or ssl or"),
        (
            {"KAFKA_SECURITY": "sasl_plaintext", "KAFKA_SASL_MECHANISM": "PLAIN",
             "KAFKA_USERNAME": "x", "KAFKA_PASSWORD": "y"},
            "PLAIN sends the password readable",
        ),
        ({"CLICKHOUSE_CA_FILE": "x"}, "CLICKHOUSE_CA_FILE: of no use while"),
    ],
)  # fmt: skip
def test_security_settings_are_whole_or_refused(environ: dict[str, str], expected: str) -> None:
    assert expected in problems({f"TIDELINE_{name}": value for name, value in environ.items()})


def test_the_defaults_for_enough_data_are_those_that_models_documents() -> None:
    """Written twice, so that `tideline --help` need not load the models."""
    assert Settings().model.shop_min_days == evidence.SHOP_MIN_DAYS
    assert Settings().alerts.min_orders == evidence.USER_MIN_ORDERS
