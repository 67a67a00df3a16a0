"""The report and a notebook in a real browser: what they show, on any screen, without a network."""

import shutil

import nbformat
import pytest

from mbutils.report import render

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: install it to run this test"),
]


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(params=["report.html", "runs/*/evaluate.html"])
def opened(request, browser, tiny_results):
    """An opened page, the requests that it made and the errors that its scripts raised."""
    (path,) = tiny_results.glob(request.param)
    page, requests, errors = browser.new_page(), [], []
    page.on("request", lambda sent: requests.append(sent.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(path.as_uri(), wait_until="networkidle")
    yield page, requests, errors
    page.close()


def test_page_makes_no_request(opened):
    page, requests, errors = opened
    assert [url for url in requests if not url.startswith(("data:", "blob:"))] == [page.url]
    assert errors == []


def test_page_of_a_foreign_notebook_loads_nothing_and_runs_no_script(browser, tmp_path):
    html = """<script src="http://127.0.0.1:9/a.js"></script><img src="http://127.0.0.1:9/a.png" onerror="run()">
    <link rel="stylesheet" href="http://127.0.0.1:9/a.css"><script>document.title = "changed"</script>"""
    output = nbformat.v4.new_output("display_data", {"text/html": html})
    cells = [nbformat.v4.new_markdown_cell("# Foreign"), nbformat.v4.new_code_cell("", outputs=[output])]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "a.ipynb")
    render.render(tmp_path / "a.ipynb", tmp_path / "a.html")
    page, answered = browser.new_page(), []
    page.on("requestfinished", lambda sent: answered.append(sent.url))
    page.on("requestfailed", lambda sent: answered.append((sent.url, sent.failure)))
    page.goto((tmp_path / "a.html").as_uri(), wait_until="networkidle")
    assert page.title() == "Foreign"
    assert answered[0] == page.url and all(failure == "csp" for _, failure in answered[1:])
    page.close()


def test_page_shows_tables_and_pictures_and_no_code(opened):
    page, _, _ = opened
    assert page.locator("table").count() >= 1
    pictures = page.locator("img")
    assert pictures.count() >= 2
    assert all(pictures.nth(i).evaluate("image => image.naturalWidth") > 100 for i in range(pictures.count()))
    text = page.inner_text("body")
    assert "import" not in text and "Try:" not in text and "image/s" not in text


def test_every_picture_has_an_alternative_text(opened):
    page, _, _ = opened
    pictures = page.locator("img")
    assert all(pictures.nth(i).get_attribute("alt") for i in range(pictures.count()))


def test_contents_lead_to_the_sections(opened):
    page, _, _ = opened
    links = page.locator("nav a")
    assert links.count() == page.locator("h2").count() >= 4
    assert all(page.locator(f"[id='{links.nth(i).get_attribute('href')[1:]}']").count() for i in range(links.count()))


@pytest.mark.parametrize("width", [390, 1280])
def test_page_fits_the_width_of_the_screen(opened, width):
    page, _, _ = opened
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_page_follows_the_color_scheme_of_the_reader(opened):
    page, _, _ = opened
    brightness = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        color = page.evaluate("getComputedStyle(document.body).backgroundColor")
        brightness[scheme] = sum(map(int, color.strip("rgb()").split(",")))
    assert brightness["dark"] < 150 < 600 < brightness["light"]


def test_printed_page_has_no_links_to_click(opened):
    page, _, _ = opened
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()


def test_report_is_small_enough_to_send(tiny_results):
    assert (tiny_results / "report.html").stat().st_size < 3e6
