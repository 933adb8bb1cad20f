"""Trains the network of `model.network` for a release."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from lambda_torch.errors import TrainingError
from lambda_torch.names.corpus import Corpus, letter_frequency_loss
from lambda_torch.names.data import LETTERS, Data
from model.config import Architecture, Config
from model.network import RNN

Progress = Callable[[int, float], None]
"""Called with `(batches done, the loss of the last batch)`."""

# The highest learning rate of the one-cycle schedule (Smith and Topin, https://arxiv.org/abs/1708.07120).
LEARNING_RATE = 0.01
# How often in a run the loss on the held-out names is measured, to keep the best weights so far. The network soon
# learns a few hundred names by heart, and then gets worse on other names.
LOOKS = 25
# The network's state has no bound, so a long name could make a gradient of any size.
LARGEST_GRADIENT = 1.0


@dataclass(frozen=True)
class TrainingSettings:
    """The settings of a training run. With the defaults it takes about 15 s on one core."""

    seed: int = 0
    batches: int = 600
    batch_size: int = 128
    hidden_size: int = 128
    max_length: int = 20
    max_start_letters: int = 64


def train(data: Data, settings: TrainingSettings, progress: Progress | None = None) -> tuple[Config, dict[str, Tensor]]:
    """Learn the names.

    The same data and settings give the same weights on one machine. It uses one thread: at these sizes a second thread
    makes it slower, and the order of sums would depend on the number of cores.

    Returns:
        The `model.json` of the release, with the figures of this run, and its weights.

    Raises:
        TrainingError: the network predicts the held-out names no better than letter frequencies do.
    """
    started = time.perf_counter()
    with _alone(settings.seed):
        generator = torch.Generator().manual_seed(settings.seed)
        learned, held_out = Corpus.encode(data.names, LETTERS).split(generator)
        symbols = len(LETTERS) + 1
        rnn = RNN(len(data.names), symbols, settings.hidden_size)
        held_out_loss, best_batch, weights = _fit(
            rnn, learned, held_out, settings, generator, progress or (lambda _, __: None)
        )
    baseline = letter_frequency_loss(learned, held_out, symbols)
    if not held_out_loss < baseline:
        raise TrainingError(
            f"On names that were not learned, the loss is {held_out_loss:.3f} nats for each letter. Letter frequencies "
            f"alone give {baseline:.3f}, so nothing was learned that is true for other names. "
            "Next: give more names, or train longer or shorter (--batches)"
        )
    config = Config(
        architecture=Architecture(hidden_size=settings.hidden_size),
        categories=list(data.names),
        letters=LETTERS,
        max_length=settings.max_length,
        max_start_letters=settings.max_start_letters,
        training={
            "source": data.source,
            "names": {category: len(names) for category, names in data.names.items()},
            "skipped_names": data.skipped,
            "held_out_names": len(held_out),
            "held_out_loss": round(held_out_loss, 4),
            "letter_frequency_loss": round(baseline, 4),
            "seed": settings.seed,
            "best_batch": best_batch,
            "batches": settings.batches,
            "batch_size": settings.batch_size,
            "seconds": round(time.perf_counter() - started, 1),
            "torch": torch.__version__,
        },
    )
    return config, weights


def loss(rnn: RNN, batch: Corpus) -> Tensor:
    """Mean negative log-probability of each next letter, with end markers and without padding: a scalar, in nats."""
    categories, symbols = rnn.i2h.in_features - rnn.hidden_size - rnn.i2o.out_features, rnn.i2o.out_features
    category = functional.one_hot(batch.categories, categories).float()
    hidden = rnn.initial_state(len(batch))
    outputs = []
    for letters in functional.one_hot(batch.letters, symbols).float().unbind(1):
        output, hidden = rnn(category, letters, hidden)
        outputs.append(output)
    return functional.nll_loss(torch.cat(outputs), batch.targets.T.flatten())


def _fit(
    rnn: RNN,
    learned: Corpus,
    held_out: Corpus,
    settings: TrainingSettings,
    generator: torch.Generator,
    progress: Progress,
) -> tuple[float, int, dict[str, Tensor]]:
    """Train. Returns (the lowest loss on the held-out names, the number of its batch, the weights then)."""
    optimizer = torch.optim.Adam(rnn.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=settings.batches)
    odds = learned.weights()
    best_loss, best_batch, best = math.inf, 0, {}
    for done in range(1, settings.batches + 1):
        batch = learned.take(torch.multinomial(odds, settings.batch_size, replacement=True, generator=generator))
        optimizer.zero_grad()
        batch_loss = loss(rnn, batch)
        batch_loss.backward()
        nn.utils.clip_grad_norm_(rnn.parameters(), LARGEST_GRADIENT)
        optimizer.step()
        schedule.step()
        if done == settings.batches or done % max(1, settings.batches // LOOKS) == 0:
            held_out_loss = _evaluate(rnn, held_out)
            if held_out_loss < best_loss:
                best_loss, best_batch = held_out_loss, done
                best = {name: tensor.detach().clone() for name, tensor in rnn.state_dict().items()}
        progress(done, batch_loss.item())
    return best_loss, best_batch, best


def _evaluate(rnn: RNN, corpus: Corpus) -> float:
    """The loss without dropout."""
    rnn.eval()
    with torch.no_grad():
        value = loss(rnn, corpus).item()
    rnn.train()
    return value


@contextmanager
def _alone(seed: int) -> Iterator[None]:
    """Use one thread, and `seed` for torch's random numbers (first weights, dropout), and restore both afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)
