"""The pipeline: a pure core (`streams.core`) and the shell around it. Start at `agents.py`."""

import os

# OpenBLAS starts a thread per core, and they spin between calls. Nothing here multiplies large
# matrices, but fitting a curve took 10 times the CPU time. It must be set before numpy is loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
