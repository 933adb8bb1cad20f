"""The folded decoder, held against the network it was folded from."""

import string
from pathlib import Path

import pytest
import torch
from benchmarks.tutorial import Tutorial
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from model import Model
from model.decoding import Decoder, gumbel_noise, scaled_gumbel
from model.network import RNN
from model.schema import Request

# Two letters whose log-probabilities differ by less are a tie for float32: either may be written.
TIE = 1e-3


def network(seed: int, categories: int, symbols: int, hidden_size: int, scale: float = 3.0) -> RNN:
    """A network with random weights, `scale` times as large as torch would start them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        rnn = RNN(categories, symbols, hidden_size).eval()
    with torch.no_grad():
        for parameter in rnn.parameters():
            parameter.mul_(scale)
    return rnn


@torch.no_grad()
def log_probabilities(rnn: RNN, category: int, letters: list[int]) -> Tensor:
    """After each of the letters, what the network itself says of the next: (letters, symbols), computed in float64."""
    rnn = rnn.double()
    symbols = rnn.i2o.out_features
    categories = rnn.i2h.in_features - rnn.hidden_size - symbols
    one_hot = functional.one_hot(torch.tensor([category]), categories).double()
    hidden = rnn.initial_state().double()
    outputs = []
    for letter in letters:
        output, hidden = rnn(one_hot, functional.one_hot(torch.tensor([letter]), symbols).double(), hidden)
        outputs.append(output[0])
    return torch.stack(outputs)


def assert_likeliest(rnn: RNN, category: int, start: int, ending: list[int], steps: int) -> None:
    """Every letter of the ending, and its end marker, is the network's own choice, or tied with it."""
    end = rnn.i2o.out_features - 1
    chosen = ending if len(ending) == steps else [*ending, end]
    assert end not in ending
    outputs = log_probabilities(rnn, category, [start, *chosen[:-1]])
    written = outputs[torch.arange(len(chosen)), torch.tensor(chosen)]
    assert torch.all(written >= outputs.max(1).values - TIE)


networks = st.builds(
    network,
    seed=st.integers(0, 2**32),
    categories=st.integers(1, 5),
    symbols=st.integers(2, 60),
    hidden_size=st.integers(1, 40),
    scale=st.sampled_from([0.5, 1.0, 2.0]),
)


@given(rnn=networks, data=st.data())
def test_every_letter_is_the_networks_own_choice(rnn: RNN, data: st.DataObject) -> None:
    """Whatever the weights and the batch, each written letter is the one that the unfolded network finds likeliest."""
    symbols = rnn.i2o.out_features
    categories = rnn.i2h.in_features - rnn.hidden_size - symbols
    row = st.tuples(st.integers(0, categories - 1), st.integers(0, symbols - 2))
    rows = data.draw(st.lists(row, min_size=1, max_size=12))
    steps = data.draw(st.integers(1, 12))
    decoder = Decoder.fold(rnn.float().state_dict())

    endings = decoder.decode([category for category, _ in rows], [letter for _, letter in rows], steps)

    assert len(endings) == len(rows)
    for (category, letter), ending in zip(rows, endings, strict=True):
        assert_likeliest(rnn, category, letter, ending, steps)


@given(rnn=networks, data=st.data())
def test_folding_keeps_the_log_probabilities(rnn: RNN, data: st.DataObject) -> None:
    """A step of the folded tables gives the log-probabilities of the network's own step, to float32's precision."""
    symbols, hidden_size = rnn.i2o.out_features, rnn.hidden_size
    categories = rnn.i2h.in_features - hidden_size - symbols
    category = data.draw(st.integers(0, categories - 1))
    letters = data.draw(st.lists(st.integers(0, symbols - 1), min_size=1, max_size=12))
    decoder = Decoder.fold(rnn.float().state_dict())

    hidden, folded = torch.zeros(hidden_size), []
    for letter in letters:
        state = decoder.category[category] + decoder.letter[letter] + hidden @ decoder.recurrent
        hidden, logits = state[:hidden_size], state[hidden_size:]
        folded.append(logits.log_softmax(0))

    torch.testing.assert_close(
        torch.stack(folded).double(), log_probabilities(rnn, category, letters), rtol=1e-4, atol=1e-4
    )


def test_names_are_those_of_the_tutorials_own_code(release: Path) -> None:
    """For a trained release, greedy names are what the tutorial's `samples` writes, letter for letter, ties aside."""
    model = Model.load(release)
    config = model.config
    rnn = RNN(len(config.categories), len(config.letters) + 1, config.architecture.hidden_size)
    rnn.load_state_dict(load_file(release / "weights.safetensors"))
    tutorial = Tutorial(rnn, config.categories, config.letters, config.max_length)
    requests = [Request(category=category, start_letters=string.ascii_uppercase) for category in config.categories]

    ours = [response.root for response in model.predict(requests)]

    theirs = [tutorial.samples(each.category, each.start_letters) for each in requests]
    for category, (names, expected) in enumerate(zip(ours, theirs, strict=True)):
        for name, other in zip(names, expected, strict=True):
            if name != other:
                start, *ending = (config.letters.index(letter) for letter in name)
                assert_likeliest(rnn, category, start, ending, config.max_length)


def test_a_name_has_at_most_max_length_letters_after_its_first() -> None:
    """A name that never ends is cut after `steps` letters."""
    rnn = network(0, 1, 5, 4)
    with torch.no_grad():
        rnn.o2o.bias[-1] = -1e6  # the end marker is never likeliest
    assert [len(ending) for ending in Decoder.fold(rnn.state_dict()).decode([0, 0], [0, 1], 7)] == [7, 7]


def test_a_name_may_end_at_once() -> None:
    """A name whose first letter is followed by the end marker is that letter."""
    rnn = network(0, 1, 5, 4)
    with torch.no_grad():
        rnn.o2o.bias[-1] = 1e6
    assert Decoder.fold(rnn.state_dict()).decode([0, 0], [0, 1], 7) == [[], []]


def test_products_that_overflow_are_refused() -> None:
    """Finite weights whose products are not finite in float32 are refused when they are folded."""
    with pytest.raises(ValueError, match="overflow float32"):
        Decoder.fold(network(0, 1, 5, 4, scale=1e30).state_dict())


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
def test_drawn_letters_follow_the_networks_probabilities(temperature: float) -> None:
    """Over many draws, letters come as often as softmax(logits / temperature) says."""
    rnn, rows, symbols = network(3, 1, 12, 8, scale=1.5), 40_000, 12
    noise = gumbel_noise(rows, 1, symbols, temperature, torch.Generator().manual_seed(1))

    endings = Decoder.fold(rnn.state_dict()).decode([0] * rows, [2] * rows, 1, noise)

    drawn = torch.tensor([ending[0] if ending else symbols - 1 for ending in endings])
    frequencies = drawn.bincount(minlength=symbols) / rows
    expected = (log_probabilities(rnn, 0, [2])[0] / temperature).softmax(0)
    # Half the summed difference; with 40,000 draws of 12 symbols it is some 0.006 by chance.
    assert (frequencies - expected).abs().sum() / 2 < 0.02
    assert expected.max() < 0.999  # otherwise any draw would do


@pytest.mark.parametrize("temperature", [5e-324, 1e-40, 0.5, 2.0])
def test_noise_is_always_finite(temperature: float) -> None:
    """Neither the smallest nor the largest number that a generator draws gives infinite noise, or NaN."""
    extremes = torch.tensor([0.0, 2**-24, 0.5, 1 - 2**-24])
    assert torch.isfinite(scaled_gumbel(extremes, temperature)).all()
