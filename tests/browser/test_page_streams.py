"""Answers in pieces on the page, in a real browser."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from browser.chromium import Chromium
from browser.conftest import command

TALKER = Path(__file__).with_name("talker")
SHOWN = "document.getElementById('result').textContent"


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the model that answers in pieces."""
    release = tmp_path_factory.mktemp("talker") / "release"
    release.mkdir()
    (release / "model.json").write_text("{}")
    with command("--model", str(TALKER), "--release", str(release)) as site:
        yield site


def ask(browser: Chromium, site: str, **fields: object) -> None:
    """Fill the form and send it."""
    browser.open(f"{site}/")
    browser.find("#ask")
    browser.run("document.getElementById('more').open = true")
    for name, value in fields.items():
        browser.write(f"#field-{name}", str(value))
    browser.find("#ask").click()


def asked(browser: Chromium) -> None:
    """Wait until the answer is over."""
    browser.wait(lambda: browser.run("!document.getElementById('ask').hasAttribute('aria-disabled')"))


def test_text_grows_while_it_arrives(browser: Chromium, talker: str, screenshots: Path) -> None:
    """The first word is on the page while later ones are not made; at the end all are, as text, with their pace."""
    ask(browser, talker, words=8, every=0.25)
    early = browser.wait(lambda: browser.run(SHOWN) if "word 0" in browser.run(SHOWN) else None)
    assert "word 7" not in early
    assert browser.find("#stop").is_displayed()
    asked(browser)
    assert browser.run(SHOWN) == "".join(f"word {number} <b>\n" for number in range(8))
    assert re.fullmatch(r"First piece after [0-9.]+ m?s, then [0-9.]+ pieces per second", browser.find("#pace").text)
    assert "later pieces and network" in browser.find("#phases").text
    assert not browser.all("#stop")[0].is_displayed()
    assert "Answered in 9 pieces" in browser.run("document.getElementById('status').textContent")
    assert browser.complaints() == []
    browser.screenshot(screenshots / "page-stream.png")


def test_a_person_can_stop(browser: Chromium, talker: str) -> None:
    """The button ends the answer: its text stays, the next request is answered, so the function has stopped too."""
    ask(browser, talker, words=100_000, every=0.05)
    browser.wait(lambda: "word 2" in browser.run(SHOWN))
    browser.find("#stop").click()
    asked(browser)
    stopped = browser.run(SHOWN)
    assert "word 2" in stopped
    assert browser.find("#pace").text.endswith("stopped by you")
    assert browser.focused() == "ask"
    assert not browser.all("#problem")[0].is_displayed()
    browser.write("#field-words", "1")
    browser.find("#ask").click()
    asked(browser)
    assert browser.run(SHOWN) == "word 0 <b>\n"


@pytest.mark.parametrize(
    ("field", "problem"),
    [("fail_at", "failed in the middle of its answer"), ("exit_at", "The answer broke off")],
)
def test_an_answer_that_breaks_keeps_its_pieces(browser: Chromium, talker: str, field: str, problem: str) -> None:
    """An error in the middle is an alert, below the text that came before it."""
    # A browser drops what it has not handed over when a connection breaks.
    ask(browser, talker, words=5, every=0.5, **{field: 2})
    assert problem.lower() in browser.find("#problem").text.lower()
    assert browser.run(SHOWN) == "word 0 <b>\nword 1 <b>\n"
