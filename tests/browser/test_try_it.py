"""The page "try it" on the built site, in headless Chromium: pictures, scratches, files, knobs, and the keyboard alone."""

import re

import numpy as np
import pytest
from book import MINUTE, opened
from PIL import Image

from mdps_ref.data.synthetic import draw_defect

START, END = (0.6, 0.25), (0.76, 0.42)  # of a scratch
DROP = """async ([bytes, name]) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], name));
  document.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
}"""

pytestmark = pytest.mark.slow


class TryIt:
    """The page, ready to be used.

    Parameters
    ----------
    book : Book
        It notes complaints on the console, and addresses that are not the server's.
    """

    def __init__(self, book):
        self.book, self.page = book, book.page
        self.page.set_default_timeout(5 * MINUTE)
        self.page.goto(f"{book.address}/try_it/")
        self.page.wait_for_selector("#thumbs:not(:has(input:disabled))")

    def scratch(self):
        """Draw a scratch with the mouse."""
        box = self.page.locator("#board").bounding_box()
        at = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (START, END)]
        self.page.mouse.move(*at[0])
        self.page.mouse.down()
        self.page.mouse.move(*at[1], steps=8)
        self.page.mouse.up()
        self.page.wait_for_selector("#undo:enabled")

    def search(self):
        """Look for a defect; whether the picture is flagged, and the place of the map's maximum."""
        self.page.click("#run")
        return self.verdict()

    def verdict(self):
        """Wait for the verdict."""
        self.page.wait_for_selector("#verdict .flagged, #verdict .passed")
        place = self.page.evaluate("() => ({...document.getElementById('map').dataset})")
        return self.page.locator("#verdict .flagged").count() == 1, (float(place["x"]), float(place["y"]))

    def text(self, name):
        """The words in an element."""
        return self.page.inner_text(f"#{name}")


@pytest.fixture(scope="module")
def loaded(playwright, address):
    """One page for all tests. Each begins by picking a picture."""
    with opened(playwright, address) as book:
        yield TryIt(book)


@pytest.fixture
def good(loaded):
    """The page with its first good washer, without scratches."""
    loaded.page.check("#thumbs label:nth-child(2) input", force=True)
    loaded.page.check("#thumbs label:nth-child(1) input", force=True)
    loaded.page.wait_for_selector("#undo:disabled")
    yield loaded
    assert (loaded.book.complaints, loaded.book.away) == ([], [])


def distance(place, start=START, end=END):
    """Distance of a place from a scratch."""
    along = np.linspace(0, 1, 100)[:, None]
    return np.hypot(*(np.subtract(place, (1 - along) * np.array(start) + along * np.array(end))).T).min()


def backend_id(page, selector):
    """Number of an element in the accessibility tree."""
    session = page.context.new_cdp_session(page)
    element = session.send("Runtime.evaluate", {"expression": f"document.querySelector('{selector}')"})["result"]["objectId"]
    return session.send("DOM.describeNode", {"objectId": element})["node"]["backendNodeId"]


def test_a_good_washer_is_not_flagged(good):
    assert not good.search()[0]
    assert good.text("verdict").startswith("Not flagged.")


def test_a_scratch_is_found_where_it_was_drawn(good):
    good.scratch()
    flagged, place = good.search()
    assert flagged and good.text("verdict").startswith("Flagged.")
    assert distance(place) < 0.06
    assert "top right" in good.text("verdict")
    good.page.wait_for_selector("#run-says a")
    assert good.text("run-says").startswith("Flagged. The search took ") and good.page.input_value("#step") == "13"
    assert good.page.evaluate("document.getElementById('run-bar').value") == 1


def test_the_steps_can_be_seen_again(good):
    good.search()
    last = good.text("step-says")
    good.page.focus("#step")
    good.page.keyboard.press("Home")
    first = good.text("step-says")
    assert "First pass, step 1 of 7, t = 300" in first and "Second pass, step 7 of 7, t = 0" in last


def test_a_dropped_image_is_searched(good, tmp_path):
    image, mask = draw_defect("washer", "rust", 128, np.random.default_rng(5))
    Image.fromarray(image).save(tmp_path / "rust.png")
    good.page.evaluate(DROP, [list((tmp_path / "rust.png").read_bytes()), "rust.png"])
    good.page.wait_for_selector("#thumbs:not(:has(input:checked))")
    flagged, (x, y) = good.search()
    assert flagged
    rows, columns = np.nonzero(mask)
    assert np.hypot(columns / 128 - x, rows / 128 - y).min() < 0.05


