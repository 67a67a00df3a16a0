"""How tables look: a DataFrame in, a pandas Styler or text out."""

from mbutils.report.tables.board import board_text
from mbutils.report.tables.costs import (
    costs_of,
    deployment,
    deployment_checks,
    deployment_text,
    grid,
    layers,
    streaming,
)
from mbutils.report.tables.findings import findings, findings_by_run, left_out
from mbutils.report.tables.predictions import predictions, predictions_text
from mbutils.report.tables.probe import against_probe
from mbutils.report.tables.published_page import (
    edition_name,
    editions_sentence,
    published_accuracies,
    published_costs,
)
from mbutils.report.tables.results import (
    accuracies,
    answer_sentences,
    answers,
    budget_sentence,
    device_costs,
    failures,
    parameters,
    pareto_models,
    provenance,
    results_text,
)
from mbutils.report.tables.scores import learned_text, photograph_scores, scores_text, unknown
from mbutils.report.tables.search import candidates, search_answer, search_costs, search_text, worth_their_cost
from mbutils.report.tables.style import facts, styled
