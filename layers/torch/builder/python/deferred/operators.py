"""Every operator of torch with its kernels: what registering by importing leaves behind."""

import re

import torch


def kernels() -> dict[str, dict[str, str]]:
    """Operator -> dispatch key -> where its kernel was registered; its schema under the key `schema`.

    The same for every tree that holds the same torch: folders in front of `torch/` are left out.
    """
    found: dict[str, dict[str, str]] = {}
    for name in sorted(torch._C._dispatch_get_all_op_names()):
        found[name] = {}
        for line in torch._C._dispatch_dump(name).splitlines():
            key, _, rest = line.partition(": ")
            if key == "schema":
                found[name][key] = rest
            elif re.fullmatch(r"\w+(\[alias\])?", key) and key not in ("name", "debug"):
                found[name][key] = re.sub(r"(registered at )\S*?/torch/", r"\1torch/", rest)
    return found
