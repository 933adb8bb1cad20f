"""Which memory size pays: measured, priced, and one of them recommended."""
