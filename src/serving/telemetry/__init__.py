"""What a start and a request cost, as log lines and metrics. It imports no other package of `serving`."""
