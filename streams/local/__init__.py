"""A broker and a ClickHouse on this machine, for the demo, development and tests."""
