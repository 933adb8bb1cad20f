"""What the function tells of itself: receipts, log lines and metrics."""
