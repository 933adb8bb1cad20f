"""The one error of a program that may not be loaded."""


class ProgramError(ValueError):
    """A program may not be loaded. The message says why, in words that follow the file's name, without the path."""
