"""What the scores are measured against: BG/NBD, Gamma-Gamma and RFM, and the figures for it."""
