"""The model behind the endpoint: a release folder, loaded once, that turns texts into vectors."""

from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from .config import VOCABULARY_FILE, Config, read_config
from .network import Encoder, empty_encoder
from .schema import Request, Response
from .weights import read_weights
from .wordpiece import WordPiece

# Texts that go through the encoder together. Activations take some 10 MB a text at full length.
BATCH = 16
# Digits after the point: ten times finer than float32 is exact after six layers, and half the bytes of all digits.
DIGITS = 6


class Model:
    """A loaded release. It holds no state between calls but a cache of words, so calls may come from several threads."""

    def __init__(self, config: Config, tokenizer: WordPiece, encoder: Encoder) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self._encoder = encoder

    @classmethod
    def load(cls, release: Path) -> Self:
        """Load the release folder: `model.json`, `vocab.txt` and `weights.safetensors`.

        Raises:
            ValueError: a file is missing, broken, or disagrees with the others; the message says which and how.
        """
        config = read_config(release)
        tokenizer = WordPiece.read(release / VOCABULARY_FILE)
        if len(tokenizer) != config.vocabulary:
            raise ValueError(
                f"{release / VOCABULARY_FILE} has {len(tokenizer)} pieces, and model.json says {config.vocabulary}"
            )
        encoder = empty_encoder(config)
        # assign: the network uses the mapped file's pages as they are, so loading takes no second copy of the weights.
        encoder.load_state_dict(read_weights(release, encoder), assign=True)
        return cls(config, tokenizer, encoder)

    def predict(self, requests: list[Request]) -> list[Response]:
        """Embed the texts of a batch of requests. A text's vector does not depend on the others, but for rounding."""
        texts = [text for request in requests for text in request.texts]
        rows = iter(self._embed(texts).tolist())
        return [Response([next(rows) for _ in request.texts]) for request in requests]

    def count_tokens(self, request: Request) -> int:
        """How many word pieces of the request's texts the encoder reads."""
        return sum(len(self.tokenizer.encode(text, self.config.max_tokens)) for text in request.texts)

    def example(self) -> Request:
        """A valid request, for a warm-up or a demonstration."""
        return Request(texts=["A man is eating food.", "A man eats a piece of bread."])

    @torch.inference_mode()
    def _embed(self, texts: list[str]) -> Tensor:
        """(texts, hidden), float64, rounded."""
        numbers = [self.tokenizer.encode(text, self.config.max_tokens) for text in texts]
        vectors = torch.empty(len(texts), self.config.hidden, dtype=torch.float64)
        # Texts of like length go together, so that little of a batch is padding.
        order = sorted(range(len(texts)), key=lambda index: len(numbers[index]))
        for start in range(0, len(order), BATCH):
            together = order[start : start + BATCH]
            longest = max(len(numbers[index]) for index in together)
            padded = torch.full((len(together), longest), self.tokenizer.padding)
            visible = torch.zeros(len(together), longest, dtype=torch.bool)
            for row, index in enumerate(together):
                padded[row, : len(numbers[index])] = torch.tensor(numbers[index])
                visible[row, : len(numbers[index])] = True
            vectors[together] = self._encoder(padded, visible).double()
        return vectors.round_(decimals=DIGITS)
