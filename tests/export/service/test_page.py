"""The page in a real browser, wide and at the width of a phone."""

import shutil

import numpy as np
import pytest

from tests.export import featured
from tests.export.service.shop import IDS
from tests.export.service.test_filters import write_attributes
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
    """Of a service whose items have a brand, by turns "a" and "b"."""
    bundle = tmp_path_factory.mktemp("page") / "b"
    shutil.copytree(published[0], bundle)
    write_attributes(bundle, 1)
    with started(bundle, tmp_path_factory.mktemp("page") / "log") as (_, address):
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
    # Chromium itself logs what the service refuses.
    refusals = sum("status of 422" in one for one in failures)
    assert refusals == getattr(page, "refusals", 0)
    assert [one for one in failures if not one.startswith("data:") and "status of 422" not in one] == []
    page.close()


NAMES_SHOWN = (
    "Array.from(document.querySelectorAll('#items .name'), e => e.innerText.replace(/\\s+/g, ' ').trim())"
)


def names(items):
    return [" ".join(f"Name of {item}".split()) for item in items]


def recommended(page, wanted):
    """Waits until the list is the one that is wanted; its names."""
    wanted = names(wanted)
    page.wait_for_function(f"wanted => JSON.stringify({NAMES_SHOWN}) === JSON.stringify(wanted)", arg=wanted)


def count_of(page, selector, count):
    """Waits until so many elements are there; by a function, since the page's policy allows no eval."""
    page.wait_for_function("([one, n]) => document.querySelectorAll(one).length === n", arg=[selector, count])


def test_nothing_known_shows_the_most_popular_and_says_so(page):
    assert "Most popular" in page.inner_text("#items-title")
    assert "50 items, version" in page.inner_text("#about")


def test_an_example_is_answered_in_names_with_the_items_it_rests_on(page, versions):
    page.select_option("#example", index=1)
    recommended(page, versions[0].items([IDS[0], IDS[1]], 10))
    assert page.locator("#history .bar").count() == 2
    assert all(text.endswith("%") for text in page.locator("#history .figure").all_inner_texts())


def test_items_are_found_by_name_added_and_removed(page, versions):
    item = IDS[20]
    page.fill("#item", f"NAME of {item}")
    page.click(f"#suggestions button:has-text('{item}')")
    recommended(page, versions[0].items([item], 10))
    page.fill("#item", "no-such-item")
    count_of(page, "#suggestions li", 0)
    page.press("#item", "Enter")
    page.wait_for_selector("#history .unknown")
    assert page.locator("#history li").count() == 2
    page.click("#items li:first-child button[aria-label^='Add']")
    count_of(page, "#history li", 3)
    page.click("#clear")
    count_of(page, "#history li", 0)
    assert "Most popular" in page.inner_text("#items-title")


def test_an_item_that_is_there_three_times_stands_once_with_its_count(page, versions):
    page.fill("#item", f"{IDS[30]} {IDS[31]} {IDS[30]} {IDS[30]}")
    count_of(page, "#suggestions li", 0)
    page.press("#item", "Enter")
    recommended(page, versions[0].items([IDS[30], IDS[31], IDS[30], IDS[30]], 10))
    shown = [" ".join(text.split()) for text in page.locator("#history .name").all_inner_texts()]
    assert shown == [*names([IDS[31]]), f"{names([IDS[30]])[0]} × 3"]
    page.click(f"#history button[aria-label='Remove Name of {IDS[30]}']")
    recommended(page, versions[0].items([IDS[31]], 10))
    count_of(page, "#history li", 1)


def test_k_and_seen_items_are_chosen(page, versions):
    page.select_option("#example", index=1)
    history = [IDS[0], IDS[1]]
    page.fill("#k", "3")
    page.press("#k", "Enter")
    recommended(page, versions[0].items(history, 3))
    page.check("#seen")
    page.fill("#k", "60")  # more than there are
    page.press("#k", "Enter")
    recommended(page, versions[0].items(history, 50, exclude_seen=False))


