"""All that speaks to ClickHouse: client, errors, blocks, inserts, the sink, migrations."""
