"""docker-compose.yml and the image run what the local stack runs: services, topics, settings."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.errors import SettingsError
from schemas.topics import topics
from streams.cli import COMMANDS
from streams.console.tokens import read_tokens
from streams.deliver.destinations import read_destinations
from streams.kafka.topics import wanted
from streams.local import kafka as local_kafka
from streams.settings import Settings, load

ROOT = Path(__file__).parents[1]
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
TRAINER_LOCK = ROOT / "deploy" / "trainer.lock"
IMAGE_LOCKS = [
    ROOT / "deploy" / name for name in ("requirements.lock", "objects.lock", "console.lock")
]

# service -> the CLI command that is the same part of the local stack
PARTS = {
    "worker": ["worker"], "learner": ["learner"], "lag": ["lag", "--serve"],
    "trainer": ["trainer"], "deliver": ["deliver"], "console": ["console"],
}  # fmt: skip
SERVERS = {"kafka", "clickhouse"}
WATCHERS = {"prometheus", "grafana"}
ONE_SHOT = "init"
SECRET = "/run/secrets/clickhouse_password"
# Hosts and ports differ from the local stack; these name things and must not.
NAMES = {
    "kafka": ("app_id", "clickstream_topic", "orders_topic", "partitions", "replication_factor"),
    "clickhouse": ("database",),
    "stream": ("clock", "currency"),
}
# What both brokers need set, as Kafka itself names it.
BROKER_SETTINGS = (
    "process.roles",
    "auto.create.topics.enable",
    "offsets.topic.replication.factor",
    "transaction.state.log.replication.factor",
    "transaction.state.log.min.isr",
    "share.coordinator.state.topic.replication.factor",
    "share.coordinator.state.topic.min.isr",
    "group.initial.rebalance.delay.ms",
)


def interpolated(text: str, environ: dict[str, str]) -> str:
    """Compose's `${NAME:-default}`; a variable without a default must be in `environ`."""

    def value(match: re.Match[str]) -> str:
        name, default = match[1], match[2]
        return environ.get(name) or default if default is not None else environ[name]

    return re.sub(r"\$\{(\w+)(?::-([^}]*))?\}", value, text)


def services(**environ: str) -> dict[str, dict[str, Any]]:
    document = yaml.safe_load(interpolated(COMPOSE.read_text(), environ))
    found: dict[str, dict[str, Any]] = document["services"]
    return found


def settings_of(service: dict[str, Any]) -> Settings:
    """The settings of a container: the image's, then the service's. Unknown names are refused."""
    environ = image_environment() | {k: str(v) for k, v in service["environment"].items()}
    mounted = ROOT / "deploy" / "compose-password"
    environ = {k: str(mounted) if v == SECRET else v for k, v in environ.items()}
    return load({k: v for k, v in environ.items() if k.startswith("TIDELINE_")})


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as (instruction, arguments), continuation lines joined."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines) if word]


def stages() -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for word, rest in instructions():
        if word == "FROM":
            found.append([])
        if found:
            found[-1].append((word, rest))
    return found


def image_environment() -> dict[str, str]:
    pairs = [rest.split() for word, rest in stages()[-1] if word == "ENV"]
    return dict(pair.split("=", 1) for line in pairs for pair in line)


def test_the_services_are_the_parts_of_the_local_stack() -> None:
    assert set(services()) == set(PARTS) | SERVERS | WATCHERS | {ONE_SHOT}


@pytest.mark.parametrize("name", PARTS)
def test_a_service_runs_the_command_of_its_part(name: str) -> None:
    command = services()[name]["command"]
    assert command == PARTS[name]
    assert command[0] in COMMANDS


def test_init_creates_topics_and_tables_with_commands_that_exist() -> None:
    script = services()[ONE_SHOT]["entrypoint"][-1]
    commands = [step.split() for step in script.split(" && ")]
    assert commands == [
        ["tideline", "topics", "--create"], ["tideline", "migrate"], ["tideline", "models", "init"]
    ]  # fmt: skip
    assert all(command[1] in COMMANDS for command in commands)
    assert services()[ONE_SHOT]["restart"] == "no"


@pytest.mark.parametrize("name", [*PARTS, ONE_SHOT])
def test_settings_name_what_the_defaults_name(name: str) -> None:
    ours, default = settings_of(services()[name]), Settings()
    for table, names in NAMES.items():
        here, usual = getattr(ours, table), getattr(default, table)
        assert [getattr(here, n) for n in names] == [getattr(usual, n) for n in names], table
    assert wanted(ours) == topics(default.topic_names, default.kafka.partitions)


