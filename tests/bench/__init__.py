"""Benchmarks, run by `make bench`; and the guard that no step gets much slower, a normal test."""
