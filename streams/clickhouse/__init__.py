"""ClickHouse: client, errors, blocks, inserts, the sink, migrations."""

import os

# Read when the driver is imported. Otherwise it makes two tables of every day from 1900 to 2299:
# 25 MB in each process.
os.environ.setdefault("CLICKHOUSE_DRIVER_LASY_DATE_LUT", "1")
