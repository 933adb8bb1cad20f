"""The sentence-embedding example gives the reference's vectors, and refuses what does not fit together."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from examples.embeddings.model import Model, Request
from examples.embeddings.model.wordpiece import SPECIAL, WordPiece, words
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from integration.examples.conftest import EXAMPLE
from serving.releases import golden
from serving.releases.format import GoldenExample

REFERENCE = json.loads(Path(__file__).with_name("reference.json").read_text())


@pytest.fixture(scope="session")
def model(embeddings_release: Path) -> Model:
    """The model, loaded."""
    return Model.load(embeddings_release)


@pytest.mark.parametrize("entry", REFERENCE, ids=lambda entry: repr(entry["text"][:20]))
def test_vectors_are_those_of_the_reference(model: Model, entry: dict[str, Any]) -> None:
    """Every text, also with accents, scripts, emoji, control characters or too many words, gets sentence-transformers' vector."""
    ((vector,),) = (response.root for response in model.predict([Request(texts=[entry["text"]])]))
    assert len(vector) == 384
    assert max(abs(one - other) for one, other in zip(vector, entry["vector"], strict=True)) < 1e-4
    assert math.isclose(math.fsum(number * number for number in vector), 1, abs_tol=1e-4)


def test_the_golden_examples_hold(model: Model) -> None:
    """golden.json, whose vectors are sentence-transformers' too, is what the release answers."""
    examples = [GoldenExample.model_validate(entry) for entry in json.loads((EXAMPLE / "golden.json").read_text())]
    assert all(example.tolerance == 1e-4 for example in examples)
    golden.check(model, Request, examples)


def test_the_vector_of_a_text_does_not_depend_on_the_batch(model: Model) -> None:
    """Texts of all lengths in several requests get, in their own order, the vectors that they get alone."""
    texts = [entry["text"] for entry in REFERENCE]
    together = model.predict([Request(texts=texts[::-1] * 2), Request(texts=texts[:1])])
    assert [len(response.root) for response in together] == [2 * len(texts), 1]
    expected = torch.tensor([entry["vector"] for entry in REFERENCE[::-1]] * 2 + [REFERENCE[0]["vector"]])
    torch.testing.assert_close(torch.tensor([*together[0].root, *together[1].root]), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"texts": []},
        {"texts": [""]},
        {"texts": "text"},
        {"texts": ["a"] * 65},
        {"texts": ["a" * 10_001]},
        {"texts": [1]},
    ],
)
def test_requests_beyond_the_caps_are_refused(request_: dict[str, Any]) -> None:
    """No texts, an empty one, too many or too long ones are refused before the model runs."""
    with pytest.raises(ValidationError):
        Request.model_validate_json(json.dumps(request_))


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("model.json", lambda path: path.unlink(), "cannot be read"),
        ("model.json", lambda path: path.write_text(path.read_text().replace('"heads": 12', '"heads": 7')), "multiple"),
        ("model.json", lambda path: path.write_text(path.read_text().replace("256", "1000")), "more than positions"),
        ("vocab.txt", lambda path: path.write_text("one\n"), "lacks"),
        ("vocab.txt", lambda path: path.write_text("\n".join(SPECIAL)), "5 pieces"),
        ("weights.safetensors", lambda path: path.write_bytes(path.read_bytes()[:-1]), "not a whole"),
        ("weights.safetensors", lambda path: _edit(path, "norm.bias", None), "lacks norm.bias"),
        ("weights.safetensors", lambda path: _edit(path, "norm.bias", torch.zeros(3)), "norm.bias is F32"),
        ("weights.safetensors", lambda path: _edit(path, "norm.bias", torch.zeros(384).half()), "norm.bias is F16"),
        ("weights.safetensors", lambda path: _edit(path, "norm.bias", torch.full((384,), torch.nan)), "NaN"),
    ],
)
def test_releases_that_do_not_fit_are_refused(
    embeddings_release: Path, tmp_path: Path, name: str, change: Any, reason: str
) -> None:
    """A release with a missing, cut or disagreeing file is refused with the reason."""
    folder = shutil.copytree(embeddings_release, tmp_path / "release")
    change(folder / name)
    with pytest.raises(ValueError, match=reason):
        Model.load(folder)


def _edit(path: Path, name: str, tensor: torch.Tensor | None) -> None:
    tensors = load_file(path)
    tensors.pop(name)
    save_file(tensors if tensor is None else {**tensors, name: tensor}, path)


def test_words_follow_the_rules_of_bert() -> None:
    """Accents, case and control characters go; punctuation and Chinese characters stand alone."""
    assert words("Crème\tBRÛLÉE!\u200b 你好, ΟΔΥΣΣΕΥΣ\x00") == ["creme", "brulee", "!", "你", "好", ",", "οδυσσευσ"]


def test_the_longest_piece_comes_first() -> None:
    """A word is cut from the left into the longest pieces there are, and is unknown when a rest has none."""
    pieces = WordPiece([*SPECIAL, "un", "##aff", "##affable", "##ly"])
    assert pieces.encode("unaffably unaffablely x", 99) == [2, 1, 5, 7, 8, 1, 3]
    assert pieces.encode("un [MASK] un un", 4) == [2, 5, 4, 3]
