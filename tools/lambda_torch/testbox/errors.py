"""What can go wrong with a test box."""


class BoxError(Exception):
    """A test box cannot be had on this machine; with the next step."""
