"""For operators: checks of an installation, and its capacity."""
