"""What the monitor shows: metrics, JSON, incidents, the webhook and the commands' lines."""

from __future__ import annotations

import http.server
import io
import json
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, get_args

import pytest

from streams.kafka.committed import Committed
from streams.kafka.groups import Membership
from streams.lag.incidents import Incident, Incidents, Notice
from streams.lag.latest import Latest
from streams.lag.report import LagReport, document
from streams.lag.show import REMEDIES, explained, sparkline, watch_table
from streams.lag.status import STATUSES, Role
from streams.lag.times import REASONS
from streams.lag.tracker import GroupWindow, LogWindow, Rules
from streams.lag.webhook import Webhook, post
from streams.settings import Secret, Settings, override
from streams.telemetry.endpoint import serve
from streams.telemetry.metrics import (
    GROUP_ROLES,
    GROUP_STATUSES,
    LAG_STATUSES,
    NO_SECONDS,
    Metrics,
)

if TYPE_CHECKING:
    from tests.local_broker import Cli

P0, P1, OLD = ("orders", 0), ("orders", 1), ("old", 0)
N = 3


class Cluster:
    """One group, `shop`, looked at every 10 seconds."""

    def __init__(self, role: Role = "") -> None:
        self.now_ms = 0
        self.window, self.log = GroupWindow("shop", Rules(commits=N), role=role), LogWindow()

    def look(
        self,
        committed: dict[tuple[str, int], int] | None,
        end: int,
        *,
        gone: bool = False,
        problems: tuple[str, ...] = (),
    ) -> LagReport:
        self.now_ms += 10_000
        self.log.saw({P0: end, P1: end, OLD: 70}, {P0: 0, P1: 0, OLD: 0}, self.now_ms)
        offsets = None if committed is None else {at: Committed(o) for at, o in committed.items()}
        members = Membership(1, frozenset({"orders"}), {P0: "worker-1 /10.0.0.7"})
        group = self.window.look(self.now_ms, offsets, self.log, members, [P0, P1])
        return LagReport(
            self.now_ms, () if gone else (group,), problems, 0.5, answered=committed is not None
        )

    def stalled(self) -> LagReport:
        """Partition 0 hangs, 1 never committed, the old topic is left."""
        for n in range(3 * N + 1):
            report = self.look({P0: 5, OLD: 6}, 10 + n)
        return report


def shown(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"tideline_{name}", labels)


def test_the_names_of_states_are_the_same_everywhere() -> None:
    assert set(LAG_STATUSES) == set(STATUSES) == set(REMEDIES)
    assert set(NO_SECONDS) == set(REASONS) - {""}


def test_metrics_show_the_newest_report_and_nothing_once_it_is_old() -> None:
    cluster, metrics = Cluster(), Metrics()
    latest = Latest(10.0, lambda: cluster.now_ms)
    latest.feed(metrics)
    assert shown(metrics, "lag_monitor_up") == 0
    latest.publish(cluster.stalled())
    at = {"consumer_group": "shop", "topic": "orders"}
    assert shown(metrics, "lag_monitor_up") == 1
    assert shown(metrics, "consumer_lag_records", **at, partition="0") == 14
    assert shown(metrics, "consumer_lag_records", **at, partition="1") is None
    assert shown(metrics, "consumer_committed", **at, partition="1") == 0
    assert shown(metrics, "consumer_lag_records_per_second", **at, partition="0") == 0.1
    assert shown(metrics, "consumer_status", **at, partition="0", status="stall") == 1
    assert shown(metrics, "consumer_status", **at, partition="0", status="ok") is None
    reason = shown(
        metrics, "consumer_lag_seconds_unknown", **at, partition="0", reason="no_bracket"
    )
    assert reason == 1
    assert shown(metrics, "consumer_lag_seconds", **at, partition="0") is None
    assert shown(metrics, "consumer_time_to_loss_seconds", **at, partition="0") == 50
    assert (
        shown(metrics, "consumer_subscribed", consumer_group="shop", topic="old", partition="0")
        == 0
    )
    states = {
        s: shown(metrics, "consumer_group_status", consumer_group="shop", status=s)
        for s in GROUP_STATUSES
    }
    assert states == dict.fromkeys(GROUP_STATUSES, 0) | {"error": 1}

    cluster.now_ms += 60_000
    assert shown(metrics, "lag_monitor_up") == 0
    assert shown(metrics, "consumer_status", **at, partition="0", status="stall") is None
    latest.publish(cluster.look({P0: 24}, 24, gone=True))
    assert shown(metrics, "lag_monitor_up") == 1
    assert shown(metrics, "consumer_group_status", consumer_group="shop", status="ok") is None
    latest.publish(cluster.look({P0: 24, P1: 24}, 24, problems=("orders: odd",)))
    assert shown(metrics, "lag_monitor_up") == 0, "not every answer"
    assert shown(metrics, "consumer_group_status", consumer_group="shop", status="ok") == 1


