"""`--from` a state dict, with the class of the network that it belongs to."""

import ast
import importlib.util
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lambda_torch.checking.defects import told
from lambda_torch.errors import ProjectError
from lambda_torch.scaffold import called
from lambda_torch.scaffold.blueprints import Blueprint

if TYPE_CHECKING:
    import torch

_USAGE = "--module FILE.py:CLASS names the file and the class of the network"


def blueprint(path: Path, module: str | None, shape: tuple[int, ...] | None, scratch: Path) -> Blueprint:
    """The project for a state dict: .safetensors, or a checkpoint of `torch.save`.

    Raises:
        ProjectError: the class is missing, or does not fit the weights.
    """
    if module is None:
        raise ProjectError(f"{path} holds weights, and weights alone have no network. Next: {_USAGE}.")
    file, name = _named(module)
    tensors = _tensors(path)
    import torch
    from safetensors.torch import save_file

    network = _network(file, name)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise ProjectError(f"{path} does not fit {name} of {file}: {error}") from error
    weights = scratch / "weights.safetensors"
    save_file(tensors, weights)
    seen = called.signature(network.eval(), shape or _shape(tensors, path), torch.float32, f"{name} of {file}")
    return called.blueprint(
        seen,
        what=f"The network {name}, with the weights of the release.",
        imports=f"from safetensors.torch import load_file\n\nfrom model.network import {name}",
        load=f'network = {name}()\nnetwork.load_state_dict(load_file(release / "weights.safetensors"))\n'
        "return cls(network.eval())",
        release={"weights.safetensors": weights},
        modules={"network.py": file},
    )


def _named(module: str) -> tuple[Path, str]:
    file_name, _, name = module.rpartition(":")
    file = Path(file_name)
    if not file_name.endswith(".py") or not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise ProjectError(f"--module {module} is not FILE.py:CLASS. Next: {_USAGE}.")
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError) as error:
        raise ProjectError(f"{file} cannot be read: {error}. Next: {_USAGE}.") from error
    classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    if name not in classes:
        raise ProjectError(f"{file} has no class {name}; it has {', '.join(classes) or 'none'}. Next: {_USAGE}.")
    return file, name


def _network(file: Path, name: str) -> "torch.nn.Module":
    """The network, made without arguments."""
    spec = importlib.util.spec_from_file_location("model_network", file)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded
    try:
        spec.loader.exec_module(loaded)
        network: torch.nn.Module = getattr(loaded, name)()
    except Exception as error:
        raise ProjectError(
            f"{name}() of {file} cannot be made:\n{told(error, file.parent)}\n"
            "Next: give the class defaults for its arguments, so that it can be made without any."
        ) from error
    finally:
        sys.modules.pop(spec.name, None)
    return network


def _tensors(path: Path) -> "dict[str, torch.Tensor]":
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise ProjectError(f"{path} is no safetensors file: {error}") from error
    from lambda_torch.checkpoints import read_checkpoint

    try:
        return read_checkpoint(path).tensors
    except ValueError as error:
        raise ProjectError(str(error)) from error


def _shape(tensors: "dict[str, torch.Tensor]", path: Path) -> tuple[int, ...]:
    """The input of a first layer that is linear. Others do not tell it."""
    first = next((tensor for name, tensor in tensors.items() if name.endswith("weight")), None)
    if first is None or first.dim() != 2:
        raise ProjectError(
            f"{path} does not tell the shape of an input. Next: add --input with the shape of one, such as --input 3,224,224."
        )
    return (first.shape[1],)
