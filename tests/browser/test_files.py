"""Files and tables on the page, in a real browser."""

import base64
import io
import json
import shlex
import subprocess
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from PIL import Image as Pillow

from browser.chromium import Chromium
from browser.conftest import Front, Serve, asking_for, command, gateway
from browser.test_page import luminance
from lambda_torch.emulator.run import LocalRun

PICTURES = Path(__file__).with_name("pictures")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the model with files."""
    release = tmp_path_factory.mktemp("release")
    (release / "labels.json").write_text("[]")
    with command("--model", str(PICTURES), "--release", str(release)) as address:
        yield address


@pytest.fixture
def png(tmp_path: Path) -> Path:
    """A picture of 40 x 20: its upper half is blue, its lower half is green."""
    picture = Pillow.new("RGB", (40, 20), "blue")
    picture.paste("green", (0, 10, 40, 20))
    path = tmp_path / "a cat.png"
    picture.save(path)
    return path


def answered_picture(browser: Chromium) -> Any:
    """The picture of the answer."""
    shown = browser.find("#result img.picture")
    source = str(shown.get_attribute("src"))
    browser.wait(lambda: browser.run("document.querySelector('#result img.picture').naturalWidth"))
    return Pillow.open(io.BytesIO(base64.b64decode(source.removeprefix("data:image/png;base64,"))))


def test_a_picture_is_chosen_and_shown(browser: Chromium, site: str, png: Path, screenshots: Path) -> None:
    """Choose a PNG: the form shows it, the answer is a picture too, and the rest of the answer is there."""
    browser.open(f"{site}/")
    browser.find("#ask")
    assert browser.find("#form .preview img").get_attribute("alt") == "example.png"
    browser.find("#field-image").send_keys(str(png))
    browser.wait(lambda: browser.find("#form .preview img").get_attribute("alt") == "a cat.png")
    browser.find("#ask").click()
    answer = answered_picture(browser)
    assert answer.size == (40, 20)
    assert answer.getpixel((0, 0)) == (0, 128, 0)
    assert [each.text for each in browser.all("#result td.number")] == ["2", "4", "7"]
    assert "one\nline\n  0.5\n  no paper" in browser.run("document.getElementById('result').innerText")
    assert browser.complaints() == []
    assert browser.hosts() == {urlsplit(site).netloc}
    browser.screenshot(screenshots / "page-picture.png")


def test_files_can_be_dropped(browser: Chromium, site: str) -> None:
    """A file that is dropped on the field is taken; so are a sound, with a player, and a file of any kind."""
    into = io.BytesIO()
    with wave.open(into, "wb") as writer:
        writer.setparams((1, 2, 8000, 0, "NONE", ""))
        writer.writeframes(b"\0\0" * 4000)
    browser.open(f"{site}/")
    browser.find("#more summary").click()
    for field, name, kind, data in (
        ("sound", "half a second.wav", "audio/wav", into.getvalue()),
        ("paper", "notes.txt", "text/plain", b"some words"),
    ):
        encoded = base64.b64encode(data).decode()
        browser.driver.execute_script(
            """
            const [field, name, type, encoded] = arguments;
            const bytes = Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0));
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([bytes], name, { type }));
            const drop = document.getElementById(`field-${field}`).closest(".drop");
            drop.dispatchEvent(new DragEvent("dragover", { dataTransfer, bubbles: true, cancelable: true }));
            drop.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
            """,
            *(field, name, kind, encoded),
        )
        browser.wait(lambda: len(browser.all("#form .preview .help")) == (2 if field == "sound" else 3))  # noqa: B023
    assert len(browser.all("#form audio")) == 1
    browser.find("#ask").click()
    browser.find("#raw summary").click()
    answer = json.loads(browser.wait(lambda: browser.find("#json").text))
    assert answer["seconds"] == 0.5
    assert answer["story"].endswith("notes.txt")
    assert browser.complaints() == []


def test_a_spreadsheet_is_pasted(browser: Chromium, site: str, screenshots: Path) -> None:
    """Cells with tabs and lines fill the table from where they are pasted; a row can be added; empty rows stay behind."""
    browser.open(f"{site}/")
    browser.find("#ask")
    browser.driver.execute_script(
        """
        const clipboardData = new DataTransfer();
        clipboardData.setData("text", "1\\t2\\t3\\r\\n4\\t5\\t6.5\\r\\n");
        const cell = document.querySelector("#field-rows tbody input");
        cell.focus();
        cell.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
        """
    )
    cells = [each.get_attribute("value") for each in browser.all("#field-rows tbody input")]
    assert cells == ["1", "2", "3", "4", "5", "6.5"]
    next(each for each in browser.all("button.small") if each.text == "Add a row").click()
    assert len(browser.all("#field-rows tbody tr")) == 3
    browser.find("#ask").click()
    browser.find("#result td.number")
    assert [each.text for each in browser.all("#result td.number")] == ["2", "4", "6", "8", "10", "13"]
    browser.screenshot(screenshots / "page-table.png")
    browser.all("#field-rows tbody input")[4].clear()
    browser.all("#field-rows tbody input")[4].send_keys("five")
    browser.find("#ask").click()
    assert "at [1][1]: a number is needed" in browser.find("#problem").text
    assert browser.find("#field-rows-wrong").is_displayed()


def test_the_curl_command_works(browser: Chromium, site: str, png: Path) -> None:
    """The command that the page shows, run beside the file, gives the same answer."""
    browser.open(f"{site}/")
    browser.find("#field-image").send_keys(str(png))
    browser.wait(lambda: browser.find("#form .preview img").get_attribute("alt") == "a cat.png")
    browser.find("#ask").click()
    browser.find("#raw summary").click()
    shown = json.loads(browser.wait(lambda: browser.find("#json").text))
    line = shlex.split(browser.find("#curl").text)
    assert line[:3] == ["curl", "-F", "image=@a cat.png"]
    done = subprocess.run([*line, "-s"], cwd=png.parent, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == shown


def test_the_local_gateway_passes_files_on(site: str, png: Path) -> None:
    """The file as the body, and an upload to the local S3, give what the page's form gives, under Lambda's own emulator."""

    def curl(*arguments: str) -> Any:
        done = subprocess.run(["curl", "-s", *arguments], cwd=png.parent, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    rows = "rows=%5B%5B1,2,3%5D%5D"
    answer = curl("--data-binary", f"@{png.name}", "-H", "Content-Type: image/png", f"{site}/predict?{rows}")
    assert answer["doubled"] == [[2, 4, 6]]
    assert curl("-F", f"file=@{png.name}", "-F", "rows=[[1,2,3]]", f"{site}/predict") == answer
    room = curl("-X", "POST", f"{site}/uploads")
    fields = [part for name, value in room["fields"].items() for part in ("-F", f"{name}={value}")]
    subprocess.run(["curl", "-sf", *fields, "-F", f"file=@{png.name}", room["url"]], cwd=png.parent, check=True)
    named = json.dumps({"image": {"upload": room["upload"]}, "rows": [[1, 2, 3]]})
    assert curl("-d", named, f"{site}/predict") == answer


def test_the_copied_command_has_the_key(browser: Chromium, names: LocalRun, serve: Serve) -> None:
    """The page shows a placeholder for the key; the copy button copies the key that was typed."""
    browser.open(f"{serve(asking_for('secret', gateway(names)))}/")
    browser.find("#ask").click()
    browser.find("#api-key").send_keys("secret")
    browser.find("#ask").click()
    browser.find("#raw summary").click()
    assert "X-Api-Key: YOUR_KEY" in browser.find("#curl").text
    browser.driver.execute_cdp_cmd(
        "Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    )
    browser.find("#copy").click()
    browser.wait(lambda: browser.find("#copy").text == "Copied")
    copied = browser.driver.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    assert copied.startswith("curl -H 'X-Api-Key: secret' -H 'Content-Type: application/json' -d ")


@pytest.mark.parametrize(
    ("message", "words", "asks"),
    [
        ("Missing Authentication Token", "signed with AWS credentials", False),
        ("Forbidden", "needs a key", True),
        ("User is not authorized to access this resource", "User is not authorized to", False),
        ("Blocked by the firewall", "Blocked by the firewall", False),
    ],
)
def test_a_403_says_what_it_was(
    message: str, words: str, asks: bool, browser: Chromium, names: LocalRun, serve: Serve
) -> None:
    """A missing key, a missing signature and anything else are told apart; a key is asked for where one helps."""
    app = gateway(names)

    async def refusing(request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "POST":
            return web.json_response({"message": message}, status=403)
        return await app.handle(request)

    browser.open(f"{serve(Front(app, refusing))}/")
    browser.find("#ask").click()
    assert words in browser.find("#problem").text
    assert f"403 {message}" in browser.find("#problem").text
    assert browser.all("#key")[0].is_displayed() is asks
    if asks:
        browser.press("wrong")
        browser.find("#ask").click()
        browser.wait(lambda: "refused this key" in browser.find("#problem").text)


def test_a_clock_runs_while_the_answer_is_on_its_way(browser: Chromium, names: LocalRun, serve: Serve) -> None:
    """A spinner with the seconds so far is shown, and goes with the answer."""
    app = gateway(names)
    browser.open(f"{serve(app)}/")
    browser.find("#ask")
    browser.driver.execute_script(
        """
        const real = window.fetch;
        window.fetch = async (...all) => {
          await new Promise((done) => { window.letGo = done; });
          return real(...all);
        };
        """
    )
    browser.find("#ask").click()
    assert browser.find("#clock .spinner")
    browser.wait(lambda: browser.find("#clock").text not in ("", "0.0 s"))
    browser.driver.execute_script("window.letGo()")
    browser.texts("#result .texts li")
    browser.wait(lambda: not browser.all("#clock")[0].is_displayed())


def test_the_document_is_dark_at_night(browser: Chromium, names: LocalRun, serve: Serve, screenshots: Path) -> None:
    """/docs follows the scheme, and leads back to the page."""
    site = serve(gateway(names))
    for dark in (True, False):
        browser.look(dark=dark)
        browser.open(f"{site}/docs")
        browser.find("#operations-model-predict")
        assert (luminance(browser.run("getComputedStyle(document.body).backgroundColor")) < 0.2) == dark
        if dark:
            assert "invert" in browser.run("getComputedStyle(document.getElementById('swagger-ui')).filter")
            browser.screenshot(screenshots / "docs-dark.png")
    browser.find("#back").click()
    browser.find("#ask")
    assert browser.driver.current_url == f"{site}/"
    assert browser.complaints() == []


def test_it_fits_a_phone(browser: Chromium, site: str, png: Path, screenshots: Path) -> None:
    """Preview, table and answer are no wider than a small phone's screen."""
    browser.look(320, 844, phone=True)
    browser.open(f"{site}/")
    browser.find("#field-image").send_keys(str(png))
    browser.find("#ask").click()
    answered_picture(browser)
    browser.find("#raw summary").click()
    assert browser.run("document.documentElement.scrollWidth") <= 320
    browser.screenshot(screenshots / "page-picture-phone.png")
