"""`lambda-torch import` on files that the PyTorch tutorial's own code makes."""

import pickle
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from model import Model, Request

# ---- The code of https://pytorch.org/tutorials/intermediate/char_rnn_generation_tutorial.html, its names and its order kept ----

all_letters = string.ascii_letters + " .,;'-"
n_letters = len(all_letters) + 1  # Plus EOS marker
category_lines = {
    "Italian": ["Abate", "Rossi", "Marino", "Bianchi", "Fontana", "Conti", "Ricci"],
    "Russian": ["Ivanov", "Petrov", "Rykov", "Smirnov", "Uvarov", "Sokolov", "Romanov"],
}
all_categories = list(category_lines)
n_categories = len(all_categories)
max_length = 20


class RNN(nn.Module):
    def __init__(self, input_size: int, hidden_size: int, output_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.i2h = nn.Linear(n_categories + input_size + hidden_size, hidden_size)
        self.i2o = nn.Linear(n_categories + input_size + hidden_size, output_size)
        self.o2o = nn.Linear(hidden_size + output_size, output_size)
        self.dropout = nn.Dropout(0.1)
        self.softmax = nn.LogSoftmax(dim=1)

    def forward(self, category: Tensor, input: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """One step: log-probabilities of the next letter, and the new state."""
        input_combined = torch.cat((category, input, hidden), 1)
        hidden = self.i2h(input_combined)
        output = self.i2o(input_combined)
        output_combined = torch.cat((hidden, output), 1)
        output = self.o2o(output_combined)
        output = self.dropout(output)
        output = self.softmax(output)
        return output, hidden

    def init_hidden(self) -> Tensor:
        """The state before the first letter."""
        return torch.zeros(1, self.hidden_size)


def category_tensor(category: str) -> Tensor:
    """One-hot category."""
    tensor = torch.zeros(1, n_categories)
    tensor[0][all_categories.index(category)] = 1
    return tensor


def input_tensor(line: str) -> Tensor:
    """One-hot letters of a line."""
    tensor = torch.zeros(len(line), 1, n_letters)
    for li in range(len(line)):
        tensor[li][0][all_letters.find(line[li])] = 1
    return tensor


def target_tensor(line: str) -> Tensor:
    """The letters from the second on, and the end marker."""
    return torch.LongTensor([*(all_letters.find(line[li]) for li in range(1, len(line))), n_letters - 1])


def train(rnn: RNN, category: str, line: str) -> None:
    """Learn one line."""
    targets, inputs, hidden = target_tensor(line).unsqueeze(-1), input_tensor(line), rnn.init_hidden()
    rnn.zero_grad()
    loss = torch.zeros(1)
    for i in range(inputs.size(0)):
        output, hidden = rnn(category_tensor(category), inputs[i], hidden)
        loss = loss + nn.functional.nll_loss(output, targets[i])
    loss.backward()
    for p in rnn.parameters():
        assert p.grad is not None
        p.data.add_(p.grad.data, alpha=-0.005)


def sample(rnn: RNN, category: str, start_letter: str) -> str:
    """Write one name."""
    with torch.no_grad():
        category_input, letter_input, hidden = category_tensor(category), input_tensor(start_letter), rnn.init_hidden()
        output_name = start_letter
        for _ in range(max_length):
            output, hidden = rnn(category_input, letter_input[0], hidden)
            topi = output.topk(1)[1][0][0]
            if topi == n_letters - 1:
                break
            letter = all_letters[topi]
            output_name += letter
            letter_input = input_tensor(letter)
        return output_name


def samples(rnn: RNN, category: str, start_letters: str) -> list[str]:
    """Write one name a start letter."""
    return [sample(rnn, category, start_letter) for start_letter in start_letters]


# ---- and the two files of the 2018 post ----


@pytest.fixture(scope="session")
def rnn() -> RNN:
    """The tutorial's network, trained its way for a moment."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        rnn = RNN(n_letters, 128, n_letters)
        for _ in range(25):
            for category, lines in category_lines.items():
                for line in lines:
                    train(rnn, category, line)
    return rnn.eval()


@pytest.fixture
def files(rnn: RNN, tmp_path: Path) -> tuple[Path, Path]:
    """model.pth and params.pkl, as the post writes them."""
    torch.save(rnn.state_dict(), tmp_path / "model.pth")
    params = {
        "all_categories": all_categories,
        "n_categories": n_categories,
        "all_letters": all_letters,
        "n_letters": n_letters,
    }
    with (tmp_path / "params.pkl").open("wb") as file:
        pickle.dump(params, file)
    return tmp_path / "model.pth", tmp_path / "params.pkl"


def run_import(state_dict: Path, params: Path, output: Path) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    call = "from lambda_torch.cli import main; main()"
    arguments = ["import", "--state-dict", str(state_dict), "--params", str(params), "--output", str(output)]
    return subprocess.run([sys.executable, "-c", call, *arguments], capture_output=True, text=True, timeout=300)


def test_an_imported_release_writes_the_tutorials_names(rnn: RNN, files: tuple[Path, Path], tmp_path: Path) -> None:
    """What the tutorial's `samples` says of its network, the imported release says too, for every start letter."""
    output = tmp_path / "release"
    done = run_import(*files, output)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(output)

    model = Model.load(output)
    assert model.config.categories == all_categories
    for category in all_categories:
        (ours,) = model.predict([Request(category=category, start_letters=all_letters)])
        theirs = samples(rnn, category, all_letters)
        assert ours.root == theirs
    assert max(map(len, theirs)) > 3


def test_a_hostile_pickle_is_refused_and_nothing_runs(files: tuple[Path, Path], tmp_path: Path) -> None:
    """A parameters pickle that would create a file ends the command with an error; there is neither file nor release."""

    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    files[1].write_bytes(pickle.dumps(Hostile()))
    before = {path.name for path in tmp_path.iterdir()}

    done = run_import(*files, tmp_path / "release")

    assert done.returncode == 1
    assert "only containers, strings and numbers are allowed" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == before
