"""The chat example's network gives the scores of the plain formulas, in every format and by either way."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from examples.chat.conversion.checkpoint import Int4Groups, Int8Groups
from examples.chat.conversion.release import int4_groups, int8_groups
from examples.chat.make_release import read
from examples.chat.model import Model
from examples.chat.model.cache import Cache
from examples.chat.model.config import WeightFormat
from examples.chat.model.linear import packed_in_blocks, unpacked_blocks
from examples.chat.model.sequences import Sequence
from safetensors.torch import load_file, save_file
from torch import Tensor

from lambda_torch import project
from unit.chat import tiny

PROMPT = [1, 5, 80, 99, 3, 17, 260, 261, 44, 45, 46, 2, 200, 120]


@torch.inference_mode()
def scores_of(model: Model, parts: list[list[int]]) -> list[Tensor]:
    """The scores after each part of a sequence; a part of one token goes the quick way."""
    sequence = Sequence(model._network)
    return [model._network.scores(sequence.read(part)) for part in parts]


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("kind", ["folder", "F32"])
def test_scores_are_those_of_the_plain_formulas(tmp_path: Path, tied: bool, kind: str) -> None:
    """At once, in parts or token by token, from a Hugging Face folder or a GGUF file, float32 scores are the plain formulas'."""
    weights = tiny.random_weights(tied)
    path = tmp_path / "checkpoint"
    checkpoint = tiny.write_folder(path, weights) if kind == "folder" else tiny.write_gguf(path, weights, kind)
    model = Model.load(tiny.write_tiny_release(tmp_path / "release", checkpoint, "float32"))
    expected = tiny.plain_scores(weights, PROMPT)
    for parts in ([PROMPT], [PROMPT[:5], PROMPT[5:9], PROMPT[9:]], [[token] for token in PROMPT]):
        found = scores_of(model, parts)
        ends = [sum(map(len, parts[: number + 1])) - 1 for number in range(len(parts))]
        torch.testing.assert_close(torch.stack(found), expected[ends], atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize(
    ("weights", "kind", "bound"),
    [
        ("bf16", "folder", 0.15),
        ("int8", "folder", 0.3),
        ("int4", "Q4_1", 0.15),
        ("int4", "Q4_0", 0.15),
        ("int8", "Q8_0", 0.3),
    ],
)
def test_quantised_scores_are_near_those_of_the_dequantised_weights(
    tmp_path: Path, weights: WeightFormat, kind: str, bound: float, tied: bool
) -> None:
    """Scores differ from float32's on the very weights of the checkpoint by a small part of their spread, by either way."""
    source = tiny.random_weights(tied)
    path = tmp_path / "checkpoint"
    checkpoint = tiny.write_folder(path, source) if kind == "folder" else tiny.write_gguf(path, source, kind)
    exact = Model.load(tiny.write_tiny_release(tmp_path / "exact", checkpoint, "float32"))
    model = Model.load(tiny.write_tiny_release(tmp_path / "release", checkpoint, weights))
    for parts in ([PROMPT], [[token] for token in PROMPT]):
        (expected,), (found,) = scores_of(exact, parts)[-1:], scores_of(model, parts)[-1:]
        assert (found - expected).std() < bound * expected.std() / 4
        assert found.argmax() == expected.argmax()


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1"])
def test_four_bit_weights_are_not_quantised_twice(tmp_path: Path, kind: str) -> None:
    """The numbers of a GGUF file's 4-bit blocks are the release's; only their scale and zero are rounded, to bfloat16."""
    path = tiny.write_gguf(tmp_path / "tiny.gguf", tiny.random_weights(), kind)
    release = tiny.write_tiny_release(tmp_path / "release", path, "int4")
    state = load_file(release / "weights.safetensors")
    numbers = unpacked_blocks(state["layers.1.down.weight"]).float().unflatten(1, (-1, 32)) - 8
    scale, zero = state["layers.1.down.scale_zero"].float().transpose(0, 1).unsqueeze(-1).unbind(2)
    found = numbers * scale + zero
    expected = read(path, "").weight("blk.1.ffn_down").unflatten(1, (-1, 32))
    assert torch.all((found - expected).abs() <= (8 * scale.abs() + zero.abs()) * 2**-8)
    rows = read(path, "").weight("token_embd").unflatten(1, (-1, 32))
    torch.testing.assert_close(
        state["embedding.weight"].unflatten(1, (-1, 32)) * state["embedding.scale"].float()[..., None], rows
    )


def test_quantising_rounds_to_the_nearest_step() -> None:
    """A weight that is quantised here is off by half a step at most."""
    weight = torch.randn(64, 96, generator=torch.Generator().manual_seed(1))
    four, eight = int4_groups(weight), int8_groups(weight)
    assert isinstance(four, Int4Groups)
    assert isinstance(eight, Int8Groups)
    values = four.numbers.unflatten(1, (-1, 32)) * four.scale[..., None] + four.offset[..., None]
    assert torch.all((values - weight.unflatten(1, (-1, 32))).abs() <= four.scale[..., None] * 0.5001)
    values = eight.numbers.unflatten(1, (-1, 32)) * eight.scale.float()[..., None]
    assert torch.all((values - weight.unflatten(1, (-1, 32))).abs() <= eight.scale.float()[..., None] * 0.57)


@pytest.mark.parametrize("block", [32, 64])
def test_packing_can_be_undone(block: int) -> None:
    """Packed 4-bit numbers are all there."""
    numbers = torch.randint(16, (192, 64), generator=torch.Generator().manual_seed(2)).byte()
    assert torch.equal(unpacked_blocks(packed_in_blocks(numbers, block), block), numbers)


PROCESSOR = """
import torch
from examples.chat.model.linear import Int4Linear, packed_in_blocks
random = torch.Generator().manual_seed(3)
numbers = torch.randint(16, (128, 64), generator=random)
layer = Int4Linear(packed_in_blocks(numbers), torch.randn(2, 128, 2, generator=random).bfloat16())
scale, zero = layer.scale_zero.float().transpose(0, 1).unsqueeze(-1).unbind(2)
weight = ((numbers.float().unflatten(1, (-1, 32)) - 8) * scale + zero).flatten(1)
for rows in (1, 3, 40):
    states = torch.randn(rows, 64, generator=random).bfloat16()
    torch.testing.assert_close(layer(states).float(), states.float() @ weight.T, atol=1.5, rtol=0.02)
print(torch.backends.cpu.get_cpu_capability())
"""


@pytest.mark.parametrize("capability", ["default", "avx2", "avx512"])
def test_four_bit_weights_are_right_on_every_processor(capability: str) -> None:
    """The same release gives the same products on processors whose kernels want other orders of the weights."""
    done = subprocess.run(
        [sys.executable, "-c", PROCESSOR],
        cwd=project.ROOT,
        env={**os.environ, "ATEN_CPU_CAPABILITY": capability},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_weights_at_odd_places_of_the_file_are_read(tmp_path: Path, folder: Path) -> None:
    """A release whose weights are at places that torch's kernels cannot use is served all the same."""
    release = tiny.write_tiny_release(tmp_path / "release", folder, "int8")
    expected = scores_of(Model.load(release), [PROMPT])[0]
    path = release / "weights.safetensors"
    for spaces in range(1, 9):
        save_file(load_file(path), path, metadata={"odd": "x" * 8 * spaces})
        assert torch.equal(scores_of(Model.load(release), [PROMPT])[0], expected)


def test_a_made_release_is_aligned(tmp_path: Path, folder: Path) -> None:
    """The data of the weights' file begins at a multiple of 64 bytes, so no weight needs a copy."""
    release = tiny.write_tiny_release(tmp_path / "release", folder, "int8")
    header = int.from_bytes((release / "weights.safetensors").read_bytes()[:8], "little")
    assert (8 + header) % 64 == 0


def test_the_cache_grows_and_forgets(model: Model) -> None:
    """A sequence longer than the first room, cut and continued, has the scores of the same tokens read at once."""
    tokens = (PROMPT * 30)[:400]
    sequence = Sequence(model._network)
    with torch.inference_mode():
        sequence.read(tokens[:250])
        for token in tokens[250:262]:
            sequence.read([token])
        sequence.keep(255)
        assert sequence.tokens == tokens[:255]
        found = model._network.scores(sequence.read(tokens[255:]))
        torch.testing.assert_close(found, scores_of(model, [tokens])[0], atol=2e-4, rtol=1e-4)
    assert Cache(model.config).room < 400
