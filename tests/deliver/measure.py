"""How many changes a second reach a webhook that costs nothing, beside a destination that is away:
`python -m tests.deliver.measure [CHANGES]`, on Apache Kafka."""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from pathlib import Path

from streams.local.kafka import ApacheKafka
from streams.local.process import free_port
from streams.settings import Settings, override
from tests.deliver.doubles import Got, Receiver, Reply, serving
from tests.deliver.shop import Process, Shop, some_changes

_DESTINATION = """
[destinations.{name}]
format = "webhook"
url = "{url}"
secret_env = "CRM_SECRET"
audiences = ["*"]
"""


class _Counting(Receiver):
    count = 0

    def take(self, got: Got) -> Reply:
        with self.arrived:
            self.count += len(got.document["changes"])
            self.got.clear()
            self.arrived.notify_all()
        return 200, {}, b""


def _peak_mib(process: Process) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) // 1024 if found else 0


def main(changes: int) -> None:
    directory = Path(tempfile.mkdtemp())
    with ApacheKafka(directory / "kafka") as broker, serving(_Counting()) as receiver:
        settings = override(
            Settings(), kafka_broker_url=broker.bootstrap, kafka_app_id="measured",
            kafka_partitions=4,
        )  # fmt: skip
        urls = {"crm": f"{receiver.url}/", "away": f"http://127.0.0.1:{free_port()}/"}
        file = "".join(_DESTINATION.format(name=name, url=url) for name, url in urls.items())
        shop = Shop(settings, directory, file)
        shop.send(some_changes(changes, users=changes // 5))
        process = shop.start()
        receiver.wait_for(lambda: receiver.count > 0)
        began, before = time.monotonic(), receiver.count
        receiver.wait_for(lambda: receiver.count >= changes, 600)
        seconds = time.monotonic() - began
        peak_mib = _peak_mib(process)
        stopping = time.monotonic()
        status = process.stop()
        shop.close()
        print(
            json.dumps(
                {
                    "changes": changes,
                    "changes_per_second": round((changes - before) / seconds),
                    "peak_mib": peak_mib,
                    "stop_seconds": round(time.monotonic() - stopping, 1),
                    "exit_status": status,
                }
            )
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000)
