"""What is seen of a process from outside: logs and Prometheus metrics."""
