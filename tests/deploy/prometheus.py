"""A real Prometheus on loopback, with the rules of deploy/prometheus: Debian's package."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import yaml

from streams.local.process import ChildProcess
from streams.local.server import LocalServer
from tests.deploy.files import RULES

__all__ = ["Prometheus", "missing"]


def missing() -> str | None:
    """Why it can't run here, in words for a skipped test; None if it can."""
    if shutil.which("prometheus") is None:
        return "prometheus is missing; on Debian: apt-get install prometheus"
    return None


class Prometheus(LocalServer):
    """Scrapes `targets` (process -> port on loopback) and evaluates the rules, each second."""

    name: ClassVar[str] = "Prometheus"
    ready_seconds: ClassVar[float] = 60.0

    def __init__(self, directory: Path, targets: Mapping[str, int]) -> None:
        super().__init__(directory)
        self._targets = targets

    def _program(self, directory: Path) -> ChildProcess:
        directory.mkdir(parents=True, exist_ok=True)
        config = directory / "prometheus.yml"
        config.write_text(yaml.safe_dump(self._config()))
        return ChildProcess(
            self.name,
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address={self.host}:{self.port}",
            ],
            directory / "prometheus.log",
        )

    def _config(self) -> dict[str, Any]:
        return {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(path) for path in RULES],
            "scrape_configs": [
                {
                    "job_name": f"tideline-{process}",
                    "static_configs": [{"targets": [f"{self.host}:{port}"]}],
                }
                for process, port in self._targets.items()
            ],
        }

    def _answers(self) -> bool:
        with urllib.request.urlopen(f"{self._url}/-/ready", timeout=2) as answer:  # noqa: S310
            return bool(answer.status == 200)

    @property
    def _url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def ask(self, path: str, **query: str) -> Any:
        """The data of one answer of its API. Raises AssertionError with what it says otherwise."""
        url = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from error

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """(labels, value) of each sample now."""
        found = self.ask("query", query=expression)["result"]
        return [(each["metric"], float(each["value"][1])) for each in found]

    def value(self, expression: str) -> float | None:
        """The one sample's value; None: there is none."""
        found = self.query(expression)
        assert len(found) <= 1, found
        return found[0][1] if found else None

    def alerts(self, state: str = "firing") -> set[str]:
        """The names of the alerts in that state."""
        return {
            each["labels"]["alertname"]
            for each in self.ask("alerts")["alerts"]
            if each["state"] == state
        }

    def broken_rules(self) -> list[str]:
        """Rules whose evaluation failed, or that were not evaluated yet."""
        return [
            f"{rule['name']}: {rule['health']} {rule.get('lastError', '')}"
            for group in self.ask("rules")["groups"]
            for rule in group["rules"]
            if rule["health"] != "ok"
        ]
