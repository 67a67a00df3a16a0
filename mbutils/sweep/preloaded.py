"""What kernels find imported: the process that they are forked from imports this module before the first fork.

TensorFlow starts its threads at the first operation, not when it is imported, so forking is safe. It would not be on a
GPU, whose driver is asked for devices on import.
"""

import contextlib
import gc
import importlib
import os

_MODULES = (
    "ipykernel.kernelapp",
    "mbutils.model.distillation",
    "mbutils.evaluation",
    "mbutils.report.plots",
    "mbutils.quantization",
    "mbutils.report.tables",
    "mbutils.model.training",
    "mbutils.report.before_training",
    "sklearn.datasets",
    "tensorflow_datasets",
)

# As ipykernel sets it, which then comes too late: matplotlib reads it when it is imported.
os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
for _module in _MODULES:
    with contextlib.suppress(Exception):  # the notebook imports it again, and shows what is wrong
        importlib.import_module(_module)
gc.freeze()  # so that a fork does not copy memory for reference counts alone
