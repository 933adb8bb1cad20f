"""The release that is measured if no other is named."""

from pathlib import Path

from lambda_torch import project


def a_release() -> Path:
    """The release in build/release, where `lambda-torch train` writes one. Without it, the one of the project."""
    return project.RELEASE if project.RELEASE.exists() else project.SAMPLE_RELEASE
