"""History at any time: files become state, before or while live traffic flows.

    files ──▶ reader ──▶ spool on disk, by shard and time     (workers may run)
    spool ──▶ each shard's state ──▶ checkpoint               (no worker runs)

`streams.replay.spool` is the first half, `run` the second; what counts is decided in
`streams.core.backfill`.
"""
