"""Run the real Apache Kafka on loopback: one KRaft node, from Maven artifacts, on Java 17 or newer.

The integration and fault tests need what only the real broker does: a log on disk that survives
SIGKILL, the group coordinator's own timing, exact end offsets.

The first start fills the cache, `$TIDELINE_CACHE` or `~/.cache/tideline`, once (about 20 s, 45 MB):

    kafka-<version>/jars/       the broker with its dependencies, copied by Maven (`kafka-pom.xml`)
    kafka-<version>/formatted/  an empty formatted storage directory; every broker starts as a copy
    kafka-<version>/classes.jsa Java's class archive; it halves the start time

Later starts need no Maven and no network.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from xml.etree import ElementTree

from schemas.errors import LocalStackError
from streams.kafka import clients
from streams.kafka.access import KafkaAccess
from streams.local.process import LOOPBACK, ChildProcess, free_port
from streams.local.server import LocalServer
from streams.settings import Secret

__all__ = ["KAFKA_VERSION", "ApacheKafka", "Secure", "available", "cache_dir"]

_POM = Path(__file__).with_name("kafka-pom.xml")
_INSTALL_TIMEOUT_SECONDS = 600.0
_MIN_JAVA = 17

# One short-lived broker on a small machine: start fast, stay small.
_JAVA_OPTIONS = ("-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xlog:disable")

_LOG4J = """\
rootLogger.level=warn
rootLogger.appenderRefs=stdout
rootLogger.appenderRef.stdout.ref=STDOUT
appender.console.type=Console
appender.console.name=STDOUT
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d{ISO8601} %p %m (%c)%n
"""

_SERVER = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
controller.listener.names=CONTROLLER
{listeners}
log.dirs={log_dir}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# For tests: the first join is immediate, and short sessions are allowed.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# After SIGKILL the node may register again once its old session is over.
broker.session.timeout.ms={session_ms}
broker.heartbeat.interval.ms=300
# Without these records, two a second, an idle broker takes a quarter less of a core.
metadata.max.idle.interval.ms=0
"""

_PLAIN_LISTENERS = """\
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
"""

# Nothing but the controller, which only the node itself uses, is open without TLS.
_SECURE_LISTENERS = """\
listeners=SASL_SSL://{host}:{port},MTLS://{host}:{mtls_port},CONTROLLER://{host}:{controller_port}
advertised.listeners=SASL_SSL://{host}:{port},MTLS://{host}:{mtls_port}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,MTLS:SSL
inter.broker.listener.name=MTLS
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.mtls.ssl.client.auth=required
ssl.keystore.type=PEM
ssl.keystore.location={certificate}
ssl.truststore.type=PEM
ssl.truststore.location={authority}
"""


@dataclass(frozen=True)
class Secure:
    """Listeners that let in known users and certificates only, in place of the open one.

    certificate: PEM file with the broker's private key and certificate, for 127.0.0.1.
    authority: PEM file of the CA that signed it, and signs those of clients.
    users: SCRAM-SHA-512 users and their passwords.
    """

    certificate: Path
    authority: Path
    users: Mapping[str, str] = field(repr=False)


def _version() -> str:
    version = ElementTree.parse(_POM).findtext(".//{*}kafka.version")  # noqa: S314  (our own file)
    if version is None:
        raise LocalStackError(f"{_POM.name} names no kafka.version; restore the file.")
    return version


KAFKA_VERSION = _version()
"""The Kafka release that runs locally, for example `4.3.1`."""


def cache_dir() -> Path:
    """Where downloads are kept: `$TIDELINE_CACHE`, else `~/.cache/tideline`."""
    return Path(os.environ.get("TIDELINE_CACHE") or Path.home() / ".cache" / "tideline")


def available() -> str | None:
    """Why Apache Kafka can't run here, in words for a skipped test; None if it can.

    Maven counts only until the cache is filled. Whether its repository answers shows at the start.
    """
    java = _java_release()
    if java is None:
        return f"Java is missing; install a JRE {_MIN_JAVA} or newer"
    if java < _MIN_JAVA:
        return f"Java {java} is too old; install a JRE {_MIN_JAVA} or newer"
    if not (_home() / "jars").is_dir() and shutil.which("mvn") is None:
        return "Maven (mvn) is missing and the Kafka jars are not in the cache yet; install Maven"
    return None


