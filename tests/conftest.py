"""The servers that tests run on, one of each per process, and which brokers were really used. All
processes of `make test` share one Apache Kafka (`tests/one_broker.py`).

`kafka` tests run on Apache Kafka where Java and Maven exist, else on the local broker, and the
summary says which. With CI=true there is no "else": a missing Kafka fails the run.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest

from streams.clickhouse.client import ClickHouseTarget
from streams.local import kafka
from streams.local.clickhouse import ChdbServer
from streams.local.kafka import ApacheKafka
from streams.local.tansu import TansuBroker
from tests.databases import Databases
from tests.one_broker import BrokerLender, borrowed

# Several processes train at once on few cores. While one of LightGBM's threads waits for another,
# it spins, and keeps the one it waits for from a core: a training took 37 s of CPU in place of 8.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Where the machine says that no bytecode be kept, as images do, each of the hundreds of processes
# that tests start would compile our modules again (0.3 s of a worker's 1.3 s), and each process of
# pytest would rewrite every test (8 s).
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Nothing that is imported or collected becomes garbage; looking for it takes a tenth of that time.
gc.disable()

# How long an example takes depends on who else is busy here; pytest-timeout finds what hangs.
hypothesis.settings.register_profile("tideline", deadline=None)
hypothesis.settings.load_profile("tideline")

_USED = pytest.StashKey[dict[str, str]]()
_LENDER = pytest.StashKey[BrokerLender]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("tideline")
    group.addoption("--faults", action="store_true", help="every fault, not only the quick ones")
    group.addoption("--seed", type=int, default=1, help="of the faults' loads and moments")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--faults"):
        full = [item for item in items if item.get_closest_marker("full")]
        config.hook.pytest_deselected(items=full)
        items[:] = [item for item in items if item not in set(full)]
    # Of several processes one begins with these. If they came last, the others would wait for them.
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    gc.enable()
    gc.freeze()  # nor is what was collected looked at by each full collection in the tests


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_USED] = {}
    if config.pluginmanager.hasplugin("xdist"):  # its hooks are known only then
        config.pluginmanager.register(_Workers())


def pytest_unconfigure(config: pytest.Config) -> None:
    if _LENDER in config.stash:  # all processes have ended
        config.stash[_LENDER].stop()


def pytest_report_header(config: pytest.Config) -> str:
    missing = kafka.available()
    found = f"Apache Kafka {kafka.KAFKA_VERSION}" if missing is None else f"Tansu ({missing})"
    return f"broker of the kafka tests: {found}"


class _Workers:
    """Lends the processes of `pytest -n` a broker, and takes over what they used; there only where
    pytest-xdist is."""

    @pytest.hookimpl
    def pytest_configure_node(self, node: Any) -> None:
        config = node.config
        if config.getoption("--faults"):
            return
        if _LENDER not in config.stash:
            directory = config._tmp_path_factory.mktemp("one-broker")
            config.stash[_LENDER] = BrokerLender(directory / "apache-kafka")
        node.workerinput["broker_lender"] = config.stash[_LENDER].port

    @pytest.hookimpl
    def pytest_testnodedown(self, node: Any) -> None:
        used = getattr(node, "workeroutput", {}).get("brokers_used", {})  # none if it crashed
        node.config.stash[_USED].update(used)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["brokers_used"] = session.config.stash[_USED]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    used = terminalreporter.config.stash[_USED]
    if used:
        versions = ", ".join(f"{name} {version}".strip() for name, version in sorted(used.items()))
        terminalreporter.write_line(f"brokers used: {versions}")


def _in_ci() -> bool:
    return os.environ.get("CI", "").lower() in {"true", "1"}


@pytest.fixture(scope="session")
def apache_kafka(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApacheKafka]:
    """The real broker: nobody may stop it. Skips where it can't run; in CI that is a failure."""
    missing = kafka.available()
    if missing is not None:
        if _in_ci():
            pytest.fail(f"CI must run on Apache Kafka: {missing}")
        pytest.skip(missing)
    directory = tmp_path_factory.mktemp("apache-kafka")
    pytestconfig.stash[_USED]["Apache Kafka"] = ApacheKafka.version
    lender = getattr(pytestconfig, "workerinput", {}).get("broker_lender")
    if lender is not None:
        yield borrowed(lender, directory)
        return
    with ApacheKafka(directory) as broker:
        yield broker


@pytest.fixture(scope="session")
def tansu(pytestconfig: pytest.Config) -> Iterator[TansuBroker]:
    """The local broker."""
    with TansuBroker() as broker:
        pytestconfig.stash[_USED]["Tansu"] = ""
        yield broker


@pytest.fixture(scope="session")
def kafka_broker(request: pytest.FixtureRequest) -> ApacheKafka | TansuBroker:
    """Apache Kafka where it can run, else the local broker."""
    real = kafka.available() is None or _in_ci()
    broker: ApacheKafka | TansuBroker = request.getfixturevalue("apache_kafka" if real else "tansu")
    return broker


@pytest.fixture(scope="session")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChdbServer]:
    """A ClickHouse (chDB behind the local front); every test has databases of its own in it."""
    with ChdbServer(tmp_path_factory.mktemp("clickhouse") / "data") as server:
        yield server


@pytest.fixture(scope="session")
def databases(clickhouse: ChdbServer) -> Databases:
    """Migrated databases in it, without rows."""
    return Databases(clickhouse.host, clickhouse.port)


@pytest.fixture
def target(databases: Databases) -> Iterator[ClickHouseTarget]:
    """A migrated database without rows."""
    with databases.lent() as target:
        yield target
