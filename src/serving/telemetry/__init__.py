"""What a start and a request cost, as log lines and metrics. This package imports nothing of the others."""
