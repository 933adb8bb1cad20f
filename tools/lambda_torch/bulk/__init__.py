"""Files of many requests: read in batches, answered by environments here or by the stack, written in the file's order."""