def test_a_file_that_is_no_image_is_told_and_the_picture_stays(good, tmp_path):
    (tmp_path / "notes.png").write_text("not a picture")
    good.page.set_input_files("#file", tmp_path / "notes.png")
    good.page.wait_for_selector("#file-says:not(:empty)")
    assert "notes.png" in good.text("file-says") and "\n" not in good.text("file-says")
    assert good.page.is_checked("#thumbs label:nth-child(1) input")


def test_a_search_can_be_stopped_and_begun_again(good):
    good.page.click("#run")
    good.page.wait_for_selector("#step:enabled")
    good.page.click("#cancel")
    assert good.text("verdict") == "Stopped. Look again."
    good.page.focus("#k-samples")
    good.page.keyboard.press("End")
    assert good.text("verdict") == "The knobs have been turned. Look again."
    good.search()
    assert "n = 2" in good.text("knobs")
    good.page.click("#usual")
    assert "n = 1" in good.text("knobs")


def test_the_keyboard_alone_is_enough(good):
    keyboard = good.page.keyboard

    def on(selector):
        return good.page.evaluate("selector => document.activeElement.matches(selector)", selector)

    def tab_to(selector):
        for _ in range(40):
            keyboard.press("Tab")
            if on(selector):
                return
        raise AssertionError(f"Tab does not reach {selector}")

    good.page.evaluate("document.activeElement.blur()")
    tab_to("#thumbs input")
    keyboard.press("ArrowRight")
    assert on("#thumbs label:nth-child(2) input:checked")
    keyboard.press("ArrowLeft")
    tab_to("#board")
    for key in ("Space", *["Shift+ArrowRight"] * 3, "Space"):
        keyboard.press(key)
    good.page.wait_for_selector("#undo:enabled")
    tab_to("#run")
    keyboard.press("Enter")
    assert on("#cancel"), "a search can be stopped where it was begun"
    flagged, place = good.verdict()
    assert flagged and distance(place, (0.5, 0.26), (0.74, 0.26)) < 0.06
    good.page.wait_for_selector("#cancel:disabled")
    assert on("#run"), "the keyboard keeps its place"


@pytest.mark.parametrize("width", [390, 1300])
def test_nothing_is_wider_than_the_window(good, width):
    good.page.set_viewport_size({"width": width, "height": 1000})
    assert good.page.evaluate("document.documentElement.scrollWidth") <= width
    good.page.set_viewport_size({"width": 1300, "height": 1000})


def test_a_screen_reader_finds_names_and_is_told_the_verdict(good):
    good.search()
    tree = good.page.context.new_cdp_session(good.page).send("Accessibility.getFullAXTree")["nodes"]
    nodes = [(node["role"]["value"], node.get("name", {}).get("value", ""), node) for node in tree if not node["ignored"]]
    roles = ("application", "button", "group", "image", "link", "progressbar", "radio", "slider")
    found = [(role, name) for role, name, _ in nodes if role in roles]
    assert [role for role, name in found if not name] == [] and {role for role, _ in found} == set(roles)
    assert any(re.fullmatch(r"The mask; \d+ % of the pixels are suspected", name) for _, name in found)
    (verdict,) = [node for node in tree if node.get("backendDOMNodeId") == backend_id(good.page, "#verdict")]
    assert {"name": "live", "value": {"type": "token", "value": "polite"}} in verdict["properties"]


def test_the_policy_holds_in_a_worker_that_starts_as_the_pages_does(good):
    refused = good.page.evaluate(
        """() => new Promise((done) => {
          const code = `addEventListener("securitypolicyviolation", (event) => postMessage(event.blockedURI));
            fetch("http://127.0.0.2/other").catch(() => {}).then(() => setTimeout(() => postMessage("no policy"), 1000));`;
          new Worker(URL.createObjectURL(new Blob([code]))).onmessage = ({ data }) => done(data);
        })"""
    )
    assert refused.startswith("http://127.0.0.2")
    good.book.complaints.clear()
