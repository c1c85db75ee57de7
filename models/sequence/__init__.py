"""A challenger of another kind: a network over each user's last events and the window features."""
