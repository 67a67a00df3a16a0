"""What stands out, as a box that is seen: calm, and readable on a light page and on a dark one."""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd
from pandas.io.formats.style import Styler

from mbutils.evaluation import Finding
from mbutils.report.tables.style import styled

_AMBER, _GREEN = "222, 143, 5", "2, 158, 115"  # of the colour-blind safe palette


def findings(found: Iterable[Finding]) -> Styler:
    """Returns what stands out about a run and what to do, or that nothing does."""
    return findings_by_run(dict.fromkeys(found, ()))


def findings_by_run(found: Mapping[Finding, Sequence[str]]) -> Styler:
    """Returns what stands out about several runs, with their ids; takes what `review.findings_by_run` returns."""
    if not found:
        return _box(pd.DataFrame({"": ["Nothing stands out."]}), _GREEN)
    table = pd.DataFrame(
        {"what stands out": [finding.text for finding in found], "what to do": [finding.way_out for finding in found]}
    )
    if any(found.values()):
        table["run"] = [", ".join(run_ids) for run_ids in found.values()]
    return _box(table, _AMBER)


def left_out(damaged: Mapping[str, str]) -> Styler:
    """Returns the runs that a report leaves out, and why; takes what `runs.damaged` returns."""
    return _box(pd.DataFrame({"runs left out": list(damaged.values())}), _AMBER)


def _box(table: pd.DataFrame, color: str) -> Styler:
    style = styled(table, left=list(table.columns))
    width = {"min-width": "12em", "max-width": "34em"}
    style = style.set_properties(**{"background-color": f"rgba({color}, 0.15)", **width})
    return style.set_properties(subset=[table.columns[0]], **{"border-left": f"4px solid rgb({color})"})
