"""The functional core: everything that decides, with no IO, clock, randomness or logging.

Given the same state, records, clock and learner snapshot, it returns the same outputs, bit for
bit. That is what makes recovery exact (`streams/shard/shard.py` has the protocol).
"""
