"""For operators: is this installation in order, and how large must one be."""
