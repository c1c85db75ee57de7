"""People: pseudonyms in results, and erasure everywhere."""
