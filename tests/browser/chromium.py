"""Chromium, driven through its own driver: what a person would do with the page, and what the browser has to say about it."""

import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select

T = TypeVar("T")

BROWSER, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")

# No sandbox: tests may run as root. The others keep the browser from looking for updates and the like on its own account.
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class Chromium:
    """One browser window."""

    def __init__(self) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = str(BROWSER)
        for option in OPTIONS:
            options.add_argument(option)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))

    def close(self) -> None:
        """End the browser and its driver."""
        self.driver.quit()

    def look(self, width: int = 1280, height: int = 860, *, dark: bool = False, phone: bool = False) -> None:
        """Be a screen of this size (CSS pixels), in the light or the dark scheme."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1, "mobile": phone}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def open(self, url: str) -> None:
        """Open an address, and forget what was logged before."""
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        self.driver.get(url)

    def find(self, selector: str) -> WebElement:
        """The element, as soon as it can be seen."""
        return self.wait(lambda: next((each for each in self.all(selector) if each.is_displayed()), None))

    def all(self, selector: str) -> list[WebElement]:
        """All such elements."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        """The texts of all such elements, as soon as each has one: what fades in is not there yet."""

        def found() -> list[str] | None:
            texts = [each.text for each in self.all(selector)]
            return texts if texts and all(texts) else None

        return self.wait(found)

    def write(self, selector: str, text: str) -> None:
        """Replace what a field has."""
        field = self.find(selector)
        field.clear()
        field.send_keys(text)

    def choose(self, selector: str, text: str) -> None:
        """Choose from a list."""
        Select(self.find(selector)).select_by_visible_text(text)

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def focused(self) -> str:
        """The id of the element that has the focus."""
        return str(self.driver.switch_to.active_element.get_attribute("id"))

    def tab_to(self, identity: str) -> None:
        """Press Tab until the focus is there."""
        for _ in range(30):
            if self.focused() == identity:
                return
            self.press(Keys.TAB)
        raise AssertionError(f"Tab does not lead to {identity}")

    def run(self, script: str) -> Any:
        """What a script gives."""
        return self.driver.execute_script(f"return {script}")

    def wait(self, condition: Callable[[], T | None], seconds: float = 20) -> T:
        """What the condition gives as soon as it is something."""
        end = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < end, self.run("document.body.innerText")
            time.sleep(0.05)
        return found

    def complaints(self) -> list[str]:
        """What is on the console, but for the browser's own lines about answers with an error status."""
        lines = [entry["message"] for entry in self.driver.get_log("browser")]
        return [line for line in lines if "Failed to load resource: the server responded with a status of" not in line]

    def hosts(self) -> set[str]:
        """Every host that was asked for anything since `open`."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"]
        return {urlsplit(url).netloc for url in sent if not url.startswith("data:")}

    def screenshot(self, path: Path) -> None:
        """The whole page as a PNG, when nothing on it moves any more."""
        self.wait(lambda: self.run("document.getAnimations().every((each) => each.playState === 'finished')"))
        picture = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
        path.write_bytes(base64.b64decode(picture["data"]))
