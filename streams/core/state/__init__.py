"""One shard's state: columns, windows, directory, maps, and how it is written down."""
