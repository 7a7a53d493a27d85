"""The page in a real browser, wide and at the width of a phone."""

import shutil

import pytest

from tests.export.service.shop import IDS
from tests.export.service.test_process import started
from tests.export.service.waiting import PATIENCE

pytestmark = pytest.mark.long
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("fastapi", reason="the extra `service` is not installed")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no chromium on the PATH")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(published, tmp_path_factory):
    with started(published[0], tmp_path_factory.mktemp("page") / "log") as (_, address):
        yield address


@pytest.fixture(params=[1200, 360], ids=["wide", "phone"])
def page(browser, address, request):
    page = browser.new_page(viewport={"width": request.param, "height": 740})
    page.set_default_timeout(1_000 * PATIENCE)
    failures = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.on("console", lambda said: failures.append(said.text) if said.type == "error" else None)
    page.on("request", lambda asked: failures.append(asked.url) if address not in asked.url else None)
    page.goto(address)
    page.wait_for_selector("#example-part:not([hidden])")
    yield page
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it scrolls sideways"
    assert [one for one in failures if not one.startswith("data:")] == []
    page.close()


def recommended(page, versions, history):
    """The names that are shown, once the best is there, and those that are wanted."""
    wanted = [" ".join(f"Name of {item}".split()) for item in versions[0].items(history, 10)]
    shown = (
        "Array.from(document.querySelectorAll('#items .name'), e => e.innerText.replace(/\\s+/g, ' ').trim())"
    )
    page.wait_for_function(f"best => {shown}[0] === best", arg=wanted[0])
    return page.evaluate(shown), wanted


def test_nothing_known_shows_the_most_popular_and_says_so(page):
    assert "Most popular" in page.inner_text("#items-title")
    assert "50 items, version" in page.inner_text("#about")


def test_an_example_is_answered_in_names_with_the_items_it_rests_on(page, versions):
    page.select_option("#example", index=1)
    shown, wanted = recommended(page, versions, [IDS[0], IDS[1]])
    assert shown == wanted
    assert page.locator("#history .bar").count() == 2
    assert all(text.endswith("%") for text in page.locator("#history .figure").all_inner_texts())
    page.click("#more")
    assert page.locator("#items li").count() > 10


def test_items_are_found_by_name_added_and_removed(page, versions):
    item = IDS[20]
    page.fill("#item", f"NAME of {item}")
    page.click(f"#suggestions button:has-text('{item}')")
    shown, wanted = recommended(page, versions, [item])
    assert shown == wanted
    page.fill("#item", "no-such-item")
    page.wait_for_function("document.querySelectorAll('#suggestions li').length === 0")
    page.press("#item", "Enter")
    page.wait_for_selector("#history .unknown")
    assert page.locator("#history li").count() == 2
    page.click("#items li:first-child button")
    page.wait_for_function("document.querySelectorAll('#history li').length === 3")
    page.click("#clear")
    page.wait_for_function("document.querySelectorAll('#history li').length === 0")
    assert "Most popular" in page.inner_text("#items-title")
