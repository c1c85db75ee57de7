"""deploy/kubernetes renders, fits Kubernetes' own schemas, and is what Tideline needs.

KEDA's and the Prometheus operator's objects have no schema here: of these, only what is named below
is checked.
"""

from __future__ import annotations

import copy
import shutil
import subprocess
from functools import cache
from typing import Any

import kubernetes_validate
import pytest
import yaml

from streams.cli import COMMANDS
from streams.deliver.destinations import read_destinations
from streams.settings import Settings, describe, load
from streams.worker import STOP_SECONDS
from tests.deploy.files import PROMETHEUS, ROOT, alerts
from tests.deploy.promql import selectors

KUBERNETES = ROOT / "deploy" / "kubernetes"
BASE, PRODUCTION = "base", "overlays/production"
VERSIONS = ("1.30", kubernetes_validate.latest_version())
WORKLOADS = ("StatefulSet", "Deployment", "Job")
FOREIGN = {"ScaledObject", "PodMonitor"}
OTHER_ENVIRONMENT = {"TIDELINE_CLICKHOUSE_PASSWORD_FILE"}

pytestmark = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl is missing; install it to render kustomize"
)


@cache
def _rendered(place: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        ["kubectl", "kustomize", str(KUBERNETES / place)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr
    return list(yaml.safe_load_all(done.stdout))


def rendered(place: str = PRODUCTION) -> list[dict[str, Any]]:
    return copy.deepcopy(_rendered(place))


def kinds(*wanted: str, place: str = PRODUCTION) -> dict[str, dict[str, Any]]:
    """Name -> object."""
    return {each["metadata"]["name"]: each for each in rendered(place) if each["kind"] in wanted}


def pod(workload: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = workload["spec"]["template"]["spec"]
    return found


def container(workload: dict[str, Any]) -> dict[str, Any]:
    (only,) = pod(workload)["containers"]
    assert only["name"] == "tideline"
    found: dict[str, Any] = only
    return found


def environment(workload: dict[str, Any]) -> dict[str, str]:
    """What a container gets, but for what is secret."""
    (config,) = (c for n, c in kinds("ConfigMap").items() if n.startswith("tideline-settings"))
    own = {each["name"]: each.get("value", "from-the-pod") for each in container(workload)["env"]}
    return {**config["data"], **own}


each_workload = pytest.mark.parametrize(
    "name",
    [
        "tideline-" + each
        for each in ("init", "worker", "learner", "lag", "trainer", "deliver", "console")
    ],
)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("place", [BASE, PRODUCTION])
def test_every_object_fits_kubernetes_own_schema(place: str, version: str) -> None:
    for each in rendered(place):
        if each["kind"] not in FOREIGN:
            kubernetes_validate.validate(each, version, strict=True)


def test_a_wrong_field_would_be_found() -> None:
    worker = kinds("StatefulSet")["tideline-worker"]
    pod(worker)["terminationGracePeriod"] = 60
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(worker, VERSIONS[-1], strict=True)


@each_workload
def test_settings_are_ones_that_tideline_takes(name: str) -> None:
    found = environment(kinds(*WORKLOADS)[name])
    known = {row.env for row in describe(Settings())} | OTHER_ENVIRONMENT
    assert {each for each in found if each.startswith("TIDELINE_")} <= known
    secret = {"TIDELINE_KAFKA_PASSWORD": "x"}
    settings = load({n: v for n, v in found.items() if n not in OTHER_ENVIRONMENT} | secret)
    assert settings.kafka.replication_factor == 3
    assert settings.kafka.min_insync_replicas == 2
    if name.endswith("-deliver"):
        assert "TIDELINE_CLICKHOUSE_USER" not in found, "it needs no ClickHouse"
    else:
        assert settings.clickhouse.user in _users()


def _users() -> set[str]:
    text = (ROOT / "deploy" / "clickhouse" / "2_users.sql").read_text()
    return {line.split()[5] for line in text.splitlines() if line.startswith("CREATE USER")}


@each_workload
def test_a_command_is_one_of_tidelines(name: str) -> None:
    found = container(kinds(*WORKLOADS)[name])
    if name.endswith("-init"):
        steps = [step.split() for step in found["command"][-1].split(" && ")]
        assert [step[0] for step in steps] == ["tideline"] * len(steps)
        assert {step[1] for step in steps} == {"topics", "migrate", "models"}
    else:
        assert found["args"][0] in COMMANDS
        assert name == f"tideline-{found['args'][0]}"


@each_workload
def test_a_pod_has_no_rights_and_no_writable_disk_but_tmp(name: str) -> None:
    workload = kinds(*WORKLOADS)[name]
    spec, only = pod(workload), container(workload)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 10001, "the image's user"
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    writable = {each["mountPath"] for each in only["volumeMounts"] if not each.get("readOnly")}
    assert writable == {"/tmp"}  # noqa: S108
    assert "memory" in only["resources"]["limits"]
    assert "cpu" not in only["resources"]["limits"], "a throttled worker falls behind"


@each_workload
def test_kubernetes_adds_no_settings_and_signals_arrive(name: str) -> None:
    """A service `tideline-worker` would give each pod TIDELINE_WORKER_SERVICE_HOST."""
    spec = pod(kinds(*WORKLOADS)[name])
    assert spec["enableServiceLinks"] is False
    assert spec["shareProcessNamespace"] is True


@each_workload
def test_no_secret_is_in_the_files(name: str) -> None:
    assert not kinds("Secret")
    workload = kinds(*WORKLOADS)[name]
    assert not any("PASSWORD" in key and "FILE" not in key for key in environment(workload))
    secret, *others = [v["secret"] for v in pod(workload)["volumes"] if "secret" in v]
    console = [{"secretName": "tideline-console"}] if name.endswith("-console") else []
    assert others == console
    if name.endswith("-deliver"):
        assert secret == {"secretName": "tideline-destinations"}
        return
    assert [item["path"] for item in secret["items"]] == ["password"]
    user = environment(workload)["TIDELINE_CLICKHOUSE_USER"]
    assert user == f"tideline_{secret['items'][0]['key']}"


@each_workload
def test_what_runs_on_is_probed_and_has_time_to_stop(name: str) -> None:
    if name.endswith("-init"):
        return
    workload = kinds(*WORKLOADS)[name]
    only = container(workload)
    own = [{"name": "console", "containerPort": 8380}] if name.endswith("-console") else []
    assert only["ports"] == [*own, {"name": "metrics", "containerPort": 9464}]
    assert environment(workload)["TIDELINE_WEB_METRICS_PORT"] == "9464"
    paths = {
        probe: only[probe]["httpGet"] for probe in
        ("startupProbe", "livenessProbe", "readinessProbe")
    }  # fmt: skip
    alive, ready = ({"path": p, "port": "metrics"} for p in ("/healthz", "/readyz"))
    assert paths == {"startupProbe": alive, "livenessProbe": alive, "readinessProbe": ready}
    assert pod(workload)["terminationGracePeriodSeconds"] >= 2 * STOP_SECONDS


def test_a_worker_has_a_static_name_that_outlives_its_restart() -> None:
    worker = kinds("StatefulSet")["tideline-worker"]
    (name,) = (e for e in container(worker)["env"] if e["name"] == "TIDELINE_KAFKA_INSTANCE_ID")
    assert name["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    session = float(environment(worker)["TIDELINE_KAFKA_SESSION_TIMEOUT_SECONDS"])
    assert session > Settings().kafka.session_timeout_seconds
    assert "replicas" not in worker["spec"], "KEDA's"
    spread = pod(worker)["topologySpreadConstraints"]
    assert {each["topologyKey"] for each in spread} == {
        "topology.kubernetes.io/zone", "kubernetes.io/hostname",
    }  # fmt: skip
    others = kinds("Deployment").values()
    assert all("TIDELINE_KAFKA_INSTANCE_ID" not in environment(each) for each in others)
    assert all(each["spec"]["strategy"] == {"type": "Recreate"} for each in others)


def test_who_delivers_gets_a_file_of_destinations_that_can_be_used() -> None:
    deliver = kinds("Deployment")["tideline-deliver"]
    mounts = {m["name"]: m["mountPath"] for m in container(deliver)["volumeMounts"]}
    (volume,) = (v["configMap"] for v in pod(deliver)["volumes"] if "configMap" in v)
    (name, text), = kinds("ConfigMap")[volume["name"]]["data"].items()  # fmt: skip
    file = environment(deliver)["TIDELINE_DELIVER_DESTINATIONS_FILE"]
    assert file == f"{mounts['destinations']}/{name}"
    secret = f"{mounts['secrets']}/crm"
    assert f'secret_file = "{secret}"' in text
    raw = text.replace("secret_file", "secret_env").encode()
    assert read_destinations(raw, file, {secret: "0" * 32})


def test_the_console_is_reached_by_the_ingress_alone_and_reaches_the_lag_monitor() -> None:
    console, policies = kinds("Deployment")["tideline-console"], kinds("NetworkPolicy")
    settings = environment(console)
    mounts = {m["name"]: m["mountPath"] for m in container(console)["volumeMounts"]}
    assert settings["TIDELINE_CONSOLE_TOKENS_FILE"] == f"{mounts['tokens']}/tokens.toml"
    assert settings["TIDELINE_CONSOLE_PUBLIC_URL"].startswith("https://")
    services = kinds("Service")
    (port,) = services["tideline-console"]["spec"]["ports"]
    assert str(port["port"]) == settings["TIDELINE_CONSOLE_PORT"]
    (lag,) = services["tideline-lag"]["spec"]["ports"]
    assert settings["TIDELINE_CONSOLE_LAG_URL"] == f"http://tideline-lag:{lag['port']}"
    for name in ("tideline-console", "tideline-lag"):
        service, deployment = services[name], kinds("Deployment")[name]
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert service["spec"]["selector"].items() <= labels.items()
        ports = {each["name"] for each in container(deployment)["ports"]}
        assert {each["targetPort"] for each in service["spec"]["ports"]} <= ports
    (people,) = policies["tideline-console"]["spec"]["ingress"]
    assert [each["port"] for each in people["ports"]] == ["console"]
    assert people["from"], "a rule without `from` lets everybody in"
    (out,) = policies["tideline-console"]["spec"]["egress"]
    (asked,) = policies["tideline-lag"]["spec"]["ingress"]
    assert out["to"] == [
        {"podSelector": {"matchLabels": services["tideline-lag"]["spec"]["selector"]}}
    ]
    assert asked["from"] == [
        {"podSelector": {"matchLabels": services["tideline-console"]["spec"]["selector"]}}
    ]
    assert [each["port"] for each in (*out["ports"], *asked["ports"])] == ["metrics", "metrics"]


def test_one_worker_at_a_time_may_be_taken_away() -> None:
    (budget,) = kinds("PodDisruptionBudget").values()
    assert budget["spec"]["maxUnavailable"] == 1
    labels = kinds("StatefulSet")["tideline-worker"]["spec"]["template"]["metadata"]["labels"]
    assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_the_network_lets_in_only_whoever_collects_metrics() -> None:
    spec = kinds("NetworkPolicy")["tideline"]["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert [port["port"] for rule in spec["ingress"] for port in rule["ports"]] == ["metrics"]
    out = {port["port"] for rule in spec["egress"] for port in rule["ports"]}
    worker = environment(kinds("StatefulSet")["tideline-worker"])
    assert int(worker["TIDELINE_CLICKHOUSE_PORT"]) in out
    assert {int(b.split(":")[1]) for b in worker["TIDELINE_KAFKA_BROKER_URL"].split(",")} <= out
    for workload in kinds(*WORKLOADS).values():
        labels = workload["spec"]["template"]["metadata"]["labels"]
        assert spec["podSelector"]["matchLabels"].items() <= labels.items()


def test_scaling_goes_by_the_workers_lag_and_down_slowly() -> None:
    (scaled,) = kinds("ScaledObject").values()
    spec = scaled["spec"]
    worker = kinds("StatefulSet")["tideline-worker"]
    settings = environment(worker)
    target = spec["scaleTargetRef"]
    assert (target["kind"], target["name"]) == (worker["kind"], worker["metadata"]["name"])
    assert spec["minReplicaCount"] >= 1
    assert spec["maxReplicaCount"] == int(settings["TIDELINE_KAFKA_PARTITIONS"])
    triggers = [each["metadata"] for each in spec["triggers"]]
    assert [each["topic"] for each in triggers] == [
        settings["TIDELINE_KAFKA_CLICKSTREAM_TOPIC"], settings["TIDELINE_KAFKA_ORDERS_TOPIC"],
    ]  # fmt: skip
    assert {each["consumerGroup"] for each in triggers} == {settings["TIDELINE_KAFKA_APP_ID"]}
    assert {each["excludePersistentLag"] for each in triggers} == {"true"}
    # A partition whose offset has not moved since the last look is left out.
    assert all(each["useCachedMetrics"] for each in spec["triggers"])
    assert spec["pollingInterval"] > Settings().stream.checkpoint_interval_seconds
    down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    assert down["stabilizationWindowSeconds"] == 3600, "the most that Kubernetes takes"
    assert down["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 1800}]


def test_the_jobs_that_rules_ask_for_are_names_of_pods() -> None:
    (monitor,) = kinds("PodMonitor").values()
    label = monitor["spec"]["jobLabel"]
    names = {w["spec"]["template"]["metadata"]["labels"][label] for w in kinds(*WORKLOADS).values()}
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    jobs = {each["job_name"] for each in config["scrape_configs"]} - {"prometheus"}
    assert jobs == names - {"tideline-init"}
    asked = {
        value
        for alert in alerts()
        for selector in selectors(alert.expression)
        for name, operator, value in selector.matchers
        if name == "job" and operator == "="
    }
    assert asked <= jobs
