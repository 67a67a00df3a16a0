"""Where buffers go in one arena: greedy by size, with the overlaps that the rules permit."""

from collections import Counter
from dataclasses import dataclass, field
from itertools import permutations

_MAX_TRIES = 50


@dataclass(eq=False)
class Block:
    """Something that needs memory at some ops.

    Attributes:
        name: The layer that writes it, or that needs it as scratch.
        kind: "activation", "scratch" or "padding" (a padded copy).
        sizes: Its bytes at each op where it is live, by op index. When the size changes, its end stays.
        padding: How many bytes at its start are padding, at the ops where that is not 0.
    """

    name: str
    kind: str
    sizes: dict[int, int]
    padding: dict[int, int] = field(default_factory=dict)

    @property
    def largest(self) -> int:
        """Its largest size in bytes."""
        return max(self.sizes.values())


# (input, output) of an op that may overwrite its own input: by how much the input must end after the output, at least.
Clearances = dict[tuple[Block, Block], int]
# For a block and each other one: how far the end of the one must not be from that of the other, as open intervals.
_Relations = dict[Block, dict[Block, set[tuple[int, int]]]]


def place(blocks: list[Block], clearances: Clearances) -> dict[Block, int]:
    """Places blocks so that two that are live at one op are disjoint, or overlap as permitted.

    The largest come first, each where the arena grows least. The block that made it grow last comes first in the next
    try, until the arena is as small as some op needs, or an order repeats; the smallest arena wins.

    Args:
        blocks: What to place.
        clearances: The pairs that may overlap, and how.

    Returns:
        The end of each block, in bytes from the start of the arena.
    """
    relations = _relations(blocks, clearances)
    order = sorted(blocks, key=lambda block: -block.largest)
    needed = _largest_need(blocks, clearances)
    best, tried = {}, []
    while order not in tried and len(tried) < _MAX_TRIES and not (best and _extent(best) == needed):
        tried.append(order)
        ends, culprit = _greedy(order, relations)
        if not best or _extent(ends) < _extent(best):
            best = ends
        order = [culprit, *(block for block in order if block is not culprit)]
    base = min(end - block.largest for block, end in best.items())
    return {block: end - base for block, end in best.items()}


def _extent(ends: dict[Block, int]) -> int:
    return max(ends.values()) - min(end - block.largest for block, end in ends.items())


def _largest_need(blocks: list[Block], clearances: Clearances) -> int:
    """Returns a lower bound of the arena: the most bytes that one op needs, however the blocks are placed."""
    need: Counter[int] = Counter()
    for block in blocks:
        need.update(block.sizes)
    for (source, output), clearance in clearances.items():
        for op in source.sizes.keys() & output.sizes.keys():
            together = max(source.sizes[op], output.sizes[op] + clearance)
            need[op] = min(need[op], need[op] - source.sizes[op] - output.sizes[op] + together)
    return max(need.values())


def _relations(blocks: list[Block], clearances: Clearances) -> _Relations:
    relations: _Relations = {block: {} for block in blocks}
    live_at: dict[int, list[Block]] = {}
    for block in blocks:
        for op in block.sizes:
            live_at.setdefault(op, []).append(block)
    for op, live in live_at.items():
        for one, other in permutations(live, 2):
            relations[one].setdefault(other, set()).add(_forbidden(one, other, op, clearances))
    return relations


def _forbidden(one: Block, other: Block, op: int, clearances: Clearances) -> tuple[int, int]:
    """Returns the open interval, relative to the end of `other`, that the end of `one` must avoid."""
    low, high = -other.sizes[op], one.sizes[op]
    if (one, other) in clearances:  # `one` is the input: it may lie far enough after the output
        high = min(high, clearances[one, other])
    if (other, one) in clearances:
        low = max(low, -clearances[other, one])
    return low, high


def _greedy(order: list[Block], relations: _Relations) -> tuple[dict[Block, int], Block]:
    """Returns the end of each block, and the block that made the arena grow last."""
    ends: dict[Block, int] = {}
    low, high, culprit = 0, 0, order[0]
    for block in order:
        size = block.largest
        bans = [(ends[o] + a, ends[o] + b) for o, gaps in relations[block].items() if o in ends for a, b in gaps]
        candidates = {low + size, high, *(edge for ban in bans for edge in ban)}
        allowed = [end for end in candidates if not any(a < end < b for a, b in bans)]
        end = min(allowed, key=lambda end: (max(high, end) - min(low, end - size), end))
        if ends and (end > high or end - size < low):
            culprit = block
        ends[block] = end
        low, high = (end - size, end) if len(ends) == 1 else (min(low, end - size), max(high, end))
    return ends, culprit
