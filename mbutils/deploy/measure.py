"""What the C code needs on a Cortex-M7: compiled, and run on an emulated board. Instruction counts are not time."""

import re
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mbutils.errors import WorkbookError

TOOLS = ("make", "arm-none-eabi-gcc", "arm-none-eabi-size", "qemu-system-arm")
_SECTIONS = ("text", "rodata", "data", "bss")
_DEADLINE = 600  # seconds for one command


@dataclass(frozen=True)
class Measurement:
    """What one inference needs on a Cortex-M7.

    Attributes:
        compiler: Name and version.
        text_bytes, rodata_bytes, data_bytes, bss_bytes: Sections of the network's object file.
        stack_bytes: The most stack used by one inference.
        instructions: Those of one inference with the DSP extension.
        portable_text_bytes, portable_instructions: The same without the DSP extension.
    """

    compiler: str
    text_bytes: int
    rodata_bytes: int
    data_bytes: int
    bss_bytes: int
    stack_bytes: int
    instructions: int
    portable_text_bytes: int
    portable_instructions: int

    def to_dict(self) -> dict[str, Any]:
        """Returns the figures by name."""
        return asdict(self)


def missing_tools() -> list[str]:
    """Returns the tools that `measure` needs and that are not installed."""
    return [tool for tool in TOOLS if shutil.which(tool) is None]


def measure(folder: Path) -> Measurement | None:
    """Compiles a deployed folder for Cortex-M7, runs its test vectors under QEMU and measures; None without the tools.

    Leaves what was built in `build` in the folder.

    Raises:
        WorkbookError: If the code does not compile, or its outputs are not the expected ones.
    """
    if missing_tools():
        return None
    printed = _make(folder, "qemu")
    portable = _make(folder, "qemu", "PORTABLE=1", "CORE_CFLAGS=-O2 -DVECTORS=1")
    return Measurement(
        compiler=compiler(),
        **_memory(folder, printed),
        instructions=_printed(printed, "inference"),
        portable_text_bytes=_sections(folder / "build" / "cortex-m7_portable" / "network.o")["text"],
        portable_instructions=_printed(portable, "inference"),
    )


def memory(folder: Path) -> dict[str, int]:
    """Compiles and runs a deployed folder like `measure`, which needs its tools, and returns its sections and stack.

    Raises:
        WorkbookError: As `measure`.
    """
    return _memory(folder, _make(folder, "qemu"))


def compiler() -> str:
    """Returns the name and version of the compiler."""
    return _run(Path.cwd(), "arm-none-eabi-gcc", "--version").splitlines()[0]


def _memory(folder: Path, printed: str) -> dict[str, int]:
    sections = _sections(folder / "build" / "cortex-m7" / "network.o")
    return {f"{name}_bytes": size for name, size in sections.items()} | {"stack_bytes": _printed(printed, "stack")}


def check_on_host(folder: Path) -> bool | None:
    """Compiles a deployed folder for this computer and runs its test vectors; None without make and a C compiler.

    Raises:
        WorkbookError: If the code does not compile, or its outputs are not the expected ones.
    """
    if not shutil.which("make") or not shutil.which("cc"):
        return None
    _make(folder, "check")
    return True


def _make(folder: Path, *arguments: str) -> str:
    printed = _run(folder, "make", "--silent", *arguments)
    if "PASS" not in printed.splitlines():
        raise WorkbookError(f"make {arguments[0]} does not print PASS: {printed.strip().splitlines()[-1:]}")
    return printed


def _run(folder: Path, *command: str) -> str:
    try:
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_DEADLINE)
    except subprocess.TimeoutExpired as error:
        raise WorkbookError(f"{' '.join(command)} did not end within {_DEADLINE} s: choose fewer vectors") from error
    if result.returncode:
        last = (result.stdout + result.stderr).strip().splitlines()[-1:]
        raise WorkbookError(f"{' '.join(command)} failed: {' '.join(last)}")
    return result.stdout


def _printed(output: str, name: str) -> int:
    return int(re.search(rf"^{name} (\d+) ", output, re.MULTILINE)[1])


def _sections(object_file: Path) -> dict[str, int]:
    """Returns the bytes of each kind of section of an object file."""
    sizes = dict.fromkeys(_SECTIONS, 0)
    for line in _run(object_file.parent, "arm-none-eabi-size", "-A", object_file.name).splitlines():
        match = re.match(r"\.(\w+)\S*\s+(\d+)", line)
        if match and match[1] in sizes:
            sizes[match[1]] += int(match[2])
    return sizes
