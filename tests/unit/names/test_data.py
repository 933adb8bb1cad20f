"""Names from outside, spelt in the model's alphabet."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_torch.names.data import LETTERS, from_faker, from_folder, spell

# The 2018 post's categories that Faker has names for: all but Scottish.
CATEGORIES = [
    *("Arabic", "Chinese", "Czech", "Dutch", "English", "French", "German", "Greek", "Irish", "Italian", "Japanese"),
    *("Korean", "Polish", "Portuguese", "Russian", "Spanish", "Vietnamese"),
]


@pytest.mark.parametrize(
    ("name", "spelt"),
    [
        ("Ślusàrski", "Slusarski"),
        ("Łukasz Großmann", "Lukasz Grossmann"),
        ("Παπαδόπουλος", "Papadopoulos"),
        ("Щербаков (1)", "Shcherbakov"),
        ("諸葛", "Zhuge"),
        ("서연", "Seoyeon"),
        ("Nguyễn Đặng", "Nguyen Dang"),
        ("  O'Neal   Jr. ", "O'Neal Jr."),
        ("McCarthy", "McCarthy"),
        ("42", ""),
    ],
)
def test_names_are_spelt_in_the_alphabet(name: str, spelt: str) -> None:
    """Accents go, other scripts are transliterated, capitals and punctuation of names stay."""
    assert spell(name) == spelt


@given(st.text())
def test_spelling_leaves_only_letters_of_the_alphabet(name: str) -> None:
    """Whatever the text, what is left is in the alphabet, without space around it; spelling it again changes nothing."""
    spelt = spell(name)
    assert set(spelt) <= set(LETTERS)
    assert spelt == spelt.strip()
    assert spell(spelt) == spelt


def test_faker_has_names_for_the_posts_categories() -> None:
    """Each category has dozens of different names, in a fixed order, and no placeholder of Faker's is among them."""
    data = from_faker(20)
    assert list(data.names) == CATEGORIES
    assert all(len(names) >= 40 and names == sorted(set(names)) for names in data.names.values())
    assert "Doe" not in data.names["Polish"]
    assert not {"Doe", "John", "Jane"} & set(data.names["Vietnamese"])
    assert data == from_faker(20)


def test_a_folder_in_the_tutorials_layout_is_read(tmp_path: Path) -> None:
    """One file a category, one name a line; accents are folded, doubles, blank lines and unusable names left out."""
    (tmp_path / "Polish.txt").write_text("Ślusàrski\r\n\nNowak\nNowak\nX\n" + "long" * 20 + "\n", encoding="utf-8-sig")
    (tmp_path / "Czech.txt").write_text("Dvořák\nNovák", encoding="utf-8")
    (tmp_path / "README.md").write_text("not names")

    data = from_folder(tmp_path, 20)

    assert data.names == {"Czech": ["Dvorak", "Novak"], "Polish": ["Nowak", "Slusarski"]}
    assert data.skipped == 2
    assert data.total == 4


def test_the_longest_name_is_one_that_can_be_written(tmp_path: Path) -> None:
    """A first letter and max_length more are kept, one letter more is left out."""
    (tmp_path / "A.txt").write_text("Abcd\nAbc\nAb\n")
    assert from_folder(tmp_path, 2).names == {"A": ["Ab", "Abc"]}


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "holds no .txt file"),
        ({"names.csv": b"a,b"}, "holds no .txt file"),
        ({"A.txt": b""}, "A: 0 different names .* remove it"),
        ({"A.txt": b"Anna\nAnna\n"}, "A: 1 different names"),
        ({"A.txt": b"1\n2\n3\n"}, "A: 0 different names"),
        ({"A.txt": b"Anna\nM\xfcller\n"}, r"A\.txt, line 2: not UTF-8.*iconv"),
    ],
)
def test_odd_folders_are_refused(tmp_path: Path, files: dict[str, bytes], reason: str) -> None:
    """The reason names the file or the folder, and what to do."""
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        from_folder(tmp_path, 20)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """A missing folder, or a file in its place, is an error that says what is expected."""
    with pytest.raises(ValueError, match="is not a folder; it should hold one Category"):
        from_folder(tmp_path / "missing", 20)


def test_a_folder_named_like_a_list_is_an_error_and_not_a_crash(tmp_path: Path) -> None:
    """A directory called A.txt is refused by name."""
    (tmp_path / "A.txt").mkdir()
    with pytest.raises(ValueError, match=r"A\.txt cannot be read"):
        from_folder(tmp_path, 20)