@pytest.mark.parametrize("role", get_args(Role))
def test_metrics_tell_our_own_groups_from_those_of_others(role: Role) -> None:
    assert set(GROUP_ROLES) == set(get_args(Role)) - {""}
    cluster, metrics = Cluster(role), Metrics()
    latest = Latest(10.0, lambda: cluster.now_ms)
    latest.feed(metrics)
    latest.publish(cluster.stalled())
    roles = {
        each: shown(metrics, "consumer_group_role", consumer_group="shop", role=each)
        for each in GROUP_ROLES
    }
    assert roles == {each: 1 if each == role else None for each in GROUP_ROLES}


def test_json_says_what_it_saw_and_when_it_is_blind() -> None:
    cluster, metrics = Cluster(), Metrics()
    latest = Latest(10.0, lambda: cluster.now_ms, stuck_seconds=120.0)
    with serve(metrics, "127.0.0.1", 0, latest.page) as server:

        def get(path: str) -> tuple[int, Any]:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}") as answer:
                    return answer.status, json.load(answer)
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, json.load(error)

        def health(path: str) -> tuple[int, list[str]]:
            code, body = get(path)
            assert body["ok"] is (code == 200)
            return code, body["reasons"]

        assert health("/readyz") == (503, ["no look at Kafka has ended yet"])
        assert health("/healthz") == (200, [])
        assert get("/v1/groups")[0] == 503
        latest.publish(cluster.stalled())
        assert health("/readyz") == health("/healthz") == (200, [])
        code, groups = get("/v1/groups")
        assert (code, groups["up"], groups["blind"]) == (200, True, "")
        assert [(g["consumer_group"], g["status"]) for g in groups["groups"]] == [("shop", "error")]
        code, group = get("/v1/groups/shop")
        assert code == 200
        assert [each["status"] for each in group["partitions"]] == ["stop", "stall", "uncommitted"]
        assert group["partitions"][1]["owner"] == "worker-1 /10.0.0.7"
        assert get("/v1/groups/other")[0] == 404
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as answer:
            assert b"tideline_consumer_lag_records" in answer.read()

        latest.publish(cluster.look(None, 24))
        assert health("/readyz") == (503, ["Kafka does not answer"])
        assert health("/healthz") == (200, [])  # a restart would not help
        cluster.now_ms += 151_000
        assert health("/healthz") == (503, ["the last look at Kafka was 151 s ago"])
        assert get("/v1/groups")[1]["groups"][0]["status"] == "unknown"
        latest.publish(cluster.look({P0: 24, P1: 24}, 24))
        cluster.now_ms += 60_000
        code, blind = get("/v1/groups")
        assert (code, blind) == (503, {"blind": "the last look at Kafka was 60 s ago"})


def test_an_incident_opens_once_and_closes_with_its_id_once_it_is_quiet() -> None:
    cluster, incidents = Cluster(), Incidents()
    (opened,) = incidents.look(cluster.stalled())
    assert (opened.state, opened.body["status"]) == ("open", "error")
    assert opened.body["partitions_not_ok"] == 2
    assert opened.body["partitions"][0]["owner"] == "worker-1 /10.0.0.7"
    assert incidents.look(cluster.look({P0: 5}, 30)) == []
    assert incidents.look(cluster.look(None, 30)) == [], "blind: neither better nor worse"
    well = {P0: 30, P1: 30}
    assert incidents.look(cluster.look(well, 30)) == []
    assert incidents.look(cluster.look(well, 30)) == []
    (closed,) = incidents.look(cluster.look(well, 30))
    assert (closed.state, closed.body["status"]) == ("close", "ok")
    assert closed.incident == opened.incident
    assert incidents.look(cluster.look(well, 30)) == []


def test_an_incident_of_a_group_that_was_deleted_closes() -> None:
    cluster, incidents = Cluster(), Incidents()
    (opened,) = incidents.look(cluster.stalled())
    (closed,) = incidents.look(cluster.look({}, 30, gone=True))
    assert (closed.incident.id, closed.body["status"]) == (opened.incident.id, "gone")


