"""The page to try the model, in a real browser."""

import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from selenium.webdriver.common.keys import Keys

from browser.chromium import Chromium
from browser.conftest import Serve, asking_for, at_stage, command, function, gateway, noting, saying
from integration.examples.conftest import EXAMPLE, embeddings_release
from lambda_torch.emulator.run import LocalRun

__all__ = ["embeddings_release"]

KINDS = Path(__file__).with_name("kinds")
NAMES = "#result .texts li"


def test_a_person_gets_names(browser: Chromium, site: str, names: LocalRun, screenshots: Path) -> None:
    """Pick a category, type letters, press the button: names appear, with the time, the warm receipt and the release."""
    browser.open(f"{site}/")
    browser.choose("#field-category", "Italian")
    browser.write("#field-start_letters", "ABC")
    browser.find("#ask").click()
    assert [name[0] for name in browser.texts(NAMES)] == ["A", "B", "C"]
    assert re.fullmatch(r"Round trip [0-9.]+ ms", browser.find("#time").text)
    assert browser.find("#warmth").text == "warm"
    assert len(browser.all("#bar span")) == 4
    assert re.search(r"model [0-9.]+ ms\b.*network [0-9.]+ ms", browser.find("#phases").text, re.DOTALL)
    assert browser.find("#release code").text == names.version[:12]
    assert browser.complaints() == []
    assert browser.hosts() == {urlsplit(site).netloc}
    browser.screenshot(screenshots / "page-light.png")


def test_it_starts_filled_in(browser: Chromium, site: str) -> None:
    """The schema's own example is in the form, so that one click shows something; what the release knows is a choice."""
    browser.open(f"{site}/")
    assert browser.find("#field-start_letters").get_attribute("value") == "RUS"
    assert browser.find("#field-category").tag_name == "select"
    browser.find("#ask").click()
    assert [name[0] for name in browser.texts(NAMES)] == ["R", "U", "S"]


def test_the_keyboard_is_enough(browser: Chromium, site: str) -> None:
    """Tab, type, Enter: no pointer is needed, and the focus can be seen where it is."""
    browser.open(f"{site}/")
    browser.find("#ask")
    browser.tab_to("field-category")
    browser.press("Ge")
    browser.tab_to("field-start_letters")
    assert browser.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.press(Keys.CONTROL + "a", "XY", Keys.ENTER)
    assert [name[0] for name in browser.texts(NAMES)] == ["X", "Y"]
    category = browser.find("#field-category")
    assert str(category.get_attribute("value")).startswith('"Ge')
    browser.tab_to("ask")
    browser.press(Keys.SPACE)
    browser.wait(lambda: browser.run("!document.getElementById('ask').hasAttribute('aria-disabled')"))


def test_every_field_has_its_label_and_its_help(browser: Chromium, site: str) -> None:
    """Readers of the screen hear name and help of each field, and of each answer."""
    browser.open(f"{site}/")
    browser.find("#ask")
    for field in browser.all("#form input, #form select, #form textarea"):
        identity = field.get_attribute("id")
        assert browser.all(f"label[for='{identity}']")
        for described in str(field.get_attribute("aria-describedby")).split():
            assert browser.all(f"#{described}")
    browser.find("#ask").click()
    browser.texts(NAMES)
    assert "Answered in" in browser.run("document.getElementById('status').textContent")
    assert browser.find("#status").get_attribute("role") == "status"


def test_a_refusal_says_what_to_mend(browser: Chromium, site: str, screenshots: Path) -> None:
    """The function's own message is shown as an alert, with its code, and the next answer takes it away."""
    browser.open(f"{site}/")
    browser.write("#field-start_letters", "R1Я")
    browser.find("#ask").click()
    problem = browser.find("#problem")
    assert problem.get_attribute("role") == "alert"
    assert "letters that this release does not know" in problem.text
    assert "400 unknown_letters" in problem.text
    browser.screenshot(screenshots / "page-refusal.png")
    browser.write("#field-start_letters", "R")
    browser.find("#ask").click()
    assert len(browser.texts(NAMES)) == 1
    assert not problem.is_displayed()


def test_a_refusal_leads_to_its_field(browser: Chromium, site: str) -> None:
    """A field that is wrong is marked, described and focused, also where it was folded away."""
    browser.open(f"{site}/")
    browser.find("#more summary").click()
    browser.write("#field-temperature", "9")
    browser.find("#more summary").click()
    browser.find("#ask").click()
    browser.find("#problem")
    field = browser.find("#field-temperature")
    assert browser.focused() == "field-temperature"
    assert field.get_attribute("aria-invalid") == "true"
    assert "less than or equal to 2" in browser.find("#field-temperature-wrong").text
    assert "field-temperature-wrong" in str(field.get_attribute("aria-describedby"))


