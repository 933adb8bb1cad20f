"""The model's own chat template: from messages to the text that it was trained to answer.

A template is a Jinja program that comes with the weights, so it runs in Jinja's sandbox. The special tokens that it writes are
special. Those that a client's text spells are not: a message that says `<|im_end|>` must not end, and nobody can begin a message
of another role in the middle of their own.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from .schema import Message
from .tokenizer import Tokenizer

# A private use area: characters without a meaning. They stand for a special token's text of a client while the template runs.
_MARKS = range(0x100000, 0x10FFFE)
LONGEST_TEMPLATE = 100_000


class MessagesRefusedError(Exception):
    """The template cannot be filled with these messages; the message says why."""


class ChatTemplate:
    """A chat template and the tokenizer whose special tokens it writes.

    Raises:
        ValueError: it is not a template, or it cannot be filled with a first message of a user.
    """

    def __init__(self, source: str, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._special = re.compile("(" + ("|".join(map(re.escape, tokenizer.special)) or r"(?!)") + ")")
        # As Hugging Face sets it up, for which such templates are written.
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals.update(tokenizer.named, raise_exception=_refuse)
        try:
            self._template = environment.from_string(source)
            self.tokens([Message(role="user", content="Hello")])
        except (TemplateError, MessagesRefusedError) as error:
            raise ValueError(f"the chat template does not work ({error})") from None

    @classmethod
    def read(cls, path: Path, tokenizer: Tokenizer) -> "ChatTemplate":
        """Read `chat_template.jinja`.

        Raises:
            ValueError: the file is missing, too long or no template.
        """
        try:
            source = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: cannot be read ({error})") from error
        if len(source) > LONGEST_TEMPLATE:
            raise ValueError(f"{path}: has {len(source)} characters; a template has {LONGEST_TEMPLATE} at most")
        try:
            return cls(source, tokenizer)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def tokens(self, messages: Sequence[Message]) -> list[int]:
        """The token numbers of the conversation, up to where the model's answer begins.

        Raises:
            MessagesRefusedError: the template does not take these messages, for example because of the order of their roles.
        """
        special = self._tokenizer.special
        used = set().union(*(message.content for message in messages))
        free = (chr(mark) for mark in _MARKS if chr(mark) not in used)
        marks = dict(zip(special, free, strict=False))
        filled = [
            {"role": each.role, "content": self._special.sub(lambda found: marks[found.group()], each.content)}
            for each in messages
        ]
        try:
            text = self._template.render(messages=filled, add_generation_prompt=True)
        except MessagesRefusedError:
            raise
        except Exception as error:
            # A template is a program: it may fail in any way.
            raise MessagesRefusedError(f"{type(error).__name__}: {error}") from error
        unmarked = {ord(mark): token for token, mark in marks.items()}
        numbers: list[int] = []
        for place, part in enumerate(self._special.split(text)):
            if place % 2:
                numbers.append(special[part])
            else:
                numbers += self._tokenizer.encode(part.translate(unmarked))
        return numbers


def _refuse(reason: str) -> None:
    raise MessagesRefusedError(reason)
