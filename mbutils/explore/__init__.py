"""Photographs and finished runs, chosen in a notebook; its outputs follow the choice."""

from mbutils.explore.explorer import Explorer