class ApacheKafka(LocalServer):
    """One Kafka node whose data, settings and log live in `data_dir`.

    `secure` replaces the open listener by one with TLS and SCRAM-SHA-512, and one with TLS and
    client certificates. `start` raises LocalStackError also when Java or Maven fail.
    """

    name = "Apache Kafka"
    version = KAFKA_VERSION
    ready_seconds = 120.0
    stop_seconds = 15.0

    def __init__(
        self,
        data_dir: Path,
        port: int = 0,
        secure: Secure | None = None,
        session_seconds: float = 1.5,
    ) -> None:
        """With `secure` the port takes SASL_SSL. After `session_seconds` without processor time
        the node's own controller takes it for dead; a node that was killed may start again after
        so long."""
        self.data_dir = data_dir.resolve()
        super().__init__(self.data_dir, port)
        self.mtls_port = 0
        """With `secure`: the port that asks for a client certificate instead of a password."""
        self._secure = secure
        self._session_ms = round(session_seconds * 1000)

    def _program(self, directory: Path) -> ChildProcess:
        home = _install()
        if self._secure is not None and not (directory / "log").exists():
            directory.mkdir(parents=True, exist_ok=True)
            _format(home, directory / "log", self._secure.users)
        return _broker(home, directory, self._listeners(), session_ms=self._session_ms)

    def _listeners(self) -> dict[str, object]:
        """What the listeners' part of the settings takes."""
        if self._secure is None:
            return {"template": _PLAIN_LISTENERS, "port": self.port}
        self.mtls_port = self.mtls_port or free_port()
        return {
            "template": _SECURE_LISTENERS,
            "port": self.port,
            "mtls_port": self.mtls_port,
            "certificate": self._secure.certificate,
            "authority": self._secure.authority,
        }

    def _answers(self) -> bool:
        return super()._answers() and _lists_itself(self._access())

    def _access(self) -> KafkaAccess:
        """How a client of this process gets in."""
        if self._secure is None:
            return KafkaAccess((self.bootstrap,))
        user, password = next(iter(self._secure.users.items()))
        return KafkaAccess(
            (self.bootstrap,),
            security="sasl_ssl",
            ca_file=str(self._secure.authority),
            username=user,
            password=Secret(password),
        )


def _home() -> Path:
    return cache_dir() / f"kafka-{KAFKA_VERSION}"


@functools.cache
def _java_release() -> int | None:
    if shutil.which("java") is None:
        return None
    answer = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False)
    match = re.search(r'version "(\d+)', answer.stderr)
    return int(match.group(1)) if match else None


def _install() -> Path:
    """Fill the cache unless it is full already; several processes may try at once."""
    home = _home()
    if home.is_dir():
        return home
    reason = available()
    if reason is not None:
        raise LocalStackError(f"Apache Kafka can't run here: {reason}.")
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent, prefix=f"{home.name}.") as scratch:
        partial = Path(scratch) / "home"
        partial.mkdir()
        _run(
            ["mvn", "--quiet", "--batch-mode", f"--file={_POM}", "dependency:copy-dependencies",
             "-DincludeScope=runtime", f"-DoutputDirectory={partial / 'jars'}"],
            "Maven could not fetch Kafka. Check the network or the mirror in ~/.m2/settings.xml.",
        )  # fmt: skip
        (partial / "log4j2.properties").write_text(_LOG4J)
        _format(partial, partial / "formatted")
        with contextlib.suppress(OSError):  # someone else was faster
            partial.rename(home)
    _archive_classes(home)
    return home


