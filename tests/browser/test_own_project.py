"""A project that `init` has made, in a real browser."""

from pathlib import Path

from PIL import Image

from browser.chromium import Chromium
from integration.own.conftest import run, served


def test_the_image_classifier_of_init_answers_on_its_page(browser: Chromium, tmp_path: Path, screenshots: Path) -> None:
    """Choose a blue picture on the page of a fresh image project: the answer says that it is blue."""
    run(tmp_path, "init", "mine", "--kind", "image")
    Image.new("RGB", (300, 200), (10, 20, 250)).save(tmp_path / "picture.png")
    with served(tmp_path / "mine") as running:
        browser.open(f"{running.url}/")
        browser.find("#field-image").send_keys(str(tmp_path / "picture.png"))
        browser.wait(lambda: browser.find("#form .preview img").get_attribute("alt") == "picture.png")
        browser.find("#ask").click()
        browser.wait(lambda: "blue" in browser.find("#result").text)
        assert browser.complaints() == []
        browser.screenshot(screenshots / "page-own-image.png")
