"""Golden examples at publication: models that sample, and answers that differ between processors."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lambda_torch.errors import BucketError
from lambda_torch.project import ROOT
from lambda_torch.releases import processors, recording

MODEL = """
import os
from pathlib import Path

import torch
from pydantic import BaseModel, RootModel


class Request(BaseModel):
    seed: int | None = None


class Response(RootModel[float]):
    pass


class Model:
    @classmethod
    def load(cls, release: Path) -> "Model":
        return cls()

    def predict(self, requests):
        return [Response({answer}) for request in requests]

    def example(self):
        return Request({example})
"""
SAMPLES = {"answer": "torch.rand(()).item()", "example": ""}
SEEDED = {"answer": "torch.rand((), generator=torch.Generator().manual_seed(request.seed)).item()", "example": "seed=3"}
KERNELS = {"answer": "float(len(os.environ.get('ATEN_CPU_CAPABILITY', '')))", "example": ""}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for a model, with a release beside it."""
    (tmp_path / "m" / "model").mkdir(parents=True)
    (tmp_path / "release").mkdir()
    save_file({"weight": torch.zeros(1)}, tmp_path / "release" / "weights.safetensors")
    return tmp_path


def publish(folder: Path, source: dict[str, str], *options: str) -> "subprocess.CompletedProcess[str]":
    """Publish the release with that model, as far as a dry run goes: a bucket that cannot be reached is not needed."""
    (folder / "m" / "model" / "__init__.py").write_text(
        MODEL.replace("{answer}", source["answer"]).replace("{example}", source["example"])
    )
    script = (
        "import sys; from pathlib import Path; from lambda_torch import project; "
        "project.use_function_code(Path(sys.argv[1])); "
        "from lambda_torch.releases import processors, publishing, recording; "
        "model = publishing.load(Path(sys.argv[2])); "
        "file = Path(sys.argv[1], 'golden.json'); "
        "examples = recording.golden_examples(model, file if file.exists() else None); "
        "processors.try_examples(Path(sys.argv[2]), examples, sys.argv[3:], print)"
    )
    return subprocess.run(
        [sys.executable, "-c", script, str(folder / "m"), str(folder / "release"), *options],
        env={**os.environ, "PYTHONPATH": str(ROOT / "tools")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_model_that_samples_is_told_as_such_with_the_ways_out(folder: Path) -> None:
    """The message says that the model samples, and the file that it names is the one that leaves golden examples out."""
    done = publish(folder, SAMPLES)
    assert done.returncode != 0
    assert "The model samples: it answers Model.example() differently each time" in done.stderr
    assert "torch.Generator().manual_seed(request.seed)" in done.stderr
    file = folder / "m" / "golden.json"
    assert f"write [] into {file}" in done.stderr
    file.write_text("[]")
    assert publish(folder, SAMPLES).returncode == 0


def test_a_model_with_a_seed_has_a_golden_example(folder: Path) -> None:
    """The first way out works too: an answer that the request's seed decides is recorded."""
    done = publish(folder, SEEDED)
    assert done.returncode == 0, done.stderr


def test_an_answer_of_another_processor_is_refused_by_its_name(folder: Path) -> None:
    """Where kernels of another processor give another answer, the refusal names them and the example."""
    done = publish(folder, KERNELS, "default", "avx2")
    assert done.returncode != 0
    assert "'default' kernels (ATEN_CPU_CAPABILITY=default): golden example 1" in done.stderr
    # As a function on such a host says it.
    assert "(with PyTorch's DEFAULT kernels)" in done.stderr
    assert f'"tolerance" of that example in {folder / "m" / "golden.json"}' in done.stderr


def test_the_shipped_release_answers_the_same_with_every_kind_of_kernels() -> None:
    """The sample's own golden examples hold on all kinds of hosts that this processor can stand for."""
    release = ROOT / "examples" / "names" / "release"
    from lambda_torch.releases.publishing import load

    examples = recording.golden_examples(load(release), ROOT / "examples" / "names" / "golden.json")
    assert len(examples) == 4
    processors.try_examples(release, examples, processors.others(), lambda _: None)


@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.06), (torch.float16, 0.02)])
def test_the_tolerance_follows_the_type_of_the_weights(folder: Path, kind: torch.dtype, tolerance: float) -> None:
    """The coarsest type in the release decides; a folder without safetensors has the default."""
    release = folder / "release"
    save_file({"a": torch.zeros(2), "b": torch.zeros(2, dtype=kind)}, release / "more.safetensors")
    assert recording.tolerance_of(release) == tolerance
    shutil.rmtree(release)
    release.mkdir()
    assert recording.tolerance_of(release) == recording.DEFAULT_TOLERANCE


def test_a_bucket_error_keeps_its_next_step(tmp_path: Path) -> None:
    """A folder that is not there is told with the folders that are."""
    from lambda_torch.releases.publishing import publish as publish_release

    with pytest.raises(
        BucketError, match=r"nothere does not exist\.\nNext: name a release folder.*examples/names/release"
    ):
        publish_release(tmp_path / "nothere", None)  # type: ignore[arg-type]  # refused before the bucket is used