@contextmanager
def receiver(statuses: list[int]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that answers with these statuses, and then 204; gives its URL and what it got."""
    got: list[dict[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(statuses.pop(0) if statuses else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/hook?token=secret", got
        finally:
            server.shutdown()
            thread.join()


def notice(number: int) -> Notice:
    return Notice(Incident(str(number), "shop", 0), "open", {"id": str(number)})


def test_notices_are_sent_in_order_and_again_until_they_are_taken(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("streams.lag.webhook._FIRST_WAIT_SECONDS", 0.001)
    results: list[str] = []
    with receiver([500, 429, 204]) as (url, got):
        done = threading.Event()

        def counted(result: str) -> None:
            results.append(result)
            if results.count("sent") == 2:
                done.set()

        webhook = Webhook(post(Secret(url)), counted)
        webhook.add([notice(1), notice(2)])
        thread = threading.Thread(target=webhook.run)
        thread.start()
        assert done.wait(20)
        webhook.stop()
        thread.join(20)
        assert not thread.is_alive()
    assert [each["id"] for each in got] == ["1", "1", "1", "2"]
    assert results == ["failed", "failed", "sent", "sent"]
    assert "HTTP status 500" in caplog.text
    assert "secret" not in caplog.text


def test_a_receiver_that_is_away_is_an_error_without_the_url() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}/secret", "http://[bad/secret"):
        with pytest.raises(OSError, match=r"refused|Error") as refused:
            post(Secret(url), 1.0)(b"{}")
        assert "secret" not in str(refused.value)


def test_explain_names_partitions_owner_kind_and_remedy() -> None:
    cluster = Cluster()
    (group,) = document(cluster.stalled())["groups"]
    text = "\n".join(explained(group, cluster.now_ms + 5_000))
    assert text.startswith("shop: error, 14 records behind")
    assert "stall: the committed offset does not move" in text
    assert "orders/0, 14 records, age not known (no_bracket), +0.1 records/s" in text
    assert "data loss in 50 s" in text
    assert "owner worker-1 /10.0.0.7" in text
    assert "read the owner's log" in text
    assert "uncommitted: " in text
    assert "No member subscribes any more to old" in text


def test_the_course_of_a_lag_is_drawn() -> None:
    assert sparkline([]) == ""
    assert sparkline([0, 0]) == "▁▁"
    assert sparkline([1, 1000, -1, 500]) == "▂█ ▅"
    from rich.console import Console  # noqa: PLC0415

    console = Console(width=120, record=True, file=io.StringIO())
    console.print(watch_table(Cluster().stalled()))
    line = next(line for line in console.export_text().splitlines() if "shop" in line)
    assert "error" in line
    assert "█" in line


@pytest.fixture
def monitor() -> Iterator[tuple[Settings, Callable[[LagReport], None], Cluster]]:
    """A monitor's pages, on the port of these settings."""
    cluster, metrics = Cluster(), Metrics()
    latest = Latest(10.0, lambda: cluster.now_ms, stuck_seconds=120.0)
    with serve(metrics, "127.0.0.1", 0, latest.page) as server:
        yield override(Settings(), web_metrics_port=server.port), latest.publish, cluster


def test_the_exit_status_is_the_worst_group_s(
    cli: Cli, monitor: tuple[Settings, Callable[[LagReport], None], Cluster]
) -> None:
    settings, publish, cluster = monitor
    blind = cli("lag", "status", settings=settings)
    assert (blind.exit_code, "blind: no look" in blind.stderr) == (5, True)
    publish(cluster.stalled())
    bad = cli("lag", "status", settings=settings)
    assert (bad.exit_code, "shop" in bad.stdout, "error" in bad.stdout) == (4, True, True)
    found = json.loads(cli("lag", "status", "--json", settings=settings).stdout)
    assert (found["status"], found["groups"][0]["total_records"]) == ("error", 14)
    assert cli("lag", "status", "nobody", settings=settings).exit_code == 5
    text = cli("lag", "explain", "shop", settings=settings)
    assert (text.exit_code, "stall: " in text.stdout) == (0, True)
    missing = cli("lag", "explain", "nobody", settings=settings)
    assert (missing.exit_code, "lag status" in missing.stderr) == (1, True)
    for n in range(3 * N):
        publish(cluster.look({P0: 40 + n, P1: 40 + n}, 40 + n))
    assert cli("lag", "status", settings=settings).exit_code == 0


@pytest.mark.kafka
def test_without_a_monitor_status_watch_and_explain_look_themselves(
    settings: Settings, cli: Cli
) -> None:
    app = settings.kafka.app_id
    found = cli("lag", "status", "--looks", "1", app, settings=settings)
    assert (found.exit_code, "uncommitted" in found.stdout) == (0, True)
    assert "could not tell: topic" in found.stderr
    explained_ = cli("lag", "explain", "--looks", "1", app, settings=settings)
    assert "uncommitted: the group has not committed" in explained_.stdout
    watched = cli("lag", "watch", "--looks", "1", app, settings=settings)
    assert (watched.exit_code, app in watched.stdout) == (0, True)
    refused = cli("lag", "--json", "status", settings=settings)
    assert (refused.exit_code, "behind the subcommand" in refused.stderr) == (2, True)
    dead = cli("lag", "status", "--monitor", "http://127.0.0.1:1", settings=settings)
    assert (dead.exit_code, "does not answer" in dead.stderr) == (1, True)
