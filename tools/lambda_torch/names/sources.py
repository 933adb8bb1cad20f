"""The lists of names in the Faker package that the sample model learns if no folder is given. Faker works offline.

Faker has a list for each of the 18 categories of the 2018 post, except Scottish.
"""

from collections.abc import Iterator
from importlib import import_module
from typing import NamedTuple

SURNAMES = ("last_names",)
BOTH = ("last_names", "first_names")


class NameSource(NamedTuple):
    """Lists of names for a category, in one Faker locale (attributes of `faker.providers.person.LOCALE.Provider`)."""

    category: str
    locale: str
    lists: tuple[str, ...] = SURNAMES


# Surnames, and also first names if a locale has only a few hundred surnames. A list in the locale's own romanization is
# better than a transliteration letter by letter, which loses the vowels of Arabic and reads kanji as Chinese.
SOURCES = (
    NameSource("Arabic", "fr_DZ", BOTH),
    NameSource("Chinese", "zh_CN", ("last_romanized_names", "last_names")),
    NameSource("Chinese", "zh_TW"),
    NameSource("Czech", "cs_CZ", BOTH),
    NameSource("Dutch", "nl_NL"),
    NameSource("English", "en_GB"),
    NameSource("English", "en_NZ"),
    NameSource("French", "fr_FR", BOTH),
    NameSource("French", "fr_CA"),
    NameSource("German", "de_DE"),
    NameSource("German", "de_AT"),
    NameSource("Greek", "el_GR", ("last_names_male",)),
    NameSource("Irish", "en_IE"),
    NameSource("Italian", "it_IT"),
    NameSource("Japanese", "ja_JP", ("last_romanized_names", "first_romanized_names")),
    NameSource("Korean", "ko_KR", BOTH),
    NameSource("Polish", "pl_PL", ("male_last_names", "unisex_last_names")),  # its last_names is a placeholder, "Doe"
    NameSource("Portuguese", "pt_BR", BOTH),
    NameSource("Portuguese", "pt_PT", BOTH),
    NameSource("Russian", "ru_RU", ("last_names_male",)),
    NameSource("Spanish", "es_ES"),
    NameSource("Spanish", "es_MX"),
    NameSource("Spanish", "es_CL"),
    # its first_names is a placeholder, "Jane" and "John"
    NameSource("Vietnamese", "vi_VN", (*SURNAMES, "first_names_female", "first_names_male", "first_names_unisex")),
)


def faker_names() -> Iterator[tuple[str, str]]:
    """(category, name as Faker spells it), list after list."""
    for source in SOURCES:
        provider = import_module(f"faker.providers.person.{source.locale}").Provider
        for attribute in source.lists:
            for name in getattr(provider, attribute):
                yield source.category, name
