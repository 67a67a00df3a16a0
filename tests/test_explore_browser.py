"""`explore.ipynb` in JupyterLab, in a real browser with a camera that is none."""

import os
import socket
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_html import CHROMIUM

import mbutils
from mbutils.config import PROJECT
from mbutils.report import render

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: install it to run this test"),
]
CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
OWN_FOLDERS = (
    "JUPYTER_CONFIG_DIR",
    "JUPYTER_RUNTIME_DIR",
    "JUPYTERLAB_WORKSPACES_DIR",
    "JUPYTERLAB_SETTINGS_DIR",
    "IPYTHONDIR",
)
SECONDS = 120  # for what takes a moment on a quiet machine


@pytest.fixture(scope="module")
def lab(tiny_results, tmp_path_factory):
    """A JupyterLab whose folder holds the notebook, with the runs of `tiny_results`: the address and the notebook."""
    folder, work = tmp_path_factory.mktemp("lab"), tmp_path_factory.mktemp("work")
    notebook = (PROJECT / "notebooks" / "explore.ipynb").read_text()
    changed = notebook.replace('results_dir: str = \\"\\"', f'results_dir: str = \\"{tiny_results}\\"')
    assert changed != notebook
    (folder / "explore.ipynb").write_text(changed)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--no-browser", "--allow-root", "--ServerApp.port_retries=0", "--IdentityProvider.token="]
    with (work / "log.txt").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options, f"--port={port}", f"--ServerApp.root_dir={folder}"],
            env=os.environ | {name: str(work / name) for name in OWN_FOLDERS},
            stdout=log,
            stderr=log,
        )
    wait_for(port, server)
    yield f"http://127.0.0.1:{port}/lab/tree/explore.ipynb", folder / "explore.ipynb"
    server.terminate()
    server.wait(SECONDS)


def wait_for(port, server):
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError("JupyterLab did not start")


@pytest.fixture(scope="module")
def page(lab):
    """The notebook after all its cells have run."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", *CAMERA]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        page = browser.new_page(viewport={"width": 1280, "height": 4500})  # JupyterLab leaves out what is not in view
        page.set_default_timeout(1000 * SECONDS)
        page.goto(lab[0])
        page.wait_for_selector("text=(ipykernel) | Idle")
        page.get_by_text("Run", exact=True).first.click()
        page.get_by_text("Run All Cells", exact=True).click()
        page.wait_for_selector("text=no second run is chosen")  # the output of the last cell
        yield page
        browser.close()


@pytest.fixture(scope="module")
def workbook(tiny_results):
    return mbutils.load(results_dir=str(tiny_results))


def upload(page, path):
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Upload", exact=True).click()
    chooser.value.set_files(path)


def shown_scores(page, title):
    """Waits for the answer to a photograph; returns the scores in the table on the page, by class and model."""
    page.wait_for_selector(f".widget-html >> text={title}. The model says: ")
    table = page.locator("table:has(th:text('C code'))")
    models = table.locator("thead th").all_inner_texts()[1:]
    rows = [row.locator("td").all_inner_texts() for row in table.locator("tbody tr").all()]
    return pd.DataFrame({name: dict(zip(models, scores, strict=True)) for name, *scores in rows}).T


def assert_shown(page, title, scores):
    expected = scores.map("{:.2%}".format)
    assert shown_scores(page, title)[list(scores.columns)].equals(expected.rename_axis(None))


def test_chosen_test_image_is_answered(page, workbook, digits):
    slider = page.locator(".noUi-handle")
    for _ in range(2):
        slider.press("ArrowRight")
    photo = digits.encoded(digits.spread("test", 100)[2:3])[0]
    assert_shown(page, "test image 2: 0", workbook.predict(photo))


def test_uploaded_photograph_is_answered_and_what_is_none_is_named(page, workbook, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (2000, 2500, 3), np.uint8)  # 15 MB: more than one message
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    upload(page, tmp_path / "noise.png")
    assert_shown(page, "noise.png", workbook.predict(tmp_path / "noise.png"))
    (tmp_path / "text.jpg").write_text("not an image")
    upload(page, tmp_path / "text.jpg")
    page.wait_for_selector("text=text.jpg: the photograph is unreadable (not a JPEG, PNG, BMP or WebP image)")


def test_picture_of_the_camera_is_answered_and_where_there_is_none_the_notebook_says_so(page):
    page.evaluate("() => { navigator.mediaDevices.getUserMedia = () => Promise.reject(Error('not found')) }")
    page.get_by_role("button", name="Camera").click()
    page.wait_for_selector("text=No camera: not found")
    page.evaluate("() => { delete navigator.mediaDevices.getUserMedia }")
    page.get_by_role("button", name="Camera").click()
    page.get_by_role("button", name="Take a picture").click()
    assert len(shown_scores(page, "camera")) == 10


def test_page_of_the_saved_notebook_shows_the_pictures_and_no_controls(page, lab, tmp_path):
    page.locator(".jp-Notebook").press("Control+s")
    page.wait_for_function("!document.querySelector('.lm-DockPanel-tabBar .jp-mod-dirty')")
    render.render(lab[1], tmp_path / "explore.html")
    text = (tmp_path / "explore.html").read_text()
    assert text.count("<img") == 4 and "C code" in text
    assert "VBox(" not in text and "<script" not in text and len(text) < 2e6
