"""What can go wrong in the command line. Each message names the cause and the next step.

The tree:

    LambdaTorchError
      x BucketError              a release cannot be published, or the bucket of releases cannot be used
        + ConflictError          another command moved the channel after this one read it
      x LayerError               a layer cannot be published
      x PackagesError            a package of the user's own model is missing, or cannot be installed
      x ProjectError             a project of the user's own cannot be made or upgraded
      x StackError               a stack cannot be removed, or its name or its template does not fit
      x BulkError                a bulk run cannot start or continue
      x EmulatorError            the function cannot run on this machine
        + InitError              the function does not start
        + EnvironmentLostError   an execution environment ended while it had a request
      x BoxError                 this machine cannot make a test box
      x TuningError              a memory size cannot be measured
      x TrainingError            the training learned nothing that is worth a release
      x ContainerError           SAM or Docker cannot do what was asked
        + DockerError            Docker does not answer, or refuses
        + SamError               a `sam` command failed, or is not installed
        + UnknownRuntimeError    no Python version fits the template and the packages at hand
      x NeedsCheckoutError       the command needs the project's files, and only the package is installed

`lambda-torch` prints a `LambdaTorchError` as one message and ends with status 1 (`lambda_torch.cli`). Two errors are
not in the tree, because no user sees them: `PayloadTooLargeError` and `MalformedAnswerError` become HTTP answers.
"""


class LambdaTorchError(Exception):
    """The command cannot go on. Base class of all that follow."""


class BucketError(LambdaTorchError):
    """A release cannot be published, or the bucket of releases cannot be used. Functions serve the same as before."""


class ConflictError(BucketError):
    """Another command moved the channel after this one read it. Nothing was changed."""


class LayerError(LambdaTorchError):
    """A layer cannot be published. What was published before stays, and is not published twice."""


class PackagesError(LambdaTorchError):
    """A package of the user's own model is missing, or cannot be installed. The message names the file to correct."""


class ProjectError(LambdaTorchError):
    """A project of the user's own cannot be made or upgraded. Its files are as they were."""


class StackError(LambdaTorchError):
    """A stack cannot be removed, or its name or its template does not fit."""


class BulkError(LambdaTorchError):
    """A bulk run cannot start or continue. Its written lines are good, and the same command continues after them."""


class EmulatorError(LambdaTorchError):
    """The function cannot run on this machine, or the run cannot continue."""


class InitError(EmulatorError):
    """The function does not start: its module cannot be imported, it ended, or it took too long."""


class EnvironmentLostError(EmulatorError):
    """The processes of an execution environment have ended, and the request that it had is lost."""


class BoxError(LambdaTorchError):
    """This machine cannot make a test box."""


class TuningError(LambdaTorchError):
    """A memory size cannot be measured."""


class TrainingError(LambdaTorchError):
    """The training learned nothing that is worth a release."""


class ContainerError(LambdaTorchError):
    """SAM or Docker cannot do what was asked."""


class DockerError(ContainerError):
    """Docker does not answer, or refuses."""


class SamError(ContainerError):
    """A `sam` command failed, or is not installed."""


class UnknownRuntimeError(ContainerError):
    """No Python version fits the template and the packages at hand."""


class NeedsCheckoutError(LambdaTorchError):
    """The command needs the project's files, and only the package is installed."""
