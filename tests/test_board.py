"""`mb check`: the C code on a board, over its serial port."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import threading

import numpy as np
import pytest
from deploy_models import tflite, write_folder

from mbutils import cli, deploy
from mbutils.config import Preprocessing
from mbutils.deploy import board, folder

missing = deploy.missing_tools()
needs_target = pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")
needs_cc = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler: install gcc")
NAMES = tuple("abcde")
OTHER_DIGITS = bytes.maketrans(b"0123456789", b"1234567890")


@pytest.fixture(scope="module")
def deployed(tmp_path_factory):
    """A folder of C code whose first four layers are streamed."""
    out = tmp_path_factory.mktemp("board") / "c"
    write_folder(out, tflite(0.25, 32, 3, 5), Preprocessing(32, "rgb", "area"), NAMES, 3, streamed_layers=4)
    return out


@contextlib.contextmanager
def computer(out, to_board=lambda content: content, to_computer=lambda content: content):
    """Runs check.c of a folder on this computer, and yields the port to it; the functions are what the line adds."""
    subprocess.run(["make", "-s", "build/host/check"], cwd=out, check=True)
    line, end = os.openpty()
    board = subprocess.Popen([out / "build/host/check"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    ends = ((line, board.stdin.fileno(), to_board), (board.stdout.fileno(), line, to_computer))
    threads = [threading.Thread(target=carry, args=args, daemon=True) for args in ends]
    for thread in threads:
        thread.start()
    try:
        yield os.ttyname(end), board
    finally:
        board.kill()
        board.wait()
        os.close(end)
        for thread in threads:
            thread.join()
        os.close(line)


def carry(source, target, change):
    with contextlib.suppress(OSError):
        while content := os.read(source, 1 << 16):
            content = change(content)
            while content:
                content = content[os.write(target, content) :]


@contextlib.contextmanager
def emulated(out):
    """Runs check.c of a folder on the emulated board, and yields the port to it."""
    command = ["make", "-s", "serial", "QEMU=exec qemu-system-arm"]
    subprocess.run(["make", "-s", "build/cortex-m7_check/check.elf"], cwd=out, check=True)
    with subprocess.Popen(command, cwd=out, stdout=subprocess.PIPE, text=True, start_new_session=True) as board:
        try:
            said = board.stdout.readline()
            yield next(word for word in said.split() if word.startswith("/dev/")), board
        finally:
            os.killpg(board.pid, signal.SIGKILL)


def once(change):
    """Returns a change of what goes over a line that is made the first time only."""
    left = [change]
    return lambda content: left.pop()(content) if left else content


class Lossy:
    """Loses the byte at a place of all that goes over a line, the first time that it comes to it."""

    def __init__(self, place):
        self.place = place

    def __call__(self, content):
        place, self.place = self.place, self.place - len(content)
        return content[:place] + content[place + 1 :] if 0 <= place < len(content) else content


def check(capsys, out, port, *options):
    status = cli.main(["check", str(out), "--port", str(port), *options])
    printed = capsys.readouterr()
    assert printed.err.count("\n") == (1 if status == 2 else 0), printed.err
    return status, printed.err if status == 2 else printed.out


@needs_cc
def test_the_outputs_of_a_board_are_compared_and_its_layers_timed(deployed, capsys):
    with computer(deployed) as (port, _):
        status, printed = check(capsys, deployed, port)
    assert status == 0, printed
    assert "PASS: every output of 3 images" in printed
    stages = folder.facts(deployed)["stages"]
    assert [stage["name"] for stage in stages][:3] == ["quantize", "conv1 to conv_dw_2", "conv_pw_2"]
    for stage in stages:
        assert f"{stage['name']} " in printed
    assert f"{sum(stage['macs'] for stage in stages):,}" in printed
    assert f"{sum(stage['estimated_ms']['STM32H747I-DISCO'] for stage in stages):.3f}" in printed


def test_times_are_right_up_to_the_last_tick_of_a_clock():
    ticks = np.array([[0, 12_109_400, 2**32 - 1]], np.uint32)
    assert board.milliseconds(ticks, 10**9) == pytest.approx(np.array([[0, 12.1094, 4294.967295]]))


@needs_cc
def test_a_wrong_output_is_found(deployed, tmp_path, capsys):
    out = shutil.copytree(deployed, tmp_path / "c")
    shutil.rmtree(out / "build", ignore_errors=True)
    text = (out / "network.c").read_text()
    start = text.index("classifier_bias[5] = {\n") + len("classifier_bias[5] = {\n")
    bias = np.fromstring(text[start : text.index("}", start)].strip().rstrip(","), int, sep=",")
    bias[2] += 100_000
    changed = ", ".join(map(str, bias))
    (out / "network.c").write_text(text[:start] + changed + text[text.index("}", start) :])
    with computer(out) as (port, _):
        status, printed = check(capsys, deployed, port)
    assert status == 1 and "FAIL: 3 of 3 images have other outputs than the reference kernels: 0, 1, 2" in printed


@needs_cc
@pytest.mark.parametrize(
    ("to_board", "to_computer"),
    [
        (
            lambda content: content.replace(b"MBr", b"\0\xffMBrMBMBr").replace(b"MBh", b"MMBh"),
            lambda content: content.replace(b"MBR", b"hello from printf\r\nMBMBR"),
        ),
        (once(lambda content: content[:-1] + bytes([content[-1] ^ 1])), lambda content: content),
        (lambda content: content, once(lambda content: content[:-1] + bytes([content[-1] ^ 1]))),
        (Lossy(700), lambda content: content),
        (lambda content: content, Lossy(120)),
    ],
    ids=["noise", "a bit to the board", "a bit from it", "a byte to the board", "a byte from it"],
)
def test_noise_on_the_line_changes_nothing(deployed, capsys, to_board, to_computer):
    with computer(deployed, to_board, to_computer) as (port, _):
        status, printed = check(capsys, deployed, port, "--timeout", "3")
    assert status == 0, printed


@needs_cc
def test_a_line_that_damages_everything_is_named(deployed, capsys):
    with computer(deployed, to_computer=lambda content: content.translate(OTHER_DIGITS)) as (port, _):
        status, printed = check(capsys, deployed, port)
    assert status == 2 and f"{port} arrives damaged at 115200 baud: lower the rate" in printed


@needs_cc
def test_another_model_on_the_board_is_named(deployed, tmp_path, capsys):
    other = tmp_path / "other"
    write_folder(other, tflite(0.25, 32, 3, 5, "int8_per_tensor"), Preprocessing(32, "rgb", "area"), NAMES, 1)
    with computer(deployed) as (port, _):
        status, printed = check(capsys, other, port)
    ids = [folder.model_id((path / "model_int8.tflite").read_bytes()) for path in (deployed, other)]
    assert status == 2 and f"the board runs the model {ids[0]}, {other} has {ids[1]}: flash" in printed


@needs_cc
def test_other_streamed_layers_on_the_board_are_named(deployed, tmp_path, capsys):
    other = tmp_path / "other"
    write_folder(other, tflite(0.25, 32, 3, 5), Preprocessing(32, "rgb", "area"), NAMES, 1)
    with computer(deployed) as (port, _):
        status, printed = check(capsys, other, port)
    assert status == 2 and f"other streamed layers than {other}" in printed


@needs_cc
def test_a_board_that_stops_answering_is_named_with_the_image(deployed, capsys):
    requests = []

    def stop_at_the_second_image(content):
        requests.append(content)
        if b"".join(requests).count(b"MBr") == 2:
            board.send_signal(signal.SIGSTOP)
        return content

    with computer(deployed, stop_at_the_second_image) as (port, board):
        status, printed = check(capsys, deployed, port, "--timeout", "0.5")
    assert status == 2 and "within 0.5 s, asked 2 times for image 1: reset the board" in printed


def test_a_board_that_says_nothing_is_named(deployed, capsys):
    line, end = os.openpty()
    status, printed = check(capsys, deployed, os.ttyname(end), "--baud", "9600")
    os.close(end)
    os.close(line)
    assert status == 2 and "at 9600 baud within 1 s, asked 5 times: is the program with check.c running" in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--port", "/dev/ttyNONE"], "/dev/ttyNONE is no serial port (No such file or directory); there are"),
        (["--port", "/dev/null"], "/dev/null is no serial port"),
        (["--port", "/"], "/ is no serial port (Is a directory)"),
        (["--port", ""], "argument --port: is empty"),
        ([], "the following arguments are required: --port"),
        (["--port", "/dev/null", "--baud", "1"], "baud: 1 is too small: the minimum is 300"),
        (["--port", "/dev/null", "--timeout", "nan"], "timeout: nan is not a finite number"),
    ],
)
def test_bad_options_are_one_line(deployed, capsys, options, message):
    assert cli.main(["check", str(deployed), *options]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_port_in_use_is_named(deployed, capsys):
    from mbutils.deploy.port import Port

    line, end = os.openpty()
    with Port(os.ttyname(end), 115200):
        status, printed = check(capsys, deployed, os.ttyname(end))
    os.close(end)
    os.close(line)
    assert status == 2 and "is in use: close the terminal program" in printed


def test_what_is_no_deployed_folder_is_named(deployed, tmp_path, capsys):
    assert f"{tmp_path} is no folder that mb deploy wrote, and no run" in check(capsys, tmp_path, "/dev/null")[1]
    out = shutil.copytree(deployed, tmp_path / "c")
    facts = folder.facts(out)
    (out / folder.FACTS).write_text(json.dumps({"files": facts["files"]}))
    assert f"{out} was deployed before mb check was there" in check(capsys, out, "/dev/null")[1]
    (out / folder.FACTS).write_text(json.dumps(facts))
    (out / "vectors.h").write_text("mine")
    assert "vectors.h is not what was deployed: deploy again" in check(capsys, out, "/dev/null")[1]


def fit(out, *options):
    """Runs `make fit`, and returns its exit status and what it says of each region."""
    result = subprocess.run(["make", "-s", "fit", *options], cwd=out, capture_output=True, text=True)
    said = dict(re.findall(r"^(?:error: )?(\w+) ((?:fits|is too small).*)$", result.stdout, re.MULTILINE))
    return result.returncode, said, result


def used(out):
    """Returns the bytes in flash and RAM of what `make fit` linked, as `size` counts them."""
    command = ["arm-none-eabi-size", "-B", "build/cortex-m7_check/fit.elf"]
    text, data, bss = subprocess.run(command, cwd=out, capture_output=True, text=True).stdout.split()[6:9]
    return int(text) + int(data), int(data) + int(bss)


LINKER_SCRIPT = """
MEMORY
{{
    DTCM (xrw) : ORIGIN = 0x20000000, LENGTH = {ram}
    ROM (rx) : ORIGIN = 0x08000000, LENGTH = {flash}
}}
SECTIONS
{{
    .text : {{ *(.text*) *(.rodata*) }} > ROM
    .data : {{ *(.data*) }} > DTCM AT> ROM
    .bss : {{ *(.bss*) *(COMMON) }} > DTCM
    ._user_heap_stack : {{ . += 0x400; }} > DTCM
}}
"""


@needs_target
@pytest.mark.parametrize("short", [0, 1, 1000])
def test_a_linker_script_that_is_too_small_says_by_how_many_bytes(deployed, tmp_path, short):
    script = tmp_path / "board.ld"
    script.write_text(LINKER_SCRIPT.format(flash=1 << 20, ram=1 << 20))
    assert fit(deployed, f"LINKER_SCRIPT={script}")[0] == 0
    flash, ram = used(deployed)
    script.write_text(LINKER_SCRIPT.format(flash=flash - short, ram=ram - short))
    status, said, _ = fit(deployed, f"LINKER_SCRIPT={script}")
    assert (status == 0) == (short == 0)
    for region, size in {"ROM": flash, "DTCM": ram}.items():
        begins = f"is too small by {short} bytes: {size} of {size - short}" if short else f"fits: {size} of {size}"
        assert said[region].startswith(f"{begins} bytes, ."), said
    (arena,) = re.findall(r"NETWORK_ARENA_BYTES (\d+)", (deployed / "network.h").read_text())
    assert f"(arena {arena})" in said["DTCM"] and "._user_heap_stack 1024" in said["DTCM"]


@needs_target
def test_the_memory_of_the_target_may_be_given_in_kib(deployed):
    assert fit(deployed, "STACK_BYTES=2048")[0] == 0
    flash, ram = used(deployed)
    status, said, _ = fit(deployed, "RAM_KIB=4", f"FLASH_KIB={-(-flash // 1024)}", "STACK_BYTES=2048")
    assert status != 0 and said["FLASH"].startswith("fits")
    assert said["RAM"].startswith(f"is too small by {ram - 4096} bytes: {ram} of 4096 bytes, .stack 2048, .bss ")


@needs_target
def test_what_else_is_wrong_with_a_linker_script_is_the_linkers_to_say(deployed, tmp_path):
    status, _, result = fit(deployed, f"LINKER_SCRIPT={tmp_path / 'none.ld'}")
    assert status != 0 and "none.ld: No such file" in result.stdout + result.stderr


@pytest.mark.slow
@needs_target
def test_whole_session_with_an_emulated_board(deployed, capsys):
    with emulated(deployed) as (port, _):
        with open(port, "wb", buffering=0) as line:  # noqa: PTH123
            line.write(b"MBr of someone else\r\n" + bytes(300))
        for _ in range(2):
            status, printed = check(capsys, deployed, port)
            assert status == 0 and "PASS: every output of 3 images" in printed, printed
    # QEMU's clock counts instructions: the same as without a port, but for those of the clock.
    measured = deploy.measure.measure(deployed)
    (shown,) = (line for line in printed.splitlines() if line.startswith("inference: "))
    assert float(shown.split()[1]) * 1e6 == pytest.approx(measured.instructions, rel=0.01)


@pytest.mark.slow
@needs_target
def test_an_emulated_board_that_is_stopped(deployed, capsys):
    with emulated(deployed) as (port, board):
        assert check(capsys, deployed, port)[0] == 0
        os.killpg(board.pid, signal.SIGSTOP)
        status, printed = check(capsys, deployed, port)
        assert status == 2 and "is the program with check.c running at this rate?" in printed
        os.killpg(board.pid, signal.SIGCONT)
        assert check(capsys, deployed, port)[0] == 0