def test_all_parts_have_the_same_settings() -> None:
    environments = {name: services()[name]["environment"] for name in [*PARTS, ONE_SHOT]}
    environments["lag"].pop("TIDELINE_LAG_CANARY_INTERVAL_SECONDS")  # others send none
    environments["deliver"].pop("TIDELINE_DELIVER_DESTINATIONS_FILE")  # nor anything to others
    own = [name for name in environments["console"] if name.startswith("TIDELINE_CONSOLE_")]
    assert [environments["console"].pop(name) for name in own]  # where it listens, and for whom
    assert all(environment == environments["worker"] for environment in environments.values())


def test_an_unknown_setting_would_be_refused() -> None:
    service = services()["worker"]
    service["environment"] = {**service["environment"], "TIDELINE_APPID": "x"}
    with pytest.raises(Exception, match="TIDELINE_APPID: no such setting"):
        settings_of(service)


def test_settings_can_be_set_from_the_environment() -> None:
    there = settings_of(
        services(TIDELINE_KAFKA_PARTITIONS="12", TIDELINE_KAFKA_APP_ID="shop")["worker"]
    )
    assert (there.kafka.partitions, there.kafka.app_id) == (12, "shop")
    known = set().union(*(services()[name]["environment"] for name in PARTS))
    for name in re.findall(r"\$\{(\w+)", COMPOSE.read_text()):
        assert name == "TIDELINE_IMAGE_TAG" or name in known, name


def test_one_password_for_server_and_clients_in_a_file_that_can_be_named() -> None:
    for text, file in ((COMPOSE.read_text(), "./deploy/compose-password"),):
        document = yaml.safe_load(interpolated(text, {}))
        assert document["secrets"] == {"clickhouse_password": {"file": file}}
        assert (ROOT / file).read_text().strip()
    named = yaml.safe_load(
        interpolated(COMPOSE.read_text(), {"TIDELINE_CLICKHOUSE_PASSWORD_FILE": "/x/y"})
    )
    assert named["secrets"]["clickhouse_password"]["file"] == "/x/y"
    found = services(TIDELINE_CLICKHOUSE_USER="shop")
    server = found["clickhouse"]
    assert server["environment"]["CLICKHOUSE_USER"] == "shop"
    assert server["environment"]["CLICKHOUSE_PASSWORD_FILE"] == SECRET
    assert settings_of(found["worker"]).clickhouse.user == "shop"
    for name in [*PARTS, ONE_SHOT, "clickhouse", "grafana"]:
        assert found[name]["secrets"] == ["clickhouse_password"]


def test_no_environment_holds_a_password() -> None:
    for name, service in services().items():
        for key in service.get("environment", {}):
            assert "PASSWORD" not in key or key.endswith("_FILE"), f"{name}: {key}"


def test_servers_can_t_gain_rights() -> None:
    for name in SERVERS | WATCHERS:
        assert services()[name]["security_opt"] == ["no-new-privileges:true"], name


def test_addresses_are_those_of_the_servers() -> None:
    found, ours = services(), settings_of(services()["worker"])
    host, port = ours.kafka.brokers[0].split(":")
    assert host in found
    kafka = found["kafka"]["environment"]
    assert f"INSIDE://{host}:{port}" in kafka["KAFKA_ADVERTISED_LISTENERS"]
    assert f"INSIDE://:{port}" in kafka["KAFKA_LISTENERS"]
    assert ours.clickhouse.host in found
    assert f"127.0.0.1:9000:{ours.clickhouse.port}" in found["clickhouse"]["ports"]


def test_the_broker_is_the_local_one_in_version_and_settings() -> None:
    kafka = services()["kafka"]
    assert kafka["image"] == f"apache/kafka:{local_kafka.KAFKA_VERSION}"
    local = dict(
        line.split("=", 1) for line in local_kafka._SERVER.splitlines() if "=" in line[:60]
    )
    for name in BROKER_SETTINGS:
        key = "KAFKA_" + name.upper().replace(".", "_")
        theirs, ours = kafka["environment"][key], local[name]
        assert sorted(theirs.split(",")) == sorted(ours.split(",")), name


def test_every_image_is_pinned() -> None:
    for name in SERVERS | WATCHERS:
        assert re.fullmatch(r"[\w/.-]+:v?\d+\.\d+(\.\d+)*", services()[name]["image"]), name


def test_every_port_is_on_loopback() -> None:
    for name, service in services().items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name}: {port}"


