"""How tables look: a DataFrame in, a pandas Styler or text out."""

from mbutils.report.tables.costs import (
    costs_of,
    deployment,
    deployment_checks,
    deployment_text,
    grid,
    layers,
    streaming,
)
from mbutils.report.tables.page import page_accuracy, page_costs
from mbutils.report.tables.results import (
    accuracies,
    answers,
    asked,
    device_costs,
    failures,
    ladder,
    latency_errors,
    provenance,
    results_text,
)
from mbutils.report.tables.style import facts, styled

__all__ = [
    "accuracies",
    "answers",
    "asked",
    "costs_of",
    "deployment",
    "deployment_checks",
    "deployment_text",
    "device_costs",
    "facts",
    "failures",
    "grid",
    "ladder",
    "latency_errors",
    "layers",
    "page_accuracy",
    "page_costs",
    "provenance",
    "results_text",
    "streaming",
    "styled",
]
