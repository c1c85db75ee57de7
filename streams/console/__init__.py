"""`tideline console`: what people look at in a browser, read from ClickHouse's views."""
