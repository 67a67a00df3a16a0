"""Runs the code cells of a notebook in this process: what papermill does, without a kernel that imports everything."""

import types

from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from matplotlib import pyplot as plt
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from traitlets.config import Config

from mbutils.config import PROJECT


def run(name, parameters, times=1):
    """Runs each cell so many times in a row and raises what a cell raises; returns the number of pictures drawn."""
    notebook = load_notebook_node(str(PROJECT / "notebooks" / f"{name}.ipynb"))
    cells = [cell for cell in parameterize_notebook(notebook, parameters).cells if cell.cell_type == "code"]
    quiet = Config({"HistoryManager": {"enabled": False}})
    shell = InteractiveShell.instance(config=quiet, user_module=types.ModuleType("notebook"))
    try:
        for cell in cells:
            for _ in range(times):
                with capture_output():
                    result = shell.run_cell(cell.source, store_history=True)
                result.raise_error()
        return len(plt.get_fignums())
    finally:
        plt.close("all")
        InteractiveShell.clear_instance()
