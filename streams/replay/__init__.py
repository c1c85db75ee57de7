"""Feeds the input topics: recorded orders, a user's own files, simulated browsing, synthetic load.

source (blocks of records, in time order)  ->  with_browsing (optional)  ->  produce (Kafka)
"""
