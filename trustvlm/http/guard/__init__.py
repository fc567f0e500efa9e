"""What every request passes before its route: connections, keys, rates, logs and metrics."""