def _format(home: Path, log_dir: Path, users: Mapping[str, str] = MappingProxyType({})) -> None:
    """Format a storage directory with Kafka's own tool, with `users` that log in by SCRAM."""
    config = log_dir.with_name("format.properties")
    config.write_text(_settings({"template": _PLAIN_LISTENERS, "port": 1}, 2, log_dir, 1_500))
    scram = [
        word
        for user, password in users.items()
        for word in ("--add-scram", f"SCRAM-SHA-512=[name={user},password={password}]")
    ]
    _run(
        ["java", *_java_arguments(home), "kafka.tools.StorageTool", "format",
         "--cluster-id", _cluster_id(), "--config", str(config), *scram],
        "Kafka's StorageTool failed.",
    )  # fmt: skip


def _settings(
    listeners: Mapping[str, object], controller_port: int, log_dir: Path, session_ms: int
) -> str:
    """The text of `server.properties`."""
    ports = {"host": LOOPBACK, "controller_port": controller_port}
    listening = str(listeners["template"]).format(**ports, **listeners)
    return _SERVER.format(
        **ports, listeners=listening, log_dir=log_dir.as_posix(), session_ms=session_ms
    )


def _cluster_id() -> str:
    # Any 22-character base64 of a UUID is one; a leading dash would read as an option.
    return "tideline" + uuid.uuid4().hex[:13] + "A"


def _archive_classes(home: Path) -> None:
    """Boot once and let Java archive the classes it loaded. Without it all works, only slower."""
    archive, partial = home / "classes.jsa", home / f"classes.{os.getpid()}.tmp"
    with (
        tempfile.TemporaryDirectory(prefix="tideline-kafka-") as scratch,
        contextlib.suppress(LocalStackError),
        _FirstKafka(home, Path(scratch), partial),
    ):
        pass
    with contextlib.suppress(OSError):
        partial.rename(archive)


class _FirstKafka(ApacheKafka):
    """Archives the classes it has loaded when it stops, which takes its time."""

    stop_seconds = 45.0

    def __init__(self, home: Path, data_dir: Path, archive: Path) -> None:
        super().__init__(data_dir)
        self._home, self._archive = home, archive

    def _program(self, directory: Path) -> ChildProcess:
        archiving = (f"-XX:ArchiveClassesAtExit={self._archive}",)
        return _broker(self._home, directory, self._listeners(), archiving)


def _broker(
    home: Path,
    data_dir: Path,
    listeners: Mapping[str, object],
    options: tuple[str, ...] = (),
    session_ms: int = 1_500,
) -> ChildProcess:
    """The broker's program. Writes its settings, and its storage at the first start."""
    log_dir, config = data_dir / "log", data_dir / "server.properties"
    data_dir.mkdir(parents=True, exist_ok=True)
    if not log_dir.exists():
        shutil.copytree(home / "formatted", log_dir)
    config.write_text(_settings(listeners, free_port(), log_dir, session_ms))
    archive = home / "classes.jsa"
    if archive.is_file() and not options:
        options = (f"-XX:SharedArchiveFile={archive}",)
    return ChildProcess(
        ApacheKafka.name,
        ["java", *options, *_java_arguments(home), "kafka.Kafka", str(config)],
        data_dir / "kafka.log",
    )


def _java_arguments(home: Path) -> list[str]:
    # Jar by jar and sorted, not `jars/*`: the class archive is good for one exact class path.
    jars = ":".join(str(jar) for jar in sorted((home / "jars").glob("*.jar")))
    return [
        *_JAVA_OPTIONS,
        f"-Dlog4j2.configurationFile={home / 'log4j2.properties'}",
        "-cp",
        jars,
    ]


def _run(command: list[str], advice: str) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_INSTALL_TIMEOUT_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LocalStackError(f"{error}. {advice}") from error
    if done.returncode != 0:
        raise LocalStackError(f"{(done.stdout + done.stderr)[-2000:]}\n{advice}")


def _lists_itself(access: KafkaAccess) -> bool:
    """Whether the broker lists itself in its own metadata, so that it takes requests."""
    from kafka.errors import KafkaError  # noqa: PLC0415  (slow import, only for a started one)

    try:
        with clients.admin(access, request_timeout_ms=2000) as admin:
            return bool(admin.describe_cluster()["brokers"])
    except KafkaError:
        return False
