"""Executes the workbook's notebooks and renders them to HTML that opens with no network."""

import logging
from pathlib import Path
from typing import Any

from mbutils.config import PROJECT
from mbutils.errors import WorkbookError


def execute(name: str, output: Path, parameters: dict[str, Any]) -> None:
    """Runs one notebook of the workbook through papermill.

    Args:
        name: The notebook's name without ".ipynb", such as "train".
        output: Where the executed notebook is saved, also when it fails.
        parameters: What its parameters cell is overridden with.

    Raises:
        WorkbookError: If the notebook raises or its kernel dies.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError
    from traitlets.config import Config

    logging.getLogger("papermill").setLevel(logging.ERROR)
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
            PROJECT / "notebooks" / f"{name}.ipynb",
            output,
            parameters,
            progress_bar=False,
            # Sockets in the file system: no ports that parallel kernels could collide on, nothing on the network.
            config=Config({"KernelManager": {"transport": "ipc"}}),
            extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
        )
    except papermill.PapermillExecutionError as error:
        said = error.evalue if error.ename == WorkbookError.__name__ else f"{error.ename}: {error.evalue}"
        raise WorkbookError(f"{name}: {said}") from error
    except DeadKernelError as error:
        raise WorkbookError(f"{name}: the kernel died, most likely for want of memory") from error


def render(notebook: Path, html: Path) -> None:
    """Renders an executed notebook without its code cells, as one HTML file that loads nothing from elsewhere.

    Raises:
        WorkbookError: If there is no such notebook, or the HTML cannot be written.
    """
    from nbconvert import HTMLExporter
    from nbformat.reader import NotJSONError

    exporter = HTMLExporter(
        template_name="lab",
        exclude_input=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        embed_images=True,
        # By default these come from content delivery networks; the notebooks use none of them.
        require_js_url="",
        jquery_url="",
        mathjax_url="",
        mermaid_js_url="",
        widget_renderer_url="",
    )
    partial = html.with_name(f".{html.name}")
    try:
        body, _ = exporter.from_filename(notebook)
        partial.write_text(body, encoding="utf-8")
        partial.replace(html)
    except (NotJSONError, UnicodeDecodeError) as error:
        raise WorkbookError(f"{notebook} is no notebook: give an executed .ipynb file") from error
    except OSError as error:
        raise WorkbookError(f"cannot render {notebook} to {html} ({error.strerror}): check both paths") from error
