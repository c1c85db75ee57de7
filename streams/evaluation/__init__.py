"""`tideline evaluate`: how good the scores are, measured on an order history as it unfolded."""
