"""Batches, losses, and what training refuses to call a model."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from lambda_torch.errors import TrainingError
from lambda_torch.names.corpus import PADDING, Corpus, letter_frequency_loss
from lambda_torch.names.data import Data
from lambda_torch.names.training import TrainingSettings, loss, train
from model.network import RNN

NAMES = {"A": ["ab", "abc", "b" * 6], "B": ["cab", "ba"]}


def data(names: dict[str, list[str]]) -> Data:
    """These names, as if read from somewhere."""
    return Data("a test", names, 0)


def test_names_become_padded_letters_and_targets() -> None:
    """A target is the next letter, then the end marker, then padding."""
    corpus = Corpus.encode({"A": ["ab"], "B": ["cab"]}, "abc")
    assert corpus.categories.tolist() == [0, 1]
    assert corpus.letters[:, :2].tolist() == [[0, 1], [2, 0]]
    assert corpus.targets.tolist() == [[1, 3, PADDING], [0, 1, 3]]


def test_a_batch_is_padded_no_further_than_its_longest_name() -> None:
    """Taking short names cuts what only the long ones need."""
    corpus = Corpus.encode(NAMES, "abc")
    assert corpus.letters.shape == (5, 6)
    assert corpus.take(torch.tensor([0, 4])).letters.tolist() == [[0, 1], [1, 0]]


def test_the_batched_loss_is_the_mean_over_single_names() -> None:
    """Padding counts for nothing: a batch's loss is that of its names one at a time, letter for letter."""
    torch.manual_seed(0)
    rnn = RNN(2, 4, 8).eval()
    corpus = Corpus.encode(NAMES, "abc")

    total, letters = 0.0, 0
    for row in range(len(corpus)):
        single = corpus.take(torch.tensor([row]))
        hidden = rnn.initial_state()
        category = functional.one_hot(single.categories, 2).float()
        for letter, target in zip(single.letters[0], single.targets[0], strict=True):
            output, hidden = rnn(category, functional.one_hot(letter, 4).float().unsqueeze(0), hidden)
            total -= output[0, target].item()
            letters += 1

    assert loss(rnn, corpus).item() == pytest.approx(total / letters, rel=1e-5)


def test_every_category_is_learned_and_held_out() -> None:
    """A tenth of each category, one name at least, is held out, and nothing is in both parts."""
    corpus = Corpus.encode({"A": [f"{'ab'[i % 2]}{'c' * (i + 1)}" for i in range(40)], "B": ["ab", "ba"]}, "abc")
    learned, held_out = corpus.split(torch.Generator().manual_seed(3))
    assert learned.categories.bincount().tolist() == [36, 1]
    assert held_out.categories.bincount().tolist() == [4, 1]

    def endings(part: Corpus) -> list[tuple[int, ...]]:
        return [tuple(target for target in row if target != PADDING) for row in part.targets.tolist()]

    assert sorted(endings(learned) + endings(held_out)) == sorted(endings(corpus))


def test_letter_frequencies_are_counted_on_the_learned_names() -> None:
    """The baseline is the cross-entropy of smoothed letter counts, by hand for a tiny case."""
    learned = Corpus.encode({"A": ["ab", "ab", "aab"]}, "ab")  # targets: b . b . a b .
    held_out = Corpus.encode({"A": ["ab"]}, "ab")  # targets: b .
    assert letter_frequency_loss(learned, held_out, 3) == pytest.approx(-math.log(4 / 10))


@pytest.fixture(scope="session")
def easy() -> Data:
    """Two categories whose names differ in every letter."""
    return data(
        {
            "A": [f"Ka{'la' * n}{x}" for n in range(8) for x in "mnrst"],
            "B": [f"Vo{'po' * n}{x}" for n in range(8) for x in "cdfgh"],
        }
    )


def test_training_is_repeatable_and_leaves_the_callers_state_alone(easy: Data) -> None:
    """The same names and seed give the same weights, another seed gives others; torch's own generator and threads stay."""
    settings = TrainingSettings(batches=40, batch_size=16, hidden_size=8)
    torch.manual_seed(5)
    threads = torch.get_num_threads()
    before = torch.random.get_rng_state()
    (_, first), (_, again) = train(easy, settings), train(easy, settings)
    _, other = train(easy, TrainingSettings(seed=1, batches=40, batch_size=16, hidden_size=8))

    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["i2h.weight"], other["i2h.weight"])
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_training_reports_and_keeps_its_figures(easy: Data) -> None:
    """Progress is told batch by batch, and the config has what the run was made from and how good it is."""
    told: list[tuple[int, float]] = []
    config, weights = train(
        easy,
        TrainingSettings(batches=40, batch_size=16, hidden_size=8, max_start_letters=5),
        lambda *each: told.append(each),
    )
    assert [done for done, _ in told] == list(range(1, 41))
    assert told[-1][1] < told[0][1]
    figures = json.loads(config.model_dump_json())["training"]
    assert figures["held_out_loss"] < figures["letter_frequency_loss"]
    assert figures["names"] == {"A": 40, "B": 40}
    assert {
        "seed",
        "batches",
        "batch_size",
        "seconds",
        "torch",
        "source",
        "held_out_names",
        "skipped_names",
    } <= figures.keys()
    assert config.max_start_letters == 5
    assert {name: tuple(tensor.shape) for name, tensor in weights.items()} == config.weight_shapes()


def test_learning_nothing_is_an_error() -> None:
    """Names without any order in their letters cannot be predicted better than by frequencies, and that is refused."""
    generator = torch.Generator().manual_seed(0)
    random = ["".join("abcdefgh"[i] for i in torch.randint(8, (6,), generator=generator)) for _ in range(30)]
    with pytest.raises(TrainingError, match="nothing was learned"):
        train(data({"Noise": random}), TrainingSettings(batches=2, batch_size=4, hidden_size=8))


def test_the_release_fixture_learned_something(release: Path) -> None:
    """Even the tests' briefly trained release is far better than letter frequencies."""
    figures = json.loads((release / "model.json").read_text())["training"]
    assert figures["held_out_loss"] < 0.9 * figures["letter_frequency_loss"]


def test_names_learned_by_heart_are_not_the_release() -> None:
    """Trained far too long on few names, the weights kept are the earlier ones, which were better for held-out names."""
    few = data(
        {"Few": [first + second + third for first in "KMR" for second in ("al", "or", "in") for third in ("ov", "ek")]}
    )
    config, _ = train(few, TrainingSettings(batches=300, batch_size=16, hidden_size=32))
    best = config.training["best_batch"]
    assert isinstance(best, int)
    assert 0 < best < 300
