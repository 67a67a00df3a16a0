"""The upload of a photograph as a widget."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget


class Upload(anywidget.AnyWidget):
    """A button that uploads a photograph of any size, in parts.

    Args:
        received: Is called with the name and the bytes of each file.
    """

    _esm = Path(__file__).with_name("upload.js")

    def __init__(self, received: Callable[[str, bytes], None]) -> None:
        super().__init__()
        self._received, self._parts = received, []
        self.on_msg(self._receive)

    def _receive(self, _: Any, part: dict[str, Any], buffers: list[memoryview]) -> None:  # noqa: ANN401
        if part["first"]:
            self._parts = []
        self._parts += buffers
        if part["last"]:
            self._received(part["name"], b"".join(self._parts))
            self._parts = []
