"""Files of many requests: read in batches, answered on this machine or by the stack, and written in order."""
