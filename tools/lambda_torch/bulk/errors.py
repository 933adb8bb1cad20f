"""What can go wrong with a bulk run. Messages name the cause and the next step."""


class BulkError(Exception):
    """The run cannot start or go on. What it wrote so far is good, and the same command goes on from there."""