def test_no_answer_is_said_too(browser: Chromium, site: str) -> None:
    """Without a network the page says so, and does not wait for ever."""
    browser.open(f"{site}/")
    browser.find("#ask")
    offline = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    try:
        browser.driver.execute_cdp_cmd("Network.enable", {})
        browser.driver.execute_cdp_cmd("Network.emulateNetworkConditions", {"offline": True, **offline})
        browser.find("#ask").click()
        assert "No answer arrived" in browser.find("#problem").text
    finally:
        browser.driver.execute_cdp_cmd("Network.emulateNetworkConditions", {"offline": False, **offline})


def test_the_first_visitor_sees_the_cold_start(
    browser: Chromium, release: Path, serve: Serve, screenshots: Path
) -> None:
    """When the page itself started an environment, that start is there phase by phase; the answer after it is warm."""
    with function(release) as run:
        browser.open(f"{serve(gateway(run))}/")
        phases = browser.texts("#start-phases .row-name")
        assert "import torch" in phases
        assert "A new environment started for this page" in browser.find("#start-words").text
        browser.find("#ask").click()
        browser.texts(NAMES)
        assert browser.find("#warmth").text == "warm"
        browser.screenshot(screenshots / "page-cold.png")


@pytest.mark.parametrize("path", ["/prod", "/prod/"])
def test_it_works_behind_a_stage(path: str, browser: Chromium, names: LocalRun, serve: Serve) -> None:
    """API Gateway puts the stage before every path, and answers with and without the last slash."""
    site = serve(at_stage("/prod", gateway(names)))
    browser.open(site + path)
    browser.find("#ask").click()
    assert len(browser.texts(NAMES)) == 3
    assert browser.find("#openapi").get_attribute("href") == f"{site}/prod/openapi.json"
    assert f"{site}/prod/predict" in browser.run("document.getElementById('curl').textContent")
    assert browser.complaints() == []


def test_an_api_key_is_asked_for(browser: Chromium, names: LocalRun, serve: Serve) -> None:
    """Where API Gateway refuses, the page asks for a key and sends it with the next request."""
    browser.open(f"{serve(asking_for('abc', gateway(names)))}/")
    browser.find("#ask").click()
    assert "needs a key" in browser.find("#problem").text
    assert browser.focused() == "api-key"
    browser.press("abc", Keys.ENTER)
    assert len(browser.texts(NAMES)) == 3


def test_another_origin_may_call(browser: Chromium, names: LocalRun, serve: Serve) -> None:
    """A page of another origin gets names by fetch, after a real preflight, and may read the release and the timing."""
    asked: list[str] = []
    site = serve(noting(asked, gateway(names)))
    script = f"""<!doctype html><link rel="icon" href="data:,"><ul></ul><script>
        fetch("{site}/predict", {{
            method: "POST",
            headers: {{"Content-Type": "application/json"}},
            body: JSON.stringify({{category: "Russian", start_letters: "RUS"}}),
        }}).then(async (answer) => {{
            document.body.dataset.release = answer.headers.get("X-Model-Version");
            document.body.dataset.timing = answer.headers.get("Server-Timing");
            for (const name of await answer.json()) {{
                document.querySelector("ul").append(Object.assign(document.createElement("li"), {{textContent: name}}));
            }}
        }});
    </script>"""
    other = serve(saying(script, gateway(names)))
    browser.open(other)
    assert [name[0] for name in browser.texts("li")] == ["R", "U", "S"]
    assert len(browser.run("document.body.dataset.release")) == 64
    assert "predict;dur=" in browser.run("document.body.dataset.timing")
    assert browser.complaints() == []
    assert asked == ["OPTIONS /predict", "POST /predict"]


@pytest.mark.parametrize("width", [320, 390])
def test_it_fits_a_phone(width: int, browser: Chromium, site: str, screenshots: Path) -> None:
    """Nothing is wider than a small phone's screen, and what is pressed is large enough for a finger."""
    browser.look(width, 844, phone=True)
    browser.open(f"{site}/")
    browser.write("#field-start_letters", "RUSRUSRUS")
    browser.find("#ask").click()
    browser.texts(NAMES)
    browser.find("#raw summary").click()
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.find("#ask").size["height"] >= 44
    assert browser.find("#field-category").size["height"] >= 40
    browser.screenshot(screenshots / f"page-phone-{width}.png")


