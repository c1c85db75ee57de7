"""The loops that numpy has no function for, compiled by Numba. See `streams.kernels.jit`."""
