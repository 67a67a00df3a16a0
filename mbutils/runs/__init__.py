"""Run folders, their manifests, and the results table made from them."""

from mbutils.runs.folder import (
    FLOAT32,
    TEST_IMAGES,
    Run,
    all_runs,
    damaged,
    find,
    load_dataset,
    named,
    no_run,
    notebook_of,
    predictions_name,
)
from mbutils.runs.histories import history, record_history
from mbutils.runs.identity import Identity, identify
from mbutils.runs.predictions import Predictions, predictions, save_test_images, test_images
from mbutils.runs.provenance import git_commit, machine
from mbutils.runs.table import RESULT_COLUMNS, results_table, unfinished, write_results
from mbutils.runs.training import Training, begin, finish
from mbutils.runs.upkeep import annotate, beside_artefacts, delete, listing, students
from mbutils.runs.variants import (
    MEASURED_COLUMNS,
    RECORDED_ACCURACY,
    record_deployment,
    record_evaluation,
    record_outcomes,
    save_variant,
)
