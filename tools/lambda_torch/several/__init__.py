"""Several models in one stack: their table, and the template that is derived from that of one model."""
