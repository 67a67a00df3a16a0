"""The controls of `explore.ipynb`, and the outputs that follow them."""

import html
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import ipywidgets as widgets
from IPython import get_ipython
from IPython.display import DisplayHandle, Pretty, display
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mbutils import runs
from mbutils.config import ExploreParameters, resolve_results_dir
from mbutils.data import photographs
from mbutils.errors import WorkbookError
from mbutils.explore.camera import Camera
from mbutils.explore.chosen import Chosen, choose, opened
from mbutils.explore.upload import Upload

View = Callable[[Chosen], Any]


@dataclass(frozen=True, eq=False)
class _Shown:
    """An output that follows the choice: what makes it, where it is, and the cell and execution that it belongs to."""

    view: View
    handle: DisplayHandle
    cell: str
    execution: int


class Explorer:
    """Lets a photograph and one or two runs be chosen; the outputs of `show` follow the choice.

    Args:
        parameters: What is chosen at first.

    Attributes:
        chosen: What is chosen.
        controls: The widgets: the runs, an upload, the test images, the camera.

    Raises:
        WorkbookError: If there is no such run, photograph or test image, or one cannot be read.
    """

    def __init__(self, parameters: ExploreParameters) -> None:
        folder = resolve_results_dir(parameters.results_dir)
        run = runs.find(folder, parameters.run_id)
        other = runs.find(folder, parameters.other_run_id) if parameters.other_run_id else None
        names = {found.run_id: found for found in [*runs.all_runs(folder), run, other] if found}
        wide, offered = {"width": "95%"}, {"none": "", **names}
        self._opened = cache(opened)
        self._shown: list[_Shown] = []
        self._run = widgets.Dropdown(options=names, value=run, description="run", layout=wide)
        self._other = widgets.Dropdown(options=offered, value=other or "", description="second run", layout=wide)
        self._upload = Upload(lambda name, content: self._choose(content, name))
        self._test_image = widgets.IntSlider(description="test image", continuous_update=False)
        self._camera = Camera()
        self._message = widgets.HTML()
        if parameters.photo:
            self._offer_test_images()
            self.chosen = self._with(photographs.encoded(parameters.photo), Path(parameters.photo).name)
        else:
            self.chosen = self._with(*self._opened(run).test_image(parameters.test_image))
            self._offer_test_images(parameters.test_image)
        self._report()
        sources = widgets.HBox([self._upload, self._test_image, self._camera])
        self.controls = widgets.VBox([self._run, self._other, sources, self._message])
        for widget, trait, follow in (
            (self._run, "value", self._follow_run),
            (self._other, "value", lambda change: self._choose(self.chosen.photo, self.chosen.title)),
            (self._test_image, "value", self._follow_test_image),
            (self._camera, "frame", lambda change: self._choose(change.new, "camera")),
        ):
            widget.observe(follow, trait)

    def show(self, view: View) -> None:
        """Shows what `view` makes of the choice as an output of this cell, now and whenever the choice changes.

        Args:
            view: Returns a picture, a table or another object that a notebook shows. The line of a `WorkbookError` that
                it raises is shown instead.
        """
        cell, execution = _this_cell()
        handle = display(self._output(view), display_id=True)
        kept = [shown for shown in self._shown if not cell or shown.cell != cell or shown.execution == execution]
        self._shown = [*kept, _Shown(view, handle, cell, execution)]

    def _output(self, view: View) -> Any:  # noqa: ANN401
        try:
            made = view(self.chosen)
        except WorkbookError as error:
            return Pretty(str(error))
        figure = made.figure if isinstance(made, Axes) else made
        if isinstance(figure, Figure):
            plt.close(figure)  # or the cell would show it a second time
        return figure

    def _with(self, photo: bytes, title: str) -> Chosen:
        other = self._opened(self._other.value) if self._other.value else None
        return choose(self._opened(self._run.value), photo, title, other)

    def _choose(self, photo: bytes, title: str) -> None:
        """Changes the choice and with it all outputs; where that is impossible, says why, and nothing changes."""
        self._say("working ...")
        try:
            self.chosen = self._with(photo, title)
        except WorkbookError as error:
            self._say(str(error))
            return
        for shown in self._shown:
            shown.handle.update(self._output(shown.view))
        self._report()

    def _report(self) -> None:
        chosen = self.chosen
        self._say(f"{chosen.title}. The model says: {chosen.opened.answer(chosen.photo)}. {self._note}")

    def _say(self, text: str) -> None:
        self._message.value = html.escape(text)

    def _offer_test_images(self, number: int = 0) -> None:
        """Lets the images of the test part be chosen; notes why where they are not there."""
        self._note, self._test_image.disabled = "", False
        try:
            self._test_image.max = len(self._opened(self._run.value).test_images) - 1
            self._test_image.value = number
        except WorkbookError as error:
            self._note, self._test_image.disabled = str(error), True

    def _follow_run(self, change: Any) -> None:  # noqa: ANN401
        """Keeps the photograph, unless the run has other data: then one of its test images is taken."""
        before, after = (run.manifest["dataset"]["fingerprint"] for run in (change.old, change.new))
        if after != before:
            self._offer_test_images()
        if after == before or self._test_image.disabled:
            self._choose(self.chosen.photo, self.chosen.title)
        else:
            self._choose(*self._opened(change.new).test_image(self._test_image.value))

    def _follow_test_image(self, change: Any) -> None:  # noqa: ANN401
        self._choose(*self._opened(self._run.value).test_image(change.new))


def _this_cell() -> tuple[str, int]:
    """Returns the id of the cell that runs, empty where it is not known, and the number of its execution."""
    shell = get_ipython()
    request = shell.get_parent() if hasattr(shell, "get_parent") else {}
    return request.get("metadata", {}).get("cellId", ""), shell.execution_count
