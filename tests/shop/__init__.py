"""`make shop`: a made-up shop's Monday on real Kafka, compared with a plain recount."""
