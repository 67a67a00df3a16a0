"""Turns the int8 model of a run into a folder of C99 for any compiler, checked bit for bit.

The expected outputs are those of the LiteRT reference kernels. Memory is planned as in STM32Cube.AI
(`mbutils.device.memory`) but without padding, so the arena is smaller than the activation RAM that it reports.
"""

import hashlib
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mbutils import runs
from mbutils.config import DeployParameters, full_path, resolve_results_dir
from mbutils.data import preprocessing
from mbutils.deploy import figures, folder, measure
from mbutils.deploy.figures import streaming
from mbutils.deploy.layers import Network
from mbutils.deploy.measure import Measurement, missing_tools
from mbutils.deploy.memory import Plan, plan
from mbutils.device.footprint import Footprint, graph_footprint
from mbutils.errors import WorkbookError, nearest
from mbutils.tflite.interpreter import reference_outputs
from mbutils.tflite.reader import read_graph


@dataclass(frozen=True, eq=False)
class Deployment:
    """A folder of C code, and what is known of it.

    Attributes:
        path: The folder.
        network: What it computes.
        memory: Its arena.
        configuration: (alpha, image_size, color_mode, n_classes).
        predicted: What STM32Cube.AI 7.3.0 would need for the same model.
        facts: What `deploy.json` holds.
        measured: What it needs on an emulated Cortex-M7; None without the tools.
    """

    path: Path
    network: Network
    memory: Plan
    configuration: tuple[float, int, str, int]
    predicted: Footprint
    facts: dict[str, Any]
    measured: Measurement | None

    @property
    def comparison(self) -> pd.DataFrame:
        """RAM and flash next to those of STM32Cube.AI 7.3.0, see `figures.comparison`."""
        return figures.comparison(self.configuration, self.predicted, self.memory, self.measured)


def deploy(parameters: DeployParameters) -> Deployment:
    """Writes the C code of a finished run, checks it on this computer, and measures it on an emulated Cortex-M7.

    The check and the measurement need make, a C compiler, arm-none-eabi-gcc and QEMU; `facts` records which were made.
    The measurement is recorded with the run.

    Raises:
        WorkbookError: If there is no such run or variant, the model has no C kernels, the arena exceeds
            `parameters.ram_kib`, or the output folder holds other files or edited ones; nothing is written then.
    """
    run = runs.find(resolve_results_dir(parameters.results_dir), parameters.run_id)
    tflite = _model(run, parameters.variant)
    graph = read_graph(tflite, str(run.path / f"{parameters.variant}.tflite"))
    network = Network.from_graph(graph)
    contract, class_names = run.parameters.preprocessing, tuple(run.manifest["dataset"]["class_names"])
    _check_contract(network, graph.label, contract.shape, class_names)
    predicted, memory = graph_footprint(graph), plan(network, parameters.streamed_layers)
    _check_ram(network, memory, parameters)
    out = full_path(parameters.out) if parameters.out else run.path / f"deploy_{parameters.variant}"
    folder.check_target(out, parameters.force)
    images = _test_images(run, parameters.vectors)
    outputs = reference_outputs(tflite, images, graph.label)
    contents = folder.files(tflite, network, memory, contract, class_names, images, outputs, parameters.min_confidence)
    title = f"{run.run_id}, {parameters.variant}"
    contents["README.md"] = folder.readme(
        title, network, memory, contract, class_names, predicted, parameters.min_confidence
    )
    with tempfile.TemporaryDirectory(prefix="mb-") as staged:
        work = Path(staged)
        folder.stage(work, contents)
        checked, measured = measure.check_on_host(work), measure.measure(work)
    facts = {
        "run_id": run.run_id,
        "variant": parameters.variant,
        "model_sha256": hashlib.sha256(tflite).hexdigest(),
        "preprocessing": asdict(contract),
        "class_names": class_names,
        "streamed_layers": parameters.streamed_layers,
        "min_confidence": parameters.min_confidence,
        "arena_bytes": memory.arena_bytes,
        "macs": predicted.macs,
        "weights_flash_bytes": predicted.weights_flash_bytes,
        "predicted": predicted.to_dict(),
        "vectors": len(images),
        "vectors_pass_on_host": checked,
        "measured": measured and measured.to_dict(),
    }
    folder.write(out, contents, facts, parameters.force)
    runs.record_deployment(run, parameters, figures.columns(memory, measured))
    configuration = (run.parameters.alpha, contract.image_size, contract.color_mode, len(class_names))
    return Deployment(out, network, memory, configuration, predicted, facts, measured)


def _model(run: runs.Run, variant: str) -> bytes:
    if variant not in run.int8_variants:
        hint = nearest(variant, run.int8_variants)
        raise WorkbookError(f"run {run.run_id} has no {variant} model: {hint} or run the convert notebook")
    return run.artefact(f"{variant}.tflite").read_bytes()


def _check_ram(network: Network, memory: Plan, parameters: DeployParameters) -> None:
    limit = parameters.ram_kib * 1024
    if not limit or memory.arena_bytes <= limit:
        return
    smallest = streaming(network).sort_values("arena_bytes").iloc[0]
    way_out = "choose a smaller model"
    if smallest["arena_bytes"] <= limit:
        way_out = f"{smallest['streamed_layers']} streamed layers need {smallest['arena_bytes'] / 1024:.2f} KiB"
    raise WorkbookError(
        f"the arena of {memory.arena_bytes / 1024:.2f} KiB does not fit {parameters.ram_kib:g} KiB of RAM: {way_out}"
    )


def _check_contract(network: Network, label: str, shape: tuple[int, int, int], class_names: tuple[str, ...]) -> None:
    if network.image_shape != shape or network.n_classes != len(class_names):
        raise WorkbookError(
            f"{label}: the model has images of {network.image_shape} and {network.n_classes} scores, the run has "
            f"{shape} and {len(class_names)} classes: convert it again"
        )


def _test_images(run: runs.Run, count: int) -> np.ndarray:
    """Returns images of the test part, evenly spread over it."""
    dataset = runs.load_dataset(run)
    test = dataset.positions("test")
    chosen = test[np.linspace(0, len(test) - 1, min(count, len(test))).round().astype(int)]
    return np.array(preprocessing.cached_images(dataset, run.parameters.preprocessing)[chosen])
