"""Kafka: access, clients, topics, the log, the transport of record batches."""
