from pathlib import Path

import pytest

from serving.settings import Settings, SettingsError


def test_a_bare_environment_is_enough() -> None:
    """Every variable has a default, so that a function starts without any."""
    settings = Settings.from_environment({})
    assert settings.bucket is None
    assert settings.cors_origins == ("*",)


def test_an_empty_variable_counts_as_unset() -> None:
    """`MODEL_BUCKET=""`, as a template's empty parameter gives it, is no bucket."""
    assert Settings.from_environment({"MODEL_BUCKET": "", "MAX_BODY_BYTES": ""}).bucket is None


def test_lists_are_separated_by_commas() -> None:
    """CORS_ORIGINS takes several origins, with or without spaces."""
    environment = {"CORS_ORIGINS": "https://a.example, https://b.example"}
    assert Settings.from_environment(environment).cors_origins == ("https://a.example", "https://b.example")


def test_other_variables_are_ignored() -> None:
    """Lambda's environment has dozens of variables that are not ours."""
    assert Settings.from_environment({"PATH": "/bin", "RELEASE_CACHE": "/tmp/x"}).cache == Path("/tmp/x")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MAX_BODY_BYTES", "lots"),
        ("MAX_BODY_BYTES", "0"),
        ("RELEASE_RETRY_SECONDS", "nan"),
        ("LOG_LEVEL", "loud"),
        ("CORS_ORIGINS", " , "),
    ],
)
def test_an_unusable_value_is_named(variable: str, value: str) -> None:
    """The error names the variable, so that the log of a failed start says which to mend."""
    with pytest.raises(SettingsError, match=variable):
        Settings.from_environment({variable: value})


@pytest.mark.parametrize(("memory", "threads"), [(128, 1), (1769, 1), (3008, 1), (3538, 2), (10240, 5)])
def test_threads_follow_the_vcpus_that_are_paid_for(memory: int, threads: int) -> None:
    """Lambda's share of CPU grows with memory: one vCPU at 1,769 MB."""
    assert Settings.from_environment({"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory)}).threads == threads
