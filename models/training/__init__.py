"""Training a champion: rows, fits, export and the rule of promotion."""
