"""Turns an int8 model, of a run or from elsewhere, into a folder of C99 for any compiler, checked bit for bit.

The expected outputs are those of the LiteRT reference kernels. Memory is planned as in STM32Cube.AI
(`mbutils.device.memory`) but without padding, so the arena is smaller than the activation RAM that it reports.
"""

import hashlib
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from mbutils import runs
from mbutils.config import DeployParameters, full_path, resolve_results_dir
from mbutils.deploy import figures, folder, limits, measure
from mbutils.deploy.figures import streaming
from mbutils.deploy.measure import Measurement, missing_tools
from mbutils.deploy.memory import Plan, plan
from mbutils.deploy.models import Model
from mbutils.deploy.network import Network
from mbutils.device.footprint import Footprint, graph_footprint
from mbutils.errors import WorkbookError
from mbutils.tflite.interpreter import reference_outputs
from mbutils.tflite.reader import read_graph


@dataclass(frozen=True, eq=False)
class Deployment:
    """A folder of C code, and what is known of it.

    Attributes:
        path: The folder.
        network: What it computes.
        memory: Its arena.
        configuration: (alpha, image_size, color_mode, n_classes) of a run; None for a model from elsewhere.
        predicted: The same model as the vendor's tool sees it.
        facts: What `deploy.json` holds.
        measured: What it needs on an emulated Cortex-M7; None without the tools.
    """

    path: Path
    network: Network
    memory: Plan
    configuration: tuple[float, int, str, int] | None
    predicted: Footprint
    facts: dict[str, Any]
    measured: Measurement | None

    @property
    def comparison(self) -> pd.DataFrame:
        """RAM and flash next to those of the vendor's tool, see `figures.comparison`."""
        return figures.comparison(self.configuration, self.predicted, self.memory, self.measured)


def deploy(parameters: DeployParameters) -> Deployment:
    """Writes the C code of a finished run, see `deploy_model`, and records the measurement with the run.

    Raises:
        WorkbookError: If there is no such run or variant, or as `deploy_model` says.
    """
    run = runs.find(resolve_results_dir(parameters.results_dir), parameters.run_id)
    model = Model.of_run(run, parameters.variant)
    out = parameters.out or str(run.path / f"deploy_{parameters.variant}")
    deployed = deploy_model(model, replace(parameters, out=out))
    runs.record_deployment(run, parameters, figures.columns(deployed.memory, deployed.measured))
    contract = model.contract
    configuration = (run.parameters.alpha, contract.image_size, contract.color_mode, len(model.class_names))
    return replace(deployed, configuration=configuration)


def holds(parameters: DeployParameters) -> bool:
    """Returns whether the output folder holds the C code of the run and variant that the parameters name."""
    try:
        facts = folder.facts(full_path(parameters.out))
    except WorkbookError:
        return False
    return (facts.get("run_id"), facts.get("variant")) == (parameters.run_id, parameters.variant)


def deploy_model(model: Model, parameters: DeployParameters) -> Deployment:
    """Writes the C code of a model, checks it on this computer, and measures it on an emulated Cortex-M7.

    The check and the measurement need make, a C compiler, arm-none-eabi-gcc and QEMU; `facts` records which were made.

    Args:
        model: The model.
        parameters: `out` and what else is no property of a run.

    Raises:
        WorkbookError: If the model has no C kernels or is not as its contract says, does not fit
            `parameters.ram_kib` or `flash_kib`, or the output folder holds other files or edited ones; nothing is
            written then.
    """
    graph = read_graph(model.content, model.label)
    network = Network.from_graph(graph, model.contract.scaling)
    _check_contract(network, model)
    if parameters.min_confidence and not network.softmax:
        raise WorkbookError(f"{model.label}: its scores are no probabilities: leave out min_confidence")
    predicted, memory = graph_footprint(graph), plan(network, parameters.streamed_layers)
    computed = predicted.alive or predicted
    limits.check(network, memory, None, parameters)
    out = full_path(parameters.out)
    folder.check_target(out, parameters.force)
    images = model.images(parameters.vectors)
    outputs = reference_outputs(model.content, images, model.label, model.contract.scaling)
    contents = folder.files(model, network, memory, images, outputs, parameters.min_confidence)
    contents["README.md"] = folder.readme(model, network, memory, predicted, parameters.min_confidence)
    with tempfile.TemporaryDirectory(prefix="mb-") as staged:
        work = Path(staged)
        folder.stage(work, contents)
        checked, measured = measure.check_on_host(work), measure.measure(work)
    limits.check(network, memory, measured, parameters)
    facts = {
        **model.origin,
        "model_sha256": hashlib.sha256(model.content).hexdigest(),
        "preprocessing": asdict(model.contract),
        "class_names": model.class_names,
        "streamed_layers": parameters.streamed_layers,
        "min_confidence": parameters.min_confidence,
        "arena_bytes": memory.arena_bytes,
        "constant_channels": predicted.constant_channels,
        "macs": computed.macs,
        "stages": figures.stages(memory, computed.ops),
        "weights_flash_bytes": network.constant_bytes,
        "predicted": predicted.to_dict(),
        "vectors": len(images),
        "vectors_pass_on_host": checked,
        "measured": measured and measured.to_dict(),
    }
    folder.write(out, contents, facts, parameters.force)
    return Deployment(out, network, memory, None, predicted, facts, measured)


def _check_contract(network: Network, model: Model) -> None:
    shape, class_names = model.contract.shape, model.class_names
    if network.image_shape != shape or network.n_classes != len(class_names):
        raise WorkbookError(
            f"{model.label}: the model has images of {network.image_shape} and {network.n_classes} scores, its "
            f"contract {shape} and {len(class_names)} classes: change the contract, or convert the model again"
        )
