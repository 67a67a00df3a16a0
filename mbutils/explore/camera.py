"""The camera of the browser as a widget."""

from pathlib import Path

import anywidget
import traitlets


class Camera(anywidget.AnyWidget):
    """Shows the camera of the browser, and takes pictures; where there is none, it says so.

    Attributes:
        frame: The picture taken last, as the bytes of a PNG file; empty before the first.
    """

    _esm = Path(__file__).with_name("camera.js")
    frame = traitlets.CBytes().tag(sync=True)
