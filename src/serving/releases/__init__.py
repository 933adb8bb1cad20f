"""From a channel's pointer to the model that serves: read, download, verify, load, swap."""
