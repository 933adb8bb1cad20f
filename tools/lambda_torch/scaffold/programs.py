"""`--from` a program: `torch.export` (.pt2) or TorchScript. Programs carry their network, so no class is needed."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lambda_torch import project
from lambda_torch.errors import ProjectError
from lambda_torch.scaffold import called
from lambda_torch.scaffold.blueprints import Blueprint

if TYPE_CHECKING:
    import torch

ProgramKind = Literal["torch.export", "torchscript"]


def blueprint(path: Path, kind: ProgramKind, shape: tuple[int, ...] | None, scratch: Path) -> Blueprint:
    """The project for a program. The file is looked through as the function does, before torch reads it.

    Raises:
        ProjectError: the program is refused, or cannot be called.
    """
    project.use_function_code()
    import torch

    from serving.releases.programs.check import check_program
    from serving.releases.programs.refusal import ProgramError

    name = "model.pt2" if kind == "torch.export" else "model.torchscript"
    copy = Path(shutil.copy(path, scratch / name))
    try:
        check_program(copy, kind)
    except ProgramError as error:
        raise ProjectError(f"{path} {error}") from error
    dtype = torch.float32
    if kind == "torch.export":
        program = torch.export.load(copy)
        shape, dtype = _input_of(program, path)
        network: torch.nn.Module = program.module()
        load = f'return cls(torch.export.load(release / "{name}").module())'
    else:
        if shape is None:
            raise ProjectError(
                f"{path} is TorchScript, which has no shapes. Next: add --input, such as --input 3,224,224."
            )
        network = torch.jit.load(str(copy)).eval()
        load = f'return cls(torch.jit.load(str(release / "{name}")).eval())'
    return called.blueprint(
        called.signature(network, shape, dtype, str(path)),
        what=f"A program ({kind}), which brings its own network.",
        imports="",
        load=load,
        release={name: copy},
        allow_programs=True,
    )


def _input_of(program: Any, path: Path) -> tuple[tuple[int, ...], "torch.dtype"]:
    """The shape of the program's one input, without the batch, and its dtype."""
    names = program.graph_signature.user_inputs
    values = [node.meta["val"] for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    if len(values) != 1 or values[0].dim() < 1:
        raise ProjectError(
            f"{path} takes {len(values)} inputs, and --from serves programs with one tensor. "
            "Next: use lambda-torch init --kind, put the program into release/, and write Model.predict."
        )
    return tuple(int(length) for length in values[0].shape[1:]), values[0].dtype
