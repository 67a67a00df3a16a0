"""The serial port of a board: requests and answers in frames, as the README of a deployed folder describes them.

A frame is "MB", a letter, the bytes of the payload as uint32, the payload, and the CRC-32 of all after "MB". Whatever
else is on the line is skipped.
"""

import errno
import os
import struct
import time
import zlib
from types import TracebackType

import serial
from serial.tools import list_ports

from mbutils.errors import WorkbookError

_MAGIC = b"MB"
_HEADER = struct.Struct("<2scI")
_AGAIN = b"A"
_ANSWERS = (b"H", b"R", _AGAIN)
_MOST_BYTES = 1 << 20  # of a payload; more is noise that looks like a header
_ATTEMPTS = 5


class Port:
    """A port to a board that runs check.c, for a `with` statement.

    Args:
        device: Such as "/dev/ttyACM0" or "COM3".
        baud: Bits per second.

    Raises:
        WorkbookError: If it cannot be opened; in `ask`, if no whole answer comes.
    """

    def __init__(self, device: str, baud: int) -> None:
        self._device, self._baud = device, baud
        try:
            self._serial = serial.Serial(device, baud, exclusive=True)
        except (serial.SerialException, OSError, ValueError) as error:
            raise WorkbookError(_not_opened(device, baud, error)) from error

    def __enter__(self) -> "Port":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._serial.close()

    def ask(self, kind: bytes, payload: bytes, seconds: float, times: int = 2) -> tuple[bytes, bytes]:
        """Sends a request and returns the letter and the payload of the answer; again if either arrives damaged.

        Args:
            kind: A letter.
            payload: What follows it.
            seconds: How long to wait for the answer, once the request is sent.
            times: How many times to ask if none comes.
        """
        damaged, silent = 0, 0
        while silent < times and damaged < _ATTEMPTS:
            try:
                self._send(kind, payload, seconds)
                answer = self._answer(seconds)
            except _SilenceError:
                silent += 1
                continue
            except (serial.SerialException, OSError) as error:
                raise WorkbookError(f"lost {self._device}: {_reason(error)}") from error
            if answer and answer[0] != _AGAIN:
                return answer
            damaged += 1
        if damaged == _ATTEMPTS:
            raise WorkbookError(
                f"what goes over {self._device} arrives damaged at {self._baud} baud: lower the rate on both sides"
            )
        raise SilentBoardError(
            f"no answer on {self._device} at {self._baud} baud within {seconds:g} s, asked {times} times"
        )

    def _send(self, kind: bytes, payload: bytes, seconds: float) -> None:
        frame = _HEADER.pack(_MAGIC, kind, len(payload)) + payload
        frame += struct.pack("<I", zlib.crc32(frame[len(_MAGIC) :]))
        self._serial.reset_input_buffer()
        self._serial.write_timeout = self._seconds_for(len(frame)) + seconds  # a board may still be busy
        try:
            self._serial.write(frame)
        except serial.SerialTimeoutException as error:
            self._serial.reset_output_buffer()
            raise _SilenceError from error

    def _answer(self, seconds: float) -> tuple[bytes, bytes] | None:
        """Returns the letter and the payload of the next frame; None if it is damaged."""
        until = time.monotonic() + seconds
        header = bytes(_HEADER.size)
        while not _is_header(header):
            header = header[1:] + self._read(1, until)
        _, kind, size = _HEADER.unpack(header)
        try:
            rest = self._read(size + 4, time.monotonic() + self._seconds_for(size))
        except _SilenceError:
            return None
        content = header[len(_MAGIC) :] + rest[:-4]
        return (kind, rest[:-4]) if struct.pack("<I", zlib.crc32(content)) == rest[-4:] else None

    def _read(self, count: int, until: float) -> bytes:
        self._serial.timeout = max(until - time.monotonic(), 0)
        content = self._serial.read(count)
        if len(content) < count:
            raise _SilenceError
        return content

    def _seconds_for(self, count: int) -> float:
        """Returns how long so many bytes take at most, of 10 bits each."""
        return 2 + 2 * 10 * count / self._baud


class SilentBoardError(WorkbookError):
    """No answer came."""


class _SilenceError(Exception):
    """Less came than a frame has."""


def _is_header(header: bytes) -> bool:
    magic, kind, size = _HEADER.unpack(header)
    return magic == _MAGIC and kind in _ANSWERS and size <= _MOST_BYTES


def _not_opened(device: str, baud: int, error: Exception) -> str:
    if isinstance(error, ValueError):
        return f"{device} does not have {baud} baud: choose a usual rate, such as 115200"
    number = getattr(error, "errno", None)
    if number == errno.EACCES:
        return f"no permission for {device}: join the group that owns it, often dialout, and log in again"
    if number == errno.EAGAIN:
        return f"{device} is in use: close the terminal program that has it"
    present = ", ".join(port.device for port in list_ports.comports()) or "none: connect a board"
    return f"{device} is no serial port ({_reason(error)}); there are {present}"


def _reason(error: Exception) -> str:
    """Returns what went wrong, without the names that pyserial puts around it."""
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else str(error)
