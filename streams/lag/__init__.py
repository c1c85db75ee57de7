"""Consumer lag: what brokers answer, as figures with a status, served and stored."""
