"""Sweeps: many configurations, in parallel, resumable, on one machine or many.

A sweep file lists configurations (`configurations`), which become a plan of stages (`plan`). A stage executes one
notebook, or renders it, and is a task of a Dask cluster (`stages`, `clusters`, `execution`). Notebooks are executed in
kernels that start at once (`notebooks`, `kernels`), with all temporary files in one folder (`private`). What each stage
did is recorded next to its log in the results folder (`records`), where anyone can follow it (`display`).
"""

from mbutils.sweep.configurations import Configuration
from mbutils.sweep.plan import Plan, Stage, read
from mbutils.sweep.records import failures