@pytest.mark.parametrize("name", sorted(SERVERS | WATCHERS))
def test_a_server_has_a_health_check(name: str) -> None:
    assert services()[name]["healthcheck"]["test"][0] == "CMD"


def test_every_service_has_limits() -> None:
    for name, service in services().items():
        assert re.fullmatch(r"\d+g", service["mem_limit"]), name
        assert service["pids_limit"] > 0, name


@pytest.mark.parametrize("name", sorted(WATCHERS))
def test_watchers_run_without_rights_on_a_read_only_disk(name: str) -> None:
    service = services()[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["user"].split(":")[0] not in {"0", "root"}
    own = [v for v in service["volumes"] if not v.endswith(":ro")]
    assert [v.split(":")[0] for v in own] == [name], "what is ours it only reads"


def test_prometheus_finds_each_part_by_its_name_and_port() -> None:
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    found = set()
    for job in config["scrape_configs"]:
        for place in job.get("dns_sd_configs", []):
            found |= {(job["job_name"], name, place["port"]) for name in place["names"]}
        for place in job.get("static_configs", []):
            for host, port in (target.split(":") for target in place["targets"]):
                found.add((job["job_name"], host, int(port)))
    parts = {
        (f"tideline-{name}", name, settings_of(services()[name]).web.metrics_port) for name in PARTS
    }
    assert parts == {each for each in found if each[0] != "prometheus"}
    assert services()["worker"]["scale"] == 2
    mounted = services()["prometheus"]["volumes"][0].split(":")
    assert (ROOT / mounted[0] / "prometheus.yml").exists()
    assert f"--config.file={mounted[1]}/prometheus.yml" in services()["prometheus"]["command"]


def test_grafana_s_sources_and_dashboards_are_where_it_looks() -> None:
    grafana = services()["grafana"]
    places = {v.split(":")[1]: ROOT / v.split(":")[0] for v in grafana["volumes"][:2]}
    provisioning = places["/etc/grafana/provisioning"]
    providers = yaml.safe_load((provisioning / "dashboards/tideline.yml").read_text())
    (provider,) = providers["providers"]
    assert list(places[provider["options"]["path"]].glob("*.json"))
    text = (provisioning / "datasources/tideline.yml").read_text()
    assert set(re.findall(r"\$__env\{(\w+)\}", text)) <= grafana["environment"].keys()
    assert set(re.findall(r"\$__file\{([^}]+)\}", text)) == {SECRET}
    for source in yaml.safe_load(text)["datasources"]:
        host = source.get("url", "").removeprefix("http://") or "{host}:{port}".format(
            **source["jsonData"]
        )
        assert host in {"prometheus:9090", "clickhouse:9000"}


def test_parts_wait_for_init_and_init_for_healthy_servers() -> None:
    found = services()
    for name in PARTS:
        needs = found[name]["depends_on"]
        assert needs == {ONE_SHOT: {"condition": "service_completed_successfully"}}
        assert "healthcheck" not in found[name]  # the image's own
    needs = found[ONE_SHOT]["depends_on"]
    assert needs == {name: {"condition": "service_healthy"} for name in SERVERS}


@pytest.mark.parametrize("name", [*PARTS, ONE_SHOT])
def test_parts_run_without_rights_on_a_read_only_disk(name: str) -> None:
    service = services()[name]
    assert service["read_only"]
    assert service["tmpfs"] == ["/tmp"]  # noqa: S108  (in the container)
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_models_are_where_the_settings_look_and_only_those_who_must_can_write_there() -> None:
    for name in [*PARTS, ONE_SHOT]:
        service = services()[name]
        where = settings_of(service).model.artifact
        mode = "" if name in {"trainer", ONE_SHOT} else ":ro"
        assert service["volumes"][0] == f"models:{where}{mode}"
    made = [rest for word, rest in stages()[-1] if word == "RUN" and "/models" in rest]
    assert len(made) == 1, "a new volume takes the owner from the image"
    assert "--owner=10001" in made[0]


def test_who_delivers_runs_only_if_asked_and_finds_its_file() -> None:
    service = services()["deliver"]
    assert service["profiles"] == ["deliver"]
    assert not any("profiles" in services()[name] for name in set(PARTS) - {"deliver", "console"})
    here, there, mode = service["volumes"][1].split(":")
    file = service["environment"]["TIDELINE_DELIVER_DESTINATIONS_FILE"]
    assert (mode, Path(file).parent) == ("ro", Path(there))
    raw = (ROOT / here / Path(file).name).read_bytes().replace(b"secret_file", b"secret_env")
    variable = f"{there}/crm.secret"  # in the container, a file
    (crm,) = read_destinations(raw, file, {variable: "0" * 32})
    assert crm.format == "webhook"


def test_the_console_runs_only_if_asked_and_lets_nobody_in_who_was_not_named() -> None:
    service = services()["console"]
    assert service["profiles"] == ["console"]
    here, there, mode = service["volumes"][1].split(":")
    console = settings_of(service).console
    file = Path(console.tokens_file)
    assert (mode, file.parent) == ("ro", Path(there))
    with pytest.raises(SettingsError, match="nobody could come in"):
        read_tokens(ROOT / here / file.name)
    published = f"127.0.0.1:{console.port}:{console.port}"
    assert published in service["ports"]
    assert console.public_url == f"http://127.0.0.1:{console.port}"
    assert console.lag_url == "http://lag:9464"


def test_only_the_images_of_trainer_and_console_have_what_these_need() -> None:
    locks = {name: services()[name]["build"].get("args", {}) for name in PARTS}
    assert locks == {name: {} for name in PARTS} | {
        "trainer": {"LOCK": "trainer.lock"}, "console": {"LOCK": "console.lock"},
    }  # fmt: skip
    images = {name: services()[name]["image"] for name in PARTS}
    assert [name for name in PARTS if images[name] != images["worker"]] == ["trainer", "console"]
    locked = set(re.findall(r"^([\w.-]+)==", TRAINER_LOCK.read_text(), re.MULTILINE))
    assert {"lightgbm", "onnx", "s3fs"} <= locked
    assert not locked & {"chdb", "pytest", "mypy", "pip"}


def test_published_metrics_are_where_the_settings_serve_them() -> None:
    for name in PARTS:
        web = settings_of(services()[name]).web
        assert web.metrics_host == "0.0.0.0"
        assert services()[name]["ports"][-1].endswith(f":{web.metrics_port}")


def test_the_image_is_built_here_in_two_stages() -> None:
    build = services()["worker"]["build"]
    assert (ROOT / build["context"] / build["dockerfile"]).resolve() == DOCKERFILE
    assert len(stages()) == 2
    copied = [rest for word, rest in stages()[-1] if word == "COPY"]
    assert copied == ["--from=build /opt/tideline /opt/tideline"]


def test_the_image_copies_what_there_is_and_its_context_lets_through() -> None:
    allowed = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().splitlines()
    for word, rest in stages()[0]:
        if word == "COPY":
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert f"!{source}" in allowed, source


def test_the_image_runs_as_an_unprivileged_user() -> None:
    users = [rest for word, rest in stages()[-1] if word == "USER"]
    assert users == ["10001:10001"]


def test_the_image_installs_only_wheels_and_no_system_package_but_the_trainer_s() -> None:
    runs = [rest for word, rest in instructions() if word == "RUN"]
    text = "\n".join(runs)
    (system,) = (run for run in runs if re.search(r"apt|apk|gcc|build-essential", run))
    assert system.startswith('if [ "$LOCK" = trainer.lock ]; then')
    assert re.findall(r"install --yes --no-install-recommends (.*?) &&", system) == ["libgomp1"]
    assert "--require-hashes --only-binary :all: --requirement locks/runtime.lock" in text


@pytest.mark.parametrize("lock", IMAGE_LOCKS, ids=lambda lock: lock.name)
def test_the_image_has_neither_training_nor_test_packages(lock: Path) -> None:
    locked = set(re.findall(r"^([\w.-]+)==", lock.read_text(), re.MULTILINE))
    assert {"onnxruntime", "faust-streaming", "river"} <= locked
    assert not locked & {"onnx", "lightgbm", "pandas", "pyarrow", "chdb", "pytest", "mypy", "pip"}


def test_the_image_starts_a_command_and_checks_its_health() -> None:
    last = dict(stages()[-1])
    assert json.loads(last["ENTRYPOINT"]) == ["tideline"]
    assert json.loads(last["CMD"])[0] in COMMANDS
    check = last["HEALTHCHECK"]
    program = json.loads(check[check.index("CMD ") + 4 :])
    assert program[:2] == ["python", "-c"]
    compile(program[2], "HEALTHCHECK", "exec")
    named = set(re.findall(r"TIDELINE_\w+", program[2]))
    assert named <= set(image_environment())


def test_the_image_s_settings_are_settings() -> None:
    environ = {k: v for k, v in image_environment().items() if k.startswith("TIDELINE_")}
    assert load(environ).log.format == "json"
