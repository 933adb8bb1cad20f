"""The tutorial's way to write names, which the 2018 post served. Benchmarks and tests compare our way with it.

Source: https://pytorch.org/tutorials/intermediate/char_rnn_generation_tutorial.html. It uses one-hot tensors, and
writes one letter in each step, for one start letter after another. The tutorial's globals are attributes here.
"""

import torch
from torch import Tensor

from model.network import RNN


class Tutorial:
    """The tutorial's `categoryTensor`, `inputTensor`, `sample` and `samples` for one trained network."""

    def __init__(self, rnn: RNN, categories: list[str], letters: str, max_length: int) -> None:
        self.rnn = rnn.eval()
        self.all_categories = categories
        self.all_letters = letters
        self.n_letters = len(letters) + 1  # plus the end marker
        self.max_length = max_length

    def category_tensor(self, category: str) -> Tensor:
        """One-hot, (1, categories)."""
        tensor = torch.zeros(1, len(self.all_categories))
        tensor[0][self.all_categories.index(category)] = 1
        return tensor

    def input_tensor(self, line: str) -> Tensor:
        """One-hot letters, (letters of the line, 1, letters + end marker)."""
        tensor = torch.zeros(len(line), 1, self.n_letters)
        for place, letter in enumerate(line):
            tensor[place][0][self.all_letters.find(letter)] = 1
        return tensor

    def sample(self, category: str, start_letter: str) -> str:
        """One name, with the likeliest letter at each step."""
        with torch.no_grad():
            category_tensor = self.category_tensor(category)
            letter_tensor = self.input_tensor(start_letter)
            hidden = self.rnn.initial_state()
            name = start_letter
            for _ in range(self.max_length):
                output, hidden = self.rnn(category_tensor, letter_tensor[0], hidden)
                topi = output.topk(1)[1][0][0]
                if topi == self.n_letters - 1:
                    break
                letter = self.all_letters[topi]
                name += letter
                letter_tensor = self.input_tensor(letter)
            return name

    def samples(self, category: str, start_letters: str) -> list[str]:
        """One name for each start letter."""
        return [self.sample(category, letter) for letter in start_letters]
