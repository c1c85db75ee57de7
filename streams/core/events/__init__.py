"""Records become events: what a record holds, which are refused, and the decoded columns."""
