"""Scoring and training: champion, learner, blend, reasons. No Kafka, no ClickHouse."""
