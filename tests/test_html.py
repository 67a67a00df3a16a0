"""The report and a notebook in a real browser: nothing is asked of a network, and they show what they should."""

import shutil

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: install it to run this test")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(params=["report.html", "runs/*/evaluate.html"])
def opened(request, browser, tiny_results):
    """An opened page, the requests it made and the errors its scripts raised."""
    (path,) = tiny_results.glob(request.param)
    page, requests, errors = browser.new_page(), [], []
    page.on("request", lambda sent: requests.append(sent.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(path.as_uri())
    page.wait_for_timeout(500)
    yield page, requests, errors
    page.close()


def test_page_asks_nothing_of_the_network(opened):
    page, requests, errors = opened
    assert [url for url in requests if not url.startswith(("data:", "blob:"))] == [page.url]
    assert errors == []


def test_page_shows_tables_and_pictures_and_no_code(opened):
    page, _, _ = opened
    assert page.locator("table").count() >= 1
    pictures = page.locator("img")
    assert pictures.count() >= 2
    assert all(pictures.nth(i).evaluate("image => image.naturalWidth") > 100 for i in range(pictures.count()))
    assert "import" not in page.inner_text("body")
