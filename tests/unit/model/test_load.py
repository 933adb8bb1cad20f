"""What makes a release folder unusable, and how it says so."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model import Model
from model.config import Architecture, Config, read_config
from model.network import RNN
from model.weights import read_weights

SRC = Path(__file__).resolve().parents[3] / "src"
MakeRelease = Callable[..., Path]


def change_config(folder: Path, **values: object) -> None:
    """Replace keys of the folder's model.json, without validating them; None removes a key."""
    file = folder / "model.json"
    content = json.loads(file.read_text()) | values
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"categories": []}, r"categories: .* at least 1 item"),
        ({"categories": ["Greek", "Dutch", "Greek"]}, "categories: 'Greek' occurs more than once"),
        ({"categories": ["Greek", ""]}, r"categories\.1: "),
        ({"categories": None}, "categories: Field required"),
        ({"letters": "abca"}, "letters: 'a' occurs more than once"),
        ({"letters": ""}, "letters: "),
        ({"max_length": 0}, "max_length: "),
        ({"max_length": "20"}, "max_length: .* valid integer"),
        ({"max_start_letters": 10**6}, "max_start_letters: "),
        ({"architecture": {"type": "transformer", "hidden_size": 16}}, r"architecture\.type: "),
        ({"pickle": "yes"}, "pickle: Extra inputs"),
        (
            {"architecture": {"hidden_size": 32}},
            r"i2h\.weight has shape \(16, 78\), but model\.json needs \(32, 94\)",
        ),
        ({"categories": ["Greek"]}, r"i2h\.weight has shape \(16, 78\), but model\.json needs \(16, 76\)"),
        ({"letters": "abc"}, "weights.safetensors: i2h.weight has shape"),
    ],
)
def test_a_wrong_model_json_is_refused(make_release: MakeRelease, changes: dict[str, object], reason: str) -> None:
    """The reason names the file and the place in it, or what the weights say against it."""
    folder = make_release()
    change_config(folder, **changes)
    with pytest.raises(ValueError, match=reason) as caught:
        Model.load(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"architecture": "\\ud800"}'])
def test_a_model_json_that_is_not_an_object_is_refused(make_release: MakeRelease, content: bytes) -> None:
    """Broken JSON is a ValueError that names the file."""
    folder = make_release()
    (folder / "model.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.json: "):
        Model.load(folder)


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
def test_a_missing_file_is_named(make_release: MakeRelease, name: str) -> None:
    """Without one of its two files, a folder is refused, and the reason says which is missing."""
    folder = make_release()
    (folder / name).unlink()
    with pytest.raises(ValueError, match=rf"{name}: cannot be read .*No such file"):
        Model.load(folder)


def replace_tensor(folder: Path, name: str, tensor: torch.Tensor | None) -> None:
    """Write the folder's weights again with another tensor of that name; None leaves it out."""
    weights = load_file(folder / "weights.safetensors") | ({name: tensor} if tensor is not None else {})
    if tensor is None:
        del weights[name]
    save_file(weights, folder / "weights.safetensors")


@pytest.mark.parametrize(
    ("name", "tensor", "reason"),
    [
        ("i2h.bias", None, "lacks i2h.bias"),
        ("h2o.bias", torch.zeros(1), "has the unexpected h2o.bias"),
        ("i2h.bias", torch.zeros(17), r"i2h\.bias has shape \(17,\), .* needs \(16,\)"),
        ("i2h.bias", torch.zeros(16, 1), r"i2h\.bias has shape \(16, 1\)"),
        ("i2h.bias", torch.zeros(16, dtype=torch.float16), r"i2h\.bias is F16"),
        ("i2h.bias", torch.full((16,), float("nan")), r"i2h\.bias holds NaN or infinite"),
        ("o2o.bias", torch.full((59,), float("inf")), r"o2o\.bias holds NaN or infinite"),
    ],
)
def test_wrong_weights_are_refused(
    make_release: MakeRelease, name: str, tensor: torch.Tensor | None, reason: str
) -> None:
    """The reason names the tensor and what is wrong with it."""
    folder = make_release()
    replace_tensor(folder, name, tensor)
    with pytest.raises(ValueError, match=reason):
        Model.load(folder)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_truncated_weights_are_refused(make_release: MakeRelease, keep: int) -> None:
    """Weights cut anywhere, in the header or in the last byte, are not loaded."""
    folder = make_release()
    file = folder / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"weights\.safetensors: "):
        Model.load(folder)


def test_weights_are_mapped_and_not_copied(make_release: MakeRelease) -> None:
    """The tensors' memory is the file's own mapping, so reading a release takes no second copy of it."""
    folder = make_release()
    weights = read_weights(folder, read_config(folder))
    with Path("/proc/self/maps").open() as maps:
        mapped = [
            range(*(int(address, 16) for address in line.split()[0].split("-")))
            for line in maps
            if str(folder / "weights.safetensors") in line
        ]
    assert all(any(tensor.data_ptr() in area for area in mapped) for tensor in weights.values())


def test_the_expected_shapes_are_the_networks_own() -> None:
    """What `model.json` makes the loader expect is what the network that is trained has."""
    config = Config(architecture=Architecture(hidden_size=7), categories=["a", "b"], letters="xyz")
    rnn = RNN(2, 4, 7)
    assert config.weight_shapes() == {name: tuple(tensor.shape) for name, tensor in rnn.state_dict().items()}


def test_the_model_folder_knows_nothing_of_aws() -> None:
    """Loading and predicting imports neither boto3 nor `serving`, nor the network that only training needs."""
    code = (
        "import sys, model; print([n for n in ('boto3', 'botocore', 'serving', 'model.network') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(SRC)}, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
