"""The pipeline: a pure core (`streams.core`) and the shell around it. Start at `agents.py`."""
