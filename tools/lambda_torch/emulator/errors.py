"""What can go wrong when the function is run on this machine. Messages name the cause and the next step."""


class EmulatorError(Exception):
    """The run cannot start or go on."""


class InitError(EmulatorError):
    """The function's start-up failed: its module cannot be imported, it exited, or it took too long."""


class EnvironmentLostError(EmulatorError):
    """An execution environment's own processes are gone, and with them the invocation that it was busy with."""
