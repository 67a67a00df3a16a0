"""What the C code of a model takes before it is trained: planned, compiled and run as that of the trained one."""

import hashlib
import json
import math
import tempfile
from dataclasses import asdict
from pathlib import Path

from mbutils.config import Preprocessing
from mbutils.config.json_files import COUNT, read_json, validator
from mbutils.data import cache
from mbutils.deploy import folder, measure
from mbutils.deploy.figures import streaming
from mbutils.deploy.memory import Plan, plan
from mbutils.deploy.models import Model, patterns
from mbutils.deploy.network import Network
from mbutils.errors import WorkbookError
from mbutils.tflite.interpreter import reference_outputs
from mbutils.tflite.reader import read_graph

_SIZES = ("measured_ram_bytes", "measured_flash_bytes")
_schema = validator({"type": "object", "properties": dict.fromkeys(_SIZES, COUNT), "required": list(_SIZES)})


def sizes(tflite: bytes, contract: Preprocessing, ram_bytes: float = math.inf) -> dict[str, int]:
    """Returns what the C code of an untrained model takes, with the fewest streamed layers that fit a RAM.

    A trained model takes less where channels turn out to be the same for every image: then they are left out.
    Without the tools of `measure`, the machine code and the stack are not in the figures, as in `limits.check`.

    Args:
        tflite: The model, int8.
        contract: How images are prepared for it.
        ram_bytes: The RAM of the target.

    Returns:
        `streamed_layers`, and by the columns of `results.csv` `measured_ram_bytes` and `measured_flash_bytes`, from the
        cache or in about 5 seconds. Where nothing fits, those with the smallest arena.

    Raises:
        WorkbookError: If the cache folder cannot be written, or the code does not compile.
    """
    network = Network.from_graph(read_graph(tflite), contract.scaling, is_trained=False)
    ways = streaming(network)[["streamed_layers", "arena_bytes"]]
    for count in ways.loc[ways["arena_bytes"] <= ram_bytes, "streamed_layers"]:
        found = _sizes(tflite, network, contract, int(count))
        if found["measured_ram_bytes"] <= ram_bytes:
            return found
    smallest = ways.loc[ways["arena_bytes"].idxmin(), "streamed_layers"]
    return _sizes(tflite, network, contract, int(smallest))


def _sizes(tflite: bytes, network: Network, contract: Preprocessing, streamed_layers: int) -> dict[str, int]:
    memory = plan(network, streamed_layers)
    if measure.missing_tools():
        found = dict(zip(_SIZES, (memory.arena_bytes, network.constant_bytes), strict=True))
    else:
        found = _kept(tflite, network, contract, streamed_layers, memory)
    return {"streamed_layers": streamed_layers, **found}


def _kept(
    tflite: bytes, network: Network, contract: Preprocessing, streamed_layers: int, memory: Plan
) -> dict[str, int]:
    """Returns the measured sizes, from the cache if they are there."""
    code = [path.read_bytes() for path in sorted(Path(__file__).parent.rglob("*")) if path.is_file()]
    made_by = [tflite, json.dumps(asdict(contract)).encode(), measure.compiler().encode(), *code]
    digest = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in made_by)).hexdigest()[:16]
    path = cache.folder(cache.UNTRAINED) / f"c_code_{digest}_{streamed_layers}.json"
    with cache.made_once(path):
        try:
            return read_json(path, _schema)
        except WorkbookError:  # not made yet, or damaged
            found = _measured(tflite, network, contract, memory)
            with cache.written(path) as partial:
                partial.write_text(json.dumps(found))
            return found


def _measured(tflite: bytes, network: Network, contract: Preprocessing, memory: Plan) -> dict[str, int]:
    names = tuple(map(str, range(network.n_classes)))
    model = Model("", "untrained model", tflite, contract, names, lambda count: patterns(count, contract.shape), "", {})
    images = model.images(1)
    outputs = reference_outputs(tflite, images, model.label, contract.scaling)
    with tempfile.TemporaryDirectory(prefix="mb-") as staged:
        folder.stage(Path(staged), folder.files(model, network, memory, images, outputs))
        taken = measure.memory(Path(staged))
    ram = memory.arena_bytes + taken["data_bytes"] + taken["bss_bytes"] + taken["stack_bytes"]
    flash = taken["text_bytes"] + taken["rodata_bytes"] + taken["data_bytes"]
    return dict(zip(_SIZES, (ram, flash), strict=True))
