"""Work that no client waits for: messages of a queue, batches of bulk files, and their results."""
