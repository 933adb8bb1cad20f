"""The builder's errors: every one names the cause and the next step."""


class BuildError(Exception):
    """The layer cannot be built.

    Args:
        cause: What went wrong, with the file or package it went wrong with.
        next_step: What a person can do about it, as a sentence; shown after "Next:".
    """

    def __init__(self, cause: str, next_step: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.cause}\nNext: {self.next_step}" if self.next_step else self.cause


class ElfError(BuildError):
    """An ELF file is damaged, or laid out in a way that the splitter does not know how to rewrite."""


class SideFileError(BuildError):
    """A side file is damaged, or belongs to another build."""
