"""Contracts: what goes over Kafka, into ClickHouse and into the models.

Nothing here imports anything of ours; the only library is msgspec, because the types that
decode an event and the JSON Schema that is published for it must be one thing.
"""
