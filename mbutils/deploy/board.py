"""The C code on a board: images go over its serial port, and what comes back is compared bit for bit."""

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mbutils.config import Preprocessing
from mbutils.deploy import folder
from mbutils.deploy.port import Port, SilentBoardError
from mbutils.errors import WorkbookError
from mbutils.progress import progress
from mbutils.tflite.interpreter import reference_outputs

_HELLO = struct.Struct("<16s5I")
_TRIES = 5  # for a board that starts when its port is opened


@dataclass(frozen=True)
class Board:
    """What a board says of itself: its model, the sizes of its network, and the ticks of its clock in a second."""

    model_id: str
    image_bytes: int
    n_classes: int
    n_stages: int
    clock_hz: int
    arena_bytes: int


@dataclass(frozen=True, eq=False)
class Session:
    """What a board computed.

    Attributes:
        board: The board.
        wrong: For each image whether anything is not as the reference kernels give it: bool, shape (n,).
        milliseconds: The time of each inference, shape (n,).
        stages: One row for each stage, and none if the board was compiled without them: `name`, `macs`,
            `milliseconds` (the median), `estimated_ms` by board.
    """

    board: Board
    wrong: np.ndarray
    milliseconds: np.ndarray
    stages: pd.DataFrame


def check(out: Path, device: str, baud: int, seconds: float) -> Session:
    """Runs the test images of a deployed folder on a board.

    Args:
        out: The folder; the board runs check.c and the network of it.
        device: The board's serial port.
        baud: Its bits per second.
        seconds: How long to wait for an inference.

    Raises:
        WorkbookError: If the folder is no deployment, the port cannot be opened, the board does not answer or runs
            another model.
    """
    facts, tflite = folder.facts(out), folder.unedited(out, "model_int8.tflite")
    if "stages" not in facts:
        raise WorkbookError(f"{out} was deployed before mb check was there: deploy again")
    contract = Preprocessing(**facts["preprocessing"])
    images = folder.vector_images(out, contract.shape)
    with Port(device, baud) as port:
        board = _hello(port)
        _refuse_other(board, out, tflite, facts["stages"])
        outputs = reference_outputs(tflite, images, "model", contract.scaling)
        expected = _as_bytes(*outputs, folder.classes(outputs[1], facts["min_confidence"]))
        answers = []
        with progress(len(images), "on the board", "image") as bar:
            for image in images:
                answers.append(_run(port, image.tobytes(), board, seconds, f"image {len(answers)}"))
                bar.update()
    times = milliseconds(np.array([np.frombuffer(ticks, "<u4") for _, ticks in answers]), board.clock_hz)
    stages = pd.DataFrame(facts["stages"]).head(board.n_stages)
    return Session(
        board,
        np.array([outputs != own for (outputs, _), own in zip(answers, expected, strict=True)]),
        times[:, 0],
        stages.assign(milliseconds=np.median(times[:, 1:], axis=0)),
    )


def milliseconds(ticks: np.ndarray, clock_hz: int) -> np.ndarray:
    """Returns how long so many ticks, uint32, of a clock take: float64."""
    return ticks.astype(np.float64) * 1000 / clock_hz


def _hello(port: Port) -> Board:
    try:
        _, payload = port.ask(b"h", b"", seconds=1, times=_TRIES)
    except SilentBoardError as error:
        raise WorkbookError(f"{error}: is the program with check.c running at this rate?") from None
    if len(payload) != _HELLO.size:
        raise WorkbookError("the board answers as this version of mb does not know it: deploy again, and flash that")
    model_id, *numbers = _HELLO.unpack(payload)
    return Board(model_id.decode("ascii", "replace"), *numbers)


def _refuse_other(board: Board, out: Path, tflite: bytes, stages: list[dict]) -> None:
    own = folder.model_id(tflite)
    if board.model_id != own:
        raise WorkbookError(f"the board runs the model {board.model_id}, {out} has {own}: flash what is made of it")
    if board.n_stages not in (0, len(stages)):
        raise WorkbookError(f"the board runs other streamed layers than {out}: flash what is made of it")


def _as_bytes(logits: np.ndarray, scores: np.ndarray, classes: np.ndarray) -> list[bytes]:
    """Returns for each image what `_run` returns."""
    return [
        struct.pack("<i", best) + own.astype("<f4").tobytes() + before.tobytes()
        for best, own, before in zip(classes, scores, logits, strict=True)
    ]


def _run(port: Port, image: bytes, board: Board, seconds: float, name: str) -> tuple[bytes, bytes]:
    """Returns the outputs for an image, and the ticks: of the inference, then of each stage."""
    try:
        _, payload = port.ask(b"r", image, seconds)
    except SilentBoardError as error:
        raise WorkbookError(f"{error} for {name}: reset the board, or give it more time by --timeout") from None
    outputs, times = 4 + 5 * board.n_classes, 4 + 4 * board.n_stages
    request = zlib.crc32(struct.pack("<cI", b"r", len(image)) + image)
    if len(payload) != 4 + outputs + times or payload[:4] != struct.pack("<I", request):
        raise WorkbookError(f"the board answers {name} with something else: reset it")
    return payload[4 : 4 + outputs], payload[4 + outputs :]
