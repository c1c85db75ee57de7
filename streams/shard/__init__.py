"""One shard of a worker: recovery, intake, steps, effects, checkpoints; and the engine of all."""
