"""The best model for a device in a given time.

The models of a space (`space`) are costed before any is trained (`costs`). Those that fit are trained by successive
halving (`halving`): all for a few epochs (`rungs`), the best of them further, two to their end. What was decided is
kept (`journal`), so that a search that was killed goes on. The best becomes C code (`engine`, `answer`).
"""

from mbutils.search.answer import Answer, pareto
from mbutils.search.engine import page, planned, run
