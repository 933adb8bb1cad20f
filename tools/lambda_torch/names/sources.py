"""Where the sample model's names come from when no folder is given: lists in the Faker package, which works offline.

Of the 2018 post's 18 categories only Scottish has no list in Faker.
"""

from collections.abc import Iterator
from importlib import import_module
from typing import NamedTuple

SURNAMES = ("last_names",)
BOTH = ("last_names", "first_names")


class Source(NamedTuple):
    """Lists of one Faker locale (attributes of `faker.providers.person.LOCALE.Provider`) that hold names of a category."""

    category: str
    locale: str
    lists: tuple[str, ...] = SURNAMES


# Surnames; first names too where a locale has only a few hundred surnames. A list in the locale's own romanization is
# preferred to transliterating letter by letter, which loses the vowels of Arabic and reads kanji as Chinese.
SOURCES = (
    Source("Arabic", "fr_DZ", BOTH),
    Source("Chinese", "zh_CN", ("last_romanized_names", "last_names")),
    Source("Chinese", "zh_TW"),
    Source("Czech", "cs_CZ", BOTH),
    Source("Dutch", "nl_NL"),
    Source("English", "en_GB"),
    Source("English", "en_NZ"),
    Source("French", "fr_FR", BOTH),
    Source("French", "fr_CA"),
    Source("German", "de_DE"),
    Source("German", "de_AT"),
    Source("Greek", "el_GR", ("last_names_male",)),
    Source("Irish", "en_IE"),
    Source("Italian", "it_IT"),
    Source("Japanese", "ja_JP", ("last_romanized_names", "first_romanized_names")),
    Source("Korean", "ko_KR", BOTH),
    Source("Polish", "pl_PL", ("male_last_names", "unisex_last_names")),  # its last_names is a placeholder, "Doe"
    Source("Portuguese", "pt_BR", BOTH),
    Source("Portuguese", "pt_PT", BOTH),
    Source("Russian", "ru_RU", ("last_names_male",)),
    Source("Spanish", "es_ES"),
    Source("Spanish", "es_MX"),
    Source("Spanish", "es_CL"),
    # its first_names is a placeholder, "Jane" and "John"
    Source("Vietnamese", "vi_VN", (*SURNAMES, "first_names_female", "first_names_male", "first_names_unisex")),
)


def faker_names() -> Iterator[tuple[str, str]]:
    """(category, name as Faker spells it), list after list."""
    for source in SOURCES:
        provider = import_module(f"faker.providers.person.{source.locale}").Provider
        for attribute in source.lists:
            for name in getattr(provider, attribute):
                yield source.category, name
