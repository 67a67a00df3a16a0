"""Sweeps: many configurations, in parallel, resumable, on one machine or many.

A sweep file becomes a plan of stages (`plan`); a stage is one notebook, or the rendering of one, and runs on a worker
of a Dask cluster (`stages`, `clusters`, `execution`). What each stage did is recorded beside its log in the results
folder (`records`), where anyone can follow it (`display`).
"""

from mbutils.sweep.configurations import Configuration
from mbutils.sweep.plan import Plan, Stage, read
from mbutils.sweep.records import failures

__all__ = ["Configuration", "Plan", "Stage", "failures", "read"]
