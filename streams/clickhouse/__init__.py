"""ClickHouse: client, errors, blocks, inserts, the sink, migrations."""
