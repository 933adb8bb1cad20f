"""Writing releases: publish, move channels, list what a bucket contains, and remove old releases."""
