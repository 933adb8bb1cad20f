"""The model behind the endpoint: a release folder, loaded once, that answers messages token by token."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import torch
from pydantic_core import PydanticCustomError
from torch import Tensor

from .config import TEMPLATE_FILE, VOCABULARY_FILE, Config, read_config
from .network import Network
from .sampling import Sampler
from .schema import FinishReason, Message, Piece, Request, Response, Usage
from .sequences import Sequence, Sequences
from .template import ChatTemplate, MessagesRefusedError
from .text import AnswerText
from .tokenizer import Tokenizer
from .weights import Weights

# Prompt tokens that go through the network together: enough for the large matrices, and the deadline is looked at in between.
CHUNK = 128
# An answer ends when less than this is left of the time, or less than twice what the last step took.
LEAST_SECONDS = 0.25

Deadline = Callable[[], float]


class Model:
    """A loaded release. Calls may come from several threads; each answer that is being written has a cache of its own."""

    def __init__(self, config: Config, tokenizer: Tokenizer, template: ChatTemplate, network: Network) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self._template = template
        self._network = network
        self._sequences = Sequences(network)

    @classmethod
    def load(cls, release: Path) -> Self:
        """Load the release folder: `model.json`, `vocabulary.json`, `chat_template.jinja` and `weights.safetensors`.

        Raises:
            ValueError: a file is missing, broken, or disagrees with the others; the message says which and how.
        """
        config = read_config(release)
        tokenizer = Tokenizer.read(release / VOCABULARY_FILE)
        if len(tokenizer) != config.vocabulary:
            raise ValueError(
                f"{release / VOCABULARY_FILE} has {len(tokenizer)} tokens, and model.json says {config.vocabulary}"
            )
        template = ChatTemplate.read(release / TEMPLATE_FILE, tokenizer)
        with Weights(release) as weights:
            network = Network(config, weights)
        return cls(config, tokenizer, template, network)

    def check(self, request: Request) -> None:
        """Refuse a request that this release cannot answer.

        Raises:
            PydanticCustomError: of type prompt_too_long or messages_refused; its context has what a client needs to do better.
        """
        self._prompt(request)

    def predict(self, requests: list[Request], deadline: Deadline | None = None) -> list[Response]:
        """Answer a batch of requests, one after the other. The deadline is that of `stream`, for all of them together."""
        return [self._joined(request, deadline) for request in requests]

    def stream(self, request: Request, deadline: Deadline | None = None) -> Iterator[Piece]:
        """Answer one request in pieces, as they come.

        Args:
            request: what to answer.
            deadline: gives the seconds that are left. The answer ends in time, with the reason "deadline". 0 ends it at once.

        Returns:
            Pieces of text. The last one has the reason why the answer ends, and the counts of tokens. To close the iterator
            early ends the work, and the next request can use the tokens so far.

        Raises:
            PydanticCustomError: as `check` does.
        """
        return self._pieces(request, self._prompt(request), deadline or (lambda: float("inf")))

    def example(self) -> Request:
        """A valid request, for a warm-up or a demonstration. Each token of its answer is much more probable than the next best.

        So the answer is the same on processors that round differently, and can be a golden example.
        """
        question = Message(role="user", content="What is the capital city of Japan?")
        return Request(messages=[question], max_tokens=8, temperature=0)

    def _joined(self, request: Request, deadline: Deadline | None) -> Response:
        pieces = list(self.stream(request, deadline))
        last = pieces[-1]
        assert last.finish_reason is not None
        assert last.usage is not None
        message = Message(role="assistant", content="".join(piece.text for piece in pieces))
        return Response(message=message, finish_reason=last.finish_reason, usage=last.usage)

    def _prompt(self, request: Request) -> list[int]:
        """The prompt's token numbers, which leave room for one token at least."""
        if request.messages is None:
            prompt = self.tokenizer.encode(request.prompt or "")
        else:
            try:
                prompt = self._template.tokens(request.messages)
            except MessagesRefusedError as error:
                raise PydanticCustomError(
                    "messages_refused",
                    "The model's chat template does not take these messages: {reason}",
                    {"reason": str(error)[:200]},
                ) from None
        if not 0 < len(prompt) < self.config.context:
            raise PydanticCustomError(
                "prompt_too_long",
                "The prompt has {tokens} tokens, and the model reads {limit} at most, one less for the answer",
                {"tokens": len(prompt), "limit": self.config.context},
            )
        return prompt

    def _pieces(self, request: Request, prompt: list[int], deadline: Deadline) -> Iterator[Piece]:
        sampler = Sampler(request.temperature, request.top_p, request.seed)
        text = AnswerText(request.stops)
        most = min(request.max_tokens, self.config.context - len(prompt))
        reason: FinishReason = "length"
        written = 0
        with self._sequences.lend(prompt) as sequence:
            state = _read(sequence, prompt, deadline)
            slowest = 0.0
            while True:
                if state is None or deadline() < LEAST_SECONDS + 2 * slowest:
                    reason = "deadline"
                    break
                started = time.monotonic()
                with torch.inference_mode():
                    token = sampler.choose(self._network.scores(state))
                written += 1
                if token in self.config.end_tokens:
                    reason = "stop"
                    break
                if sent := text.add(self.tokenizer.bytes_of(token)):
                    yield Piece(text=sent)
                if text.stopped:
                    reason = "stop"
                    break
                if written == most:
                    break
                state = sequence.read([token])
                slowest = max(slowest, time.monotonic() - started)
            counts = Usage(prompt_tokens=len(prompt), completion_tokens=written, total_tokens=len(prompt) + written)
            yield Piece(text=text.add(b"", last=True), finish_reason=reason, usage=counts)


def _read(sequence: Sequence, prompt: list[int], deadline: Deadline) -> Tensor | None:
    """Read what the sequence lacks of the prompt; the last token's state, or None where time would run out."""
    state = None
    slowest = 0.0
    for start in range(len(sequence.tokens), len(prompt), CHUNK):
        if deadline() < LEAST_SECONDS + 2 * slowest:
            return None
        started = time.monotonic()
        state = sequence.read(prompt[start : start + CHUNK])
        slowest = max(slowest, time.monotonic() - started)
    return state
