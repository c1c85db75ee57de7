"""Pseudonyms in results, and the erasure of a person everywhere."""
