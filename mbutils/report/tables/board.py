"""What a board computed and how long it took, as text for a terminal."""

import pandas as pd

from mbutils.deploy.board import Session
from mbutils.device import latency

_ESTIMATED = "STM32H747I-DISCO"
_NOTE = "{} with STM32Cube.AI: of the total; how it is made up of layers is less sure"


def board_text(session: Session) -> str:
    """Returns the check and the times of a session, the estimates beside them."""
    board, images = session.board, len(session.wrong)
    said = f"model {board.model_id}, arena {board.arena_bytes:,} bytes, clock {board.clock_hz / 1e6:g} MHz"
    times = session.milliseconds
    lines = [f"board: {said}", "", *_stages(session), f"inference: {_ms(times.min())} to {_ms(times.max())} ms"]
    lines += [_NOTE.format(latency.accuracy_note(_ESTIMATED)), "", _verdict(session, images)]
    return "\n".join(lines)


def _stages(session: Session) -> list[str]:
    stages = session.stages
    if stages.empty:
        return ["stages: not timed; compile network.c and check.c with -DNETWORK_TIMES"]
    estimated = stages["estimated_ms"].map(lambda boards: boards[_ESTIMATED])
    rows = pd.DataFrame({**stages[["name", "macs", "milliseconds"]], "estimated": estimated})
    total = rows["milliseconds"].sum()
    rows.loc[len(rows)] = ["total", rows["macs"].sum(), total, estimated.sum()]
    cycles = rows["milliseconds"] / 1000 * session.board.clock_hz / rows["macs"].where(rows["macs"] > 0)
    shown = {
        "stage": rows["name"],
        "MACs": rows["macs"].map("{:,}".format),
        "ms": rows["milliseconds"].map(_ms),
        "share": (rows["milliseconds"] / total).map("{:.1%}".format),
        "ticks a MAC": cycles.map("{:.2f}".format).where(rows["macs"] > 0, ""),
        "estimated ms": rows["estimated"].map(_ms).where(rows["macs"] > 0, ""),
    }
    return [pd.DataFrame(shown).to_string(index=False), ""]


def _verdict(session: Session, images: int) -> str:
    if not session.wrong.any():
        return f"PASS: every output of {images} images is as the TensorFlow Lite reference kernels give it, bit for bit"
    which = ", ".join(str(i) for i in session.wrong.nonzero()[0])
    return f"FAIL: {session.wrong.sum()} of {images} images have other outputs than the reference kernels: {which}"


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:.3f}"
