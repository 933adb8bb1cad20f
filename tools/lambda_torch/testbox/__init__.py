"""The test box: Lambda's sandbox, as far as a Linux machine can have it, around Lambda's own emulator. No Docker.

What local Docker hides and Lambda punishes shows here: see `limits`. Who it is for: tests and benchmarks.

    package     the function's package, as `sam build` leaves it
    rootfs      the file system: task root, layer and runtime, read-only, with the dates of SAM's zip files
    sandbox     namespaces, by bubblewrap: what of the machine can be seen
    limits      memory and CPU, by control groups (version 1 or 2)
    box         a running box: events in, answers out
"""

from lambda_torch.errors import BoxError as BoxError
from lambda_torch.testbox.box import Box as Box
from lambda_torch.testbox.box import why_not as why_not
from lambda_torch.testbox.package import package as package
from lambda_torch.testbox.rootfs import Rootfs as Rootfs