def test_a_filter_acts_and_one_that_cannot_be_is_told(page, versions):
    page.fill("#filter", "{")
    page.press("#filter", "Enter")
    page.wait_for_function("() => document.getElementById('notice').innerText.includes('is not JSON')")
    page.fill("#filter", '{"brand": "a"}')
    page.press("#filter", "Enter")
    recommended(page, IDS[0:20:2])
    page.select_option("#example", index=1)
    wanted = [item for item in versions[0].items([IDS[0], IDS[1]], 50) if IDS.index(item) % 2 == 0]
    recommended(page, wanted[:10])
    page.refusals = 1
    page.fill("#filter", '{"no such column": 1}')
    page.press("#filter", "Enter")
    page.wait_for_function("() => document.getElementById('notice').innerText.includes('no such column')")
    page.wait_for_timeout(50)
    page.fill("#filter", "")
    page.press("#filter", "Enter")
    recommended(page, versions[0].items([IDS[0], IDS[1]], 10))
    assert page.inner_text("#notice") == ""


def test_a_click_shows_similar_items_and_another_leads_back(page, versions):
    page.select_option("#example", index=1)
    wanted = versions[0].items([IDS[0], IDS[1]], 10)
    recommended(page, wanted)
    page.click("#items li:first-child button[aria-label^='Similar']")
    units = versions[0].table[1:] / np.linalg.norm(versions[0].table[1:], axis=1, keepdims=True)
    of = IDS.index(wanted[0])
    order = [IDS[row] for row in np.argsort(-(units @ units[of])) if row != of]
    recommended(page, order[:10])
    assert page.inner_text("#items-title").startswith("Similar to")
    page.click("#back")
    recommended(page, wanted)


def test_on_a_phone_the_list_comes_before_the_history(page):
    places = {name: page.locator(name).bounding_box() for name in ("#list", "#past")}
    if page.viewport_size["width"] < 500:
        assert places["#list"]["y"] + places["#list"]["height"] <= places["#past"]["y"]
    else:
        assert places["#past"]["x"] + places["#past"]["width"] <= places["#list"]["x"]


def test_what_begins_with_the_text_is_suggested_first(page, versions):
    text = "item-1"
    page.fill("#item", text)
    first = [item for item in IDS if item.startswith(text)]
    later = [item for item in IDS if text in f"Name of {item}" and item not in first]
    page.wait_for_function(
        "n => document.querySelectorAll('#suggestions button').length === n", arg=min(8, len(first + later))
    )
    shown = [" ".join(one.split()) for one in page.locator("#suggestions button").all_inner_texts()]
    assert shown == names([*first, *later][:8])


def test_what_a_version_reads_is_asked_for_and_what_is_known_of_an_item_is_shown(
    browser, featured_bundle, tmp_path
):
    shutil.copytree(featured_bundle, tmp_path / "b")
    write_attributes(tmp_path / "b", 1)
    with started(tmp_path / "b", tmp_path / "log", "--timeout_ms=60000") as (_, address):
        page = browser.new_page(viewport={"width": 360, "height": 740})
        page.set_default_timeout(1_000 * PATIENCE)
        page.goto(address)
        page.wait_for_selector("#features:not([hidden])")
        labels = page.locator("#features label").all_inner_texts()
        assert [one.split(" (")[0].strip() for one in labels] == [
            *("user: country", "user: tags", "user: age", "user: about", "user: taste"),
            *("request: device", "request: time"),
        ]
        page.fill("#feature-user-country", "日本")
        page.fill("#feature-user-tags", "vip; new")
        page.fill("#feature-user-age", "-2.5")
        page.fill("#feature-context-time", "1970-01-01T00:16:43Z")
        page.keyboard.press("Tab")
        user = {"country": "日本", "tags": ["vip", "new"], "age": -2.5}
        wanted = featured.best(featured.vector([], user, time=1003), 10)
        shown = "Array.from(document.querySelectorAll('#items .name'), one => one.title.slice(17))"
        page.wait_for_function(f"ids => JSON.stringify({shown}) === JSON.stringify(ids)", arg=wanted)
        page.locator("#items .name").first.click()
        page.wait_for_selector("#items .attributes")
        place = IDS.index(wanted[0])
        brand = "ab"[place % 2]
        assert page.inner_text("#items .attributes") == f"price: {place % 10} · brand: {brand}"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it scrolls sideways"
        page.close()
