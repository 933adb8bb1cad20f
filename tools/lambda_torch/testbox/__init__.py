"""The test box: a sandbox like Lambda's around Lambda's own emulator, on Linux, without Docker.

Limits on /tmp, CPU and permissions that exist on Lambda, but not in local Docker, exist here too. It is for tests,
benchmarks and `lambda-torch tune`.

    package     the function's package, as `sam build` makes it
    rootfs      the file system: task root, layer and runtime, read-only, with the dates of SAM's zip files
    sandbox     namespaces, made by bubblewrap: what the function sees of the machine
    limits      memory and CPU, limited by control groups (version 1 or 2)
    box         a running box: takes events, gives answers
"""

from lambda_torch.errors import BoxError as BoxError
from lambda_torch.testbox.box import Box as Box
from lambda_torch.testbox.box import why_not as why_not
from lambda_torch.testbox.package import package as package
from lambda_torch.testbox.rootfs import Rootfs as Rootfs