def luminance(colour: str) -> float:
    """The relative luminance of `rgb(r, g, b)` (WCAG 2.2)."""
    parts = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read_in_either_scheme(dark: bool, browser: Chromium, site: str, screenshots: Path) -> None:
    """Text, help, button and refusal have WCAG's contrast of 4.5 to what is behind them, by day and by night."""
    browser.look(dark=dark)
    browser.open(f"{site}/")
    browser.find("#ask").click()
    browser.texts(NAMES)
    if dark:
        browser.screenshot(screenshots / "page-dark.png")
    browser.write("#field-start_letters", "")
    browser.find("#ask").click()
    browser.find("#problem")
    assert (luminance(browser.run("getComputedStyle(document.body).backgroundColor")) < 0.2) == dark
    for text, behind in [
        ("label", "form"),
        (".help", "form"),
        ("#ask", "#ask"),
        ("#problem", "#problem"),
        ("#field-category", "#field-category"),
        ("#answer h2", "#answer"),
        ("nav a", "body"),
    ]:
        browser.wait(lambda: browser.run("document.getAnimations().length === 0"))
        one, other = (
            luminance(browser.run(f"getComputedStyle(document.querySelector('{selector}')).{kind}"))
            for selector, kind in ((text, "color"), (behind, "backgroundColor"))
        )
        contrast = (max(one, other) + 0.05) / (min(one, other) + 0.05)
        assert contrast >= 4.5, (text, contrast)


def test_any_model_gets_its_form(browser: Chromium, tmp_path: Path, screenshots: Path) -> None:
    """A field of every kind is shown as what it is, filled with the model's example, and sent with the right type."""
    release = tmp_path / "release"
    release.mkdir()
    (release / "model.json").write_text("{}")
    with command("--model", str(KINDS), "--release", str(release)) as site:
        browser.open(f"{site}/")
        browser.find("#ask")
        assert browser.find("#title").text == "Everything that a form may have"
        assert browser.find("#field-colour").tag_name == "select"
        assert browser.find("#field-lines").get_attribute("value") == "one\ntwo"
        browser.choose("#field-colour", "red")
        browser.choose("#field-shade", "dark")
        browser.choose("#field-sure", "no")
        browser.write("#field-count", "7")
        browser.write("#field-measures", "1 2,5; 4.5")
        browser.write("#field-place", '{"x": 3, "y": -1}')
        browser.find("#more summary").click()
        browser.choose("#field-perhaps", "yes")
        browser.find("#ask").click()
        browser.find("#raw summary").click()
        sent = json.loads(browser.wait(lambda: browser.find("#json").text))["request"]
        assert sent == {
            "text": "hello",
            "colour": "red",
            "shade": "dark",
            "count": 7,
            "ratio": 0.5,
            "sure": False,
            "lines": ["one", "two"],
            "measures": [1, 2, 5, 4.5],
            "place": {"x": 3, "y": -1},
            "note": None,
            "weight": None,
            "perhaps": True,
        }
        browser.screenshot(screenshots / "page-kinds.png")
        browser.write("#field-place", "{")
        browser.find("#ask").click()
        assert "not valid JSON" in browser.find("#field-place-wrong").text
        assert browser.focused() == "field-place"
        assert browser.complaints() == []


@pytest.mark.parametrize("answer", ["a text\n  of lines", ["a text\n  of lines"], {"text": "a text\n  of lines"}])
def test_generated_text_keeps_its_line_breaks(answer: object, browser: Chromium, site: str) -> None:
    """Lines and indents of a text in the answer are shown, in the size of a paragraph and not of a title."""
    browser.open(f"{site}/")
    browser.find("#ask")
    browser.run(f"document.getElementById('result').replaceChildren(show({json.dumps(answer)}))")
    assert "a text\n  of lines" in browser.run("document.getElementById('result').innerText")
    sizes = "[document.querySelector('#result .long'), document.body].map((each) => getComputedStyle(each).fontSize)"
    assert len(set(browser.run(sizes))) == 1


def test_the_api_can_be_tried_in_its_document(
    browser: Chromium, names: LocalRun, serve: Serve, screenshots: Path
) -> None:
    """Swagger UI shows the routes and sends a request, behind a stage, within the policy and from this host alone."""
    site = serve(at_stage("/prod", gateway(names)))
    browser.open(f"{site}/prod/docs")
    browser.find("#operations-model-predict button").click()
    browser.find("#operations-model-predict .execute").click()
    answer = browser.find("#operations-model-predict .live-responses-table tbody .response-col_status")
    assert answer.text.startswith("200")
    assert browser.complaints() == []
    assert browser.hosts() == {urlsplit(site).netloc}
    browser.screenshot(screenshots / "docs.png")


def test_the_embeddings_are_shown_as_strips(browser: Chromium, embeddings_release: Path, screenshots: Path) -> None:
    """The second model of the project has its form and its answer on the same page: texts, one a line, and a strip for each."""
    with command("--model", str(EXAMPLE), "--release", str(embeddings_release)) as site:
        browser.open(f"{site}/")
        browser.find("#ask")
        assert browser.find("#title").text == "Texts to embed"
        assert len(str(browser.find("#field-texts").get_attribute("value")).splitlines()) == 2
        browser.write("#field-texts", "A man is eating food.\nA cheetah runs.\nA monkey drums.")
        browser.find("#ask").click()
        assert [text[:12] for text in browser.texts("#result figcaption")] == ["384 numbers:"] * 3
        assert browser.complaints() == []
        assert browser.hosts() == {urlsplit(site).netloc}
        browser.screenshot(screenshots / "page-embeddings.png")
