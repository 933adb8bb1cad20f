"""The network as it is trained: the character-level RNN of the PyTorch tutorial.

Source: https://pytorch.org/tutorials/intermediate/char_rnn_generation_tutorial.html (Sean Robertson). The layers and so
the state dict's keys are the tutorial's; the only change is that the number of categories is an argument.
"""

import torch
from torch import Tensor, nn

DROPOUT = 0.1


class RNN(nn.Module):
    """One letter in, the log-probabilities of the next one out; category and letters are one-hot rows."""

    def __init__(self, n_categories: int, n_symbols: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        combined = n_categories + n_symbols + hidden_size
        self.i2h = nn.Linear(combined, hidden_size)
        self.i2o = nn.Linear(combined, n_symbols)
        self.o2o = nn.Linear(hidden_size + n_symbols, n_symbols)
        self.dropout = nn.Dropout(DROPOUT)
        self.softmax = nn.LogSoftmax(dim=1)

    def forward(self, category: Tensor, letter: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """One step.

        Args:
            category: (rows, categories), one-hot.
            letter: (rows, letters + end marker), one-hot.
            hidden: (rows, hidden size), the state that the step before returned.

        Returns:
            The next letter's log-probabilities (rows, letters + end marker), and the new state.
        """
        combined = torch.cat((category, letter, hidden), 1)
        hidden = self.i2h(combined)
        output = self.o2o(torch.cat((hidden, self.i2o(combined)), 1))
        return self.softmax(self.dropout(output)), hidden

    def initial_state(self, rows: int = 1) -> Tensor:
        """The state before the first letter: zeros, (rows, hidden size)."""
        return torch.zeros(rows, self.hidden_size)
