"""Logging for people (text) or machines (JSON lines), on stderr, in UTC.

Logs never hold user ids: code logs counts, shards and offsets, and of `extra` only the names in
FIELDS are written, so that a whole record passed by accident is not.
"""

from __future__ import annotations

import json
import logging
import time
from typing import Final, Literal, TextIO

__all__ = ["FIELDS", "configure"]

FIELDS: Final = (
    "fact",
    "shard",
    "shards",
    "step",
    "seq",
    "clickstream_from",
    "clickstream_to",
    "orders_from",
    "orders_to",
    "topic",
    "partition",
    "offset",
    "consumer_group",
    "status",
    "table",
    "rows",
    "records",
    "users",
    "seconds",
    "reason",
    "error_type",
)
"""What `extra` may carry. Numbers, short codes and names of topics, tables and groups only. `fact`
says what a line is about, whatever its words are."""

_FOR_MACHINES: Final = ("fact", "seq")  # the words say it, and the step is a part of it

# These log every fetch and heartbeat at INFO; their warnings still matter. The libraries of object
# stores log what they sign at DEBUG, tokens too.
_QUIET: Final = (
    "aiokafka", "kafka", "clickhouse_driver", "asyncio", "mode", "faust",
    "aiobotocore", "azure", "botocore", "fsspec", "gcsfs", "google", "s3fs", "urllib3",
)  # fmt: skip
# Logs a traceback for each failed connection; the sink logs the same in one line.
_TWICE: Final = ("clickhouse_driver.connection",)


def configure(
    level: Literal["debug", "info", "warning", "error"] = "info",
    format_: Literal["text", "json"] = "text",
    stream: TextIO | None = None,
) -> None:
    """Send all logging to `stream` (stderr if None); replaces earlier configuration.

    `level` is the minimum log level.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_JsonFormatter() if format_ == "json" else _TextFormatter())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.getLevelName(level.upper()), logging.WARNING))
    for name in _TWICE:
        logging.getLogger(name).setLevel(logging.ERROR)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}


class _UtcFormatter(logging.Formatter):
    converter = staticmethod(time.gmtime)


class _TextFormatter(_UtcFormatter):
    def __init__(self) -> None:
        super().__init__(
            "%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"
        )

    def formatMessage(self, record: logging.LogRecord) -> str:
        fields = "".join(
            f" {name}={value}"
            for name, value in _fields(record).items()
            if name not in _FOR_MACHINES
        )
        return super().formatMessage(record) + fields


class _JsonFormatter(_UtcFormatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)
