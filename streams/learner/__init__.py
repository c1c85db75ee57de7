"""The learner process: matured labels in, snapshots out; and how shards follow snapshots."""
