"""The loops over bytes that numpy can't do, compiled by Numba. See `streams.kernels.jit`."""
