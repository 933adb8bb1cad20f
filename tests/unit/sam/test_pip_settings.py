import urllib.request
from pathlib import Path

import pytest

from lambda_torch.sam import pip_settings
from lambda_torch.sam.docker import Host

HERE = Host("127.0.0.1", "127.0.0.1")
IMAGE = "localhost:1/no/such-image"


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that pip is configured for, and nothing else that it is configured for."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    (folder / "a-1-py3-none-any.whl").write_bytes(b"wheel")
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_a_folder_of_wheels_is_served_while_the_build_runs(wheels: Path) -> None:
    """A container finds the wheels of this machine at an address; afterwards nobody listens there."""
    with pip_settings.for_containers(HERE, IMAGE) as variables:
        address = variables["PIP_FIND_LINKS"]
        with urllib.request.urlopen(f"{address}/a-1-py3-none-any.whl") as answer:
            assert answer.read() == b"wheel"
        assert variables["PIP_TRUSTED_HOST"] == "127.0.0.1"
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(address)


def test_the_address_is_the_same_for_the_next_build(wheels: Path) -> None:
    """SAM builds again what was built with other variables, so these do not change without need."""
    with pip_settings.for_containers(HERE, IMAGE) as first:
        before = dict(first)
    with pip_settings.for_containers(HERE, IMAGE) as second:
        assert dict(second) == before


def test_two_builds_at_once_do_not_share_a_port(wheels: Path) -> None:
    """A second build takes another port."""
    with pip_settings.for_containers(HERE, IMAGE) as first, pip_settings.for_containers(HERE, IMAGE) as second:
        assert first["PIP_FIND_LINKS"] != second["PIP_FIND_LINKS"]


def test_addresses_are_handed_on_and_local_paths_are_not(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index on the network is the container's too; one on this machine's disk it could not read."""
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"https://mirror.example/simple file://{wheels}")
    with pip_settings.for_containers(HERE, IMAGE) as variables:
        assert variables["PIP_EXTRA_INDEX_URL"] == "https://mirror.example/simple"
