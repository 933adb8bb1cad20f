"""From the channel's pointer to the model in service: read, download, verify, load, swap."""
