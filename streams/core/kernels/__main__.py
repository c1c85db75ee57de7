"""`python -m streams.core.kernels`: compile everything now, rather than when the first events come.

Done by `make setup` and in the image; takes about ten seconds, once per machine.
"""

from __future__ import annotations

from streams.core.warm import compile_kernels

if __name__ == "__main__":
    compile_kernels()
