import json
from typing import Any

import pytest

from container.conftest import Project
from container.images import recipe
from lambda_torch.sam import docker, image_names
from lambda_torch.sam.runtime import PythonRuntime

LIMIT_BYTES = 262_144_000  # of function and layers together, "Lambda quotas"


def tree_bytes(folder: Any) -> int:
    """The bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_the_function_and_its_layer_are_within_lambdas_limit(built: Project) -> None:
    """What `sam build --use-container` made fits into a function, unzipped."""
    build = built.folder / ".aws-sam" / "build"
    assert tree_bytes(build / "PredictFunction") + tree_bytes(build / "TorchLayer") <= LIMIT_BYTES


def test_the_function_carries_its_requirements_and_nothing_of_torch(built: Project) -> None:
    """The function's package has its own code and pinned requirements; torch and NumPy come from the layer."""
    function = built.folder / ".aws-sam" / "build" / "PredictFunction"
    assert (function / "app.py").is_file()
    assert (function / "pydantic").is_dir()
    assert not (function / "torch").exists()
    assert not (function / "numpy").exists()


def test_a_second_build_takes_the_layer_from_the_cache(built: Project, container_pip: list[str]) -> None:
    """Building again, with nothing changed, builds only what SAM never caches: the function with a Makefile, in seconds."""
    done = built.sam("build", "--use-container", *container_pip)
    assert done.status == 0, done.said
    assert "previously built resources for following layers (TorchLayer)" in done.said
    assert "previously built resources for following functions (DeployCheckFunction)" in done.said
    assert done.said.count("Mounting") == 1  # SAM says so for every container that it starts


def test_changing_the_function_never_rebuilds_the_layer(built: Project, container_pip: list[str]) -> None:
    """After an edit in src/, `sam build` builds the function in seconds, and takes the layer from its cache."""
    source = built.folder / "src" / "app.py"
    before = source.read_text()
    try:
        source.write_text(before + "\n# edited\n")
        done = built.sam("build", "--use-container", *container_pip)
    finally:
        source.write_text(before)
    assert done.status == 0, done.said
    assert "Valid cache found, copying previously built resources for following layers (TorchLayer)" in done.said
    assert (
        "Cache is invalid, running build and copying resources for following functions (PredictFunction)" in done.said
    )


def test_stand_ins_say_what_they_are(images: None, python_runtime: PythonRuntime) -> None:
    """An image under AWS's name is AWS's own, or carries the label of this project's stand-ins."""
    for name in (image_names.runtime(python_runtime.version), image_names.build(python_runtime.version)):
        config = json.loads(docker.docker("image", "inspect", name))[0]
        labels = config["Config"].get("Labels") or {}
        assert config["RepoDigests"] or recipe.LABEL in labels


@pytest.mark.parametrize("module", ["awslambdaric", "boto3"])
def test_the_runtime_image_offers_what_functions_may_import(
    images: None, python_runtime: PythonRuntime, module: str
) -> None:
    """The runtime's own packages are importable in the image, stand-in or not."""
    image = image_names.runtime(python_runtime.version)
    run = ["run", "--rm", "--entrypoint", "/var/lang/bin/python3", "--env", "PYTHONPATH=/var/runtime", image]
    assert docker.docker(*run, "-c", f"import {module}; print({module}.__name__)").strip() == module
