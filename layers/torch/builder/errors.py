"""The builder's errors. Every one names the cause and the next step.

BuildError
├── RequirementsError     packages that pip cannot install, or that Lambda cannot load
├── LayerSizeError        a layer that is too large for Lambda, or for its budget
├── ProfileError          a recorded profile that is damaged, or of another builder
├── ElfError              a library that is damaged, or that the splitter cannot rewrite
├── SideFileError         a `libraries.cold` that is damaged, or of another build
├── OutputsFileError      a file of outputs that is damaged
└── VerifyError           a finished tree that does not do what the staged tree does
"""


class BuildError(Exception):
    """The layer cannot be built.

    Args:
        cause: What went wrong, with the file or package it went wrong with.
        next_step: What a person can do about it; shown after "Next:".
    """

    def __init__(self, cause: str, next_step: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.cause}\nNext: {self.next_step}" if self.next_step else self.cause


class RequirementsError(BuildError):
    """pip cannot install the requirements, or they bring what a Lambda function cannot load."""


class LayerSizeError(BuildError):
    """The layer has, or will have, more bytes than its budget or than Lambda allows."""


class ProfileError(BuildError):
    """A recorded profile is missing, damaged, or of another version of the builder."""


class ElfError(BuildError):
    """An ELF file is damaged, or has a layout that the splitter cannot rewrite."""


class SideFileError(BuildError):
    """A side file is damaged, or belongs to another build."""


class OutputsFileError(BuildError):
    """A file of outputs is cut short, or is no such file."""


class VerifyError(BuildError):
    """The finished tree does not do what the staged tree does."""
