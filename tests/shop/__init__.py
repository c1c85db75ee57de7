"""`make shop`: a made-up shop's Monday on real Kafka, and a plain recount of it."""
