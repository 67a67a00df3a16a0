"""Renders executed notebooks to HTML that opens with no network."""

import re
from pathlib import Path

import nbformat

from mbutils.errors import WorkbookError
from mbutils.files import atomic_write
from mbutils.progress import IS_PROGRESS

# Tags of cells: for the user of a notebook and not for readers of its page; text about outputs that may be missing.
NOTEBOOK_ONLY, ONLY_WITH_OUTPUT = "notebook-only", "only-with-output"
_TEMPLATES = Path(__file__).parent / "html"


def render(notebook: Path, html: Path) -> None:
    """Renders an executed notebook as one HTML file that loads nothing from elsewhere.

    Its code, its progress bars and the cells tagged `notebook-only` are left out, and text tagged `only-with-output` if
    no code cell up to the next text has an output.

    Raises:
        WorkbookError: If there is no such notebook, or the HTML cannot be written, or would replace another file.
    """
    from nbconvert import HTMLExporter

    _refuse_other_content(html)
    exporter = HTMLExporter(
        template_name="workbook",
        extra_template_basedirs=[str(_TEMPLATES)],
        exclude_input=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        embed_images=True,
    )
    content = _read(notebook)
    content.cells = _shown(content.cells)
    headings = _headings(content)
    titles = [title for level, title in headings if level == 1]
    resources = {
        "title": titles[0] if titles else notebook.stem,
        "contents": [title for level, title in headings if level == 2],
        "stylesheet": (_TEMPLATES / "workbook" / "style.css").read_text(),
    }
    body, _ = exporter.from_notebook_node(content, resources)
    with atomic_write(html, "give another path for the output") as partial:
        partial.write_text(body, encoding="utf-8")


def _shown(cells: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Returns the cells that readers of a page see, without progress bars; no line breaks before "%"."""
    shown, has_output = [], False
    for cell in reversed(cells):
        tags = cell.metadata.get("tags", [])
        if NOTEBOOK_ONLY in tags or (ONLY_WITH_OUTPUT in tags and not has_output):
            continue
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if IS_PROGRESS not in output.get("metadata", {})]
            if not cell.outputs:
                continue
        else:
            cell.source = re.sub(r"(?<=\d) %", "\u00a0%", cell.source)
        has_output = cell.cell_type == "code"
        shown.insert(0, cell)
    return shown


def _read(notebook: Path) -> nbformat.NotebookNode:
    try:
        content = nbformat.read(notebook, as_version=4)
        nbformat.validate(content)
    except OSError as error:
        raise WorkbookError(f"cannot read {notebook} ({error.strerror}): pass an executed .ipynb file") from error
    except Exception as error:  # nbformat has no common error for what is wrong in a file
        raise WorkbookError(f"{notebook} is not a notebook: pass an executed .ipynb file") from error
    return content


def _refuse_other_content(html: Path) -> None:
    try:
        begin = b""
        if html.is_file():
            with html.open("rb") as file:
                begin = file.read(100).lstrip().lower()
    except OSError as error:
        raise WorkbookError(f"cannot read {html} ({error.strerror}): give another path for the output") from error
    if html.exists() and not html.is_dir() and not begin.startswith((b"<!doctype html", b"<html")):
        raise WorkbookError(f"{html} exists and is not HTML: give another path for the output")


def _headings(content: nbformat.NotebookNode) -> list[tuple[int, str]]:
    """Returns the level and text of each heading; each becomes the alternative text of the pictures below it."""
    headings = []
    for cell in content.cells:
        if cell.cell_type == "markdown":
            headings += [(len(marks), text) for marks, text in re.findall(r"^(#+) (.+)$", cell.source, re.MULTILINE)]
        elif headings:
            cell.metadata["alt"] = headings[-1][1]
    return headings
