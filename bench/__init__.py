"""Benchmarks of the workbook against the stock way, side by side in one run: `make bench`.

A benchmark is a module with the functions `ours` and `stock`. Each prepares its work and returns a function that does
one round of it and returns images per second. `cases.CASES` lists the modules with their arguments.
"""
