"""The tutorial's files: what is read of them, and what is refused."""

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lambda_torch.names.legacy import convert, read_parameters, read_state_dict
from model.network import RNN

PARAMETERS: dict[str, object] = {"all_categories": ["A", "B"], "n_categories": 2, "all_letters": "abc", "n_letters": 4}


class CreatesFile:
    """Creates the file `path` when it is unpickled without restraint."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A good state dict and its good parameters."""
    torch.save(RNN(2, 4, 8).state_dict(), tmp_path / "model.pth")
    (tmp_path / "params.pkl").write_bytes(pickle.dumps(PARAMETERS))
    return tmp_path / "model.pth", tmp_path / "params.pkl"


def test_good_files_are_converted(files: tuple[Path, Path]) -> None:
    """Categories, letters and weights are those of the files; the hidden size comes from the weights."""
    config, weights = convert(*files, max_length=7, max_start_letters=9)
    assert (config.categories, config.letters, config.architecture.hidden_size) == (["A", "B"], "abc", 8)
    assert (config.max_length, config.max_start_letters) == (7, 9)
    original = torch.load(files[0], weights_only=True)
    assert all(torch.equal(weights[name], original[name]) for name in original)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_pickle_protocol_is_read(files: tuple[Path, Path], protocol: int) -> None:
    """Parameters pickled with any protocol, and with keys that nobody needs, are understood."""
    files[1].write_bytes(pickle.dumps({**PARAMETERS, "seen": {1, 2.5}, "at": (True, None)}, protocol))
    assert read_parameters(files[1]).all_categories == ["A", "B"]


def test_other_float_types_become_float32(files: tuple[Path, Path]) -> None:
    """A state dict in float64 is imported; the release is float32."""
    torch.save({name: tensor.double() for name, tensor in RNN(2, 4, 8).state_dict().items()}, files[0])
    assert {tensor.dtype for tensor in convert(*files)[1].values()} == {torch.float32}


def test_a_hostile_parameters_pickle_runs_nothing(files: tuple[Path, Path], tmp_path: Path) -> None:
    """A pickle that would call a function is refused by that function's name, and the function is not called."""
    trap = tmp_path / "ran"
    files[1].write_bytes(pickle.dumps({**PARAMETERS, "all_letters": CreatesFile(trap)}))
    with pytest.raises(ValueError, match=r"params\.pkl: refused .* names pathlib"):
        convert(*files)
    assert not trap.exists()
    pickle.loads(files[1].read_bytes())
    assert trap.exists(), "the trap itself does not work"


@pytest.mark.parametrize("wrap", [lambda trap: trap, lambda trap: OrderedDict(weight=trap)])
def test_a_hostile_state_dict_runs_nothing(files: tuple[Path, Path], tmp_path: Path, wrap: Any) -> None:
    """A state dict that would call a function is refused, and the function is not called."""
    trap = tmp_path / "ran"
    torch.save(wrap(CreatesFile(trap)), files[0])
    with pytest.raises(ValueError, match=r"model\.pth: refused as a state dict"):
        convert(*files)
    assert not trap.exists()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"n_letters": 3}, "n_letters is 3, but all_letters and the end marker make 4"),
        ({"n_categories": 3}, "n_categories is 3, but all_categories make 2"),
        ({"n_letters": "4"}, "n_letters: Input should be a valid integer"),
        ({"all_categories": ("A", "B")}, "all_categories: Input should be a valid list"),
        ({"all_categories": [], "n_categories": 0}, "all_categories: "),
        ({"all_categories": ["A", "A"]}, "categories: 'A' occurs more than once"),
        ({"all_letters": "aba"}, "letters: 'a' occurs more than once"),
        ({"all_letters": "abcd", "n_letters": 5}, r"i2h\.weight has shape \(8, 14\); 2 categories and 5 letters"),
        ({"all_categories": ["A"], "n_categories": 1}, r"i2h\.weight has shape \(8, 14\); 1 categories and 4 letters"),
    ],
)
def test_parameters_that_disagree_are_refused(
    files: tuple[Path, Path], changes: dict[str, object], reason: str
) -> None:
    """The reason says which count or shape does not fit."""
    files[1].write_bytes(pickle.dumps(PARAMETERS | changes))
    with pytest.raises(ValueError, match=reason):
        convert(*files)


@pytest.mark.parametrize("missing", sorted(PARAMETERS))
def test_a_missing_key_is_named(files: tuple[Path, Path], missing: str) -> None:
    """Without one of its four keys, the parameters are refused by that key's name."""
    files[1].write_bytes(pickle.dumps({key: value for key, value in PARAMETERS.items() if key != missing}))
    with pytest.raises(ValueError, match=f"{missing}: Field required"):
        convert(*files)


@given(content=st.binary(max_size=60) | st.binary(max_size=60).map(lambda tail: pickle.dumps(PARAMETERS)[:50] + tail))
def test_any_bytes_are_parameters_or_a_clear_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Broken pickles of every kind end in one kind of error, which names the file."""
    file = tmp_path_factory.mktemp("bytes") / "params.pkl"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"params\.pkl: "):
        read_parameters(file)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda w: {"module." + name: tensor for name, tensor in w.items()}, "no i2h.bias.*module.i2h.weight"),
        (lambda w: {**w, "extra": torch.zeros(1)}, "has the tensors .*extra, but this network has"),
        (lambda w: {**w, "o2o.bias": torch.zeros(9)}, r"o2o\.bias has shape \(9,\)"),
        (lambda w: {**w, "o2o.bias": torch.zeros(4, dtype=torch.int64)}, r"o2o\.bias has torch\.int64"),
        (
            lambda w: {**w, "o2o.bias": torch.full((4,), 1e300, dtype=torch.float64)},
            r"o2o\.bias has NaN, or values too",
        ),
        (lambda w: {**w, "o2o.bias": 3}, "not a state dict"),
        (lambda w: list(w.values()), "not a state dict"),
        (lambda w: RNN(2, 4, 8), r"refused as a state dict .*state_dict\(\)"),
    ],
)
def test_wrong_state_dicts_are_refused(files: tuple[Path, Path], change: Any, reason: str) -> None:
    """The reason names the tensor, or says what the file is not."""
    torch.save(change(dict(RNN(2, 4, 8).state_dict())), files[0])
    with pytest.raises(ValueError, match=reason):
        convert(*files)


def test_broken_files_are_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    """Truncated, foreign and missing state dicts are errors that name the file."""
    state_dict = files[0]
    whole = state_dict.read_bytes()
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("hello.txt", "hello")
    for content in (b"", b"hello", whole[:-100], (tmp_path / "other.zip").read_bytes()):
        state_dict.write_bytes(content)
        with pytest.raises(ValueError, match=r"model\.pth: refused"):
            read_state_dict(state_dict)
    with pytest.raises(ValueError, match=r"none\.pth: cannot be read"):
        read_state_dict(tmp_path / "none.pth")


def test_a_file_too_large_for_parameters_is_refused(files: tuple[Path, Path]) -> None:
    """A state dict given as parameters is recognised by its size before it is opened as a pickle."""
    files[1].write_bytes(bytes(2_000_000))
    with pytest.raises(ValueError, match=r"too many for parameters\. Is it the state dict"):
        read_parameters(files[1])
