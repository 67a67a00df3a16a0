"""Successive halving: all models are trained a little, the best of them further, the last two to their end.

Jamieson and Talwalkar 2016, arXiv:1502.07943; the inner loop of Hyperband, Li et al. 2018, arXiv:1603.06560. A model
that goes on continues its training. Its learning rate follows the schedule of the whole training from the beginning.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mbutils import runs
from mbutils.errors import WorkbookError
from mbutils.search.journal import Journal
from mbutils.search.space import Space
from mbutils.sweep import configurations, estimates, plan
from mbutils.sweep.configurations import Configuration
from mbutils.sweep.plan import Stage

_LAST_NOTEBOOKS = ["train", "convert", "evaluate"]
_AFTERWARDS = ("deploy", "search")  # the notebooks that make the C code and the page
_MARGIN = 0.85  # of the time left is planned
_SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)  # of the epochs, where the time is short
Perform = Callable[[list[Stage], float], None]


@dataclass(frozen=True)
class Halving:
    """Successive halving within a time.

    Attributes:
        space: The models.
        fitting: The positions in the space of those that fit the device.
        journal: What is decided, and the time.
        results_dir: The results folder.
        workers: How many trainings run at a time.
        perform: Does those of some stages that are not done yet, for so many seconds at most.
    """

    space: Space
    fitting: tuple[int, ...]
    journal: Journal
    results_dir: Path
    workers: int
    perform: Perform

    def finalists(self) -> list[Configuration]:
        """Trains, and returns the models that were to be trained to their end, the best on the rung before first.

        Raises:
            WorkbookError: If the time is too short, or no training succeeds.
        """
        self.perform(self._lessons(), self.journal.left)
        if self.journal.share is None:
            self.journal.share = self._share()
            self.journal.save()
        models = self.space.configurations(self.journal.share)
        for rung in range(len(self.space.rungs)):
            if len(self.journal.entered) <= rung:
                self.journal.entered.append(self._entrants(rung, models))
                self.journal.save()
            entrants = self.journal.entered[rung]
            is_last = rung == len(self.space.rungs) - 1
            afterwards = _afterwards(self._factors(models)) if is_last else 0.0
            self.perform(self._stages(rung, entrants, models), self.journal.left - afterwards)
        return [models[position] for position in entrants]

    def _lessons(self) -> list[Stage]:
        """Returns the stages that train the teachers of the models."""
        models = self.space.configurations()
        teachers = [models[position].teacher for position in self.fitting if models[position].teacher]
        return plan.stages(configurations.teachers_first(teachers), ["train"])

    def _share(self) -> float:
        """Returns the largest share of the epochs for which the whole search fits the time.

        The first rung of the cheapest models tells how fast this machine is.
        """
        models = self.space.configurations()
        costliest_first = sorted(self.fitting, key=lambda position: -_work(models[position]))
        self.perform(self._stages(0, costliest_first[-self.workers :], models), self.journal.left)
        factors, seconds = self._factors(models), 0.0
        for share in _SHARES:
            seconds = self._seconds(0, costliest_first, self.space.configurations(share), factors)
            if seconds <= _MARGIN * self.journal.left:
                return share
        raise WorkbookError(
            f"hours: the time is too short for {len(self.fitting)} models: with a fifth of their epochs they take "
            f"another {seconds / _MARGIN / 3600:.2f} hours: raise hours, or give a smaller space"
        )

    def _entrants(self, rung: int, models: Sequence[Configuration]) -> list[int]:
        """Returns the models that enter a rung: the best on the one before, as many as the time allows."""
        if rung == 0:
            return list(self.fitting)
        before = self.journal.entered[rung - 1]
        ranked = self._ranked(rung - 1, before, models)
        factors = self._factors(models)

        def fit(entrants: list[int]) -> bool:
            return self._seconds(rung, entrants, models, factors) <= _MARGIN * self.journal.left

        for count in range(min(len(ranked), self.space.going_on(len(before))), 0, -1):
            if fit(ranked[:count]):
                return ranked[:count]
        return next(([one] for one in ranked if fit([one])), ranked[:1])

    def _ranked(self, rung: int, entrants: Sequence[int], models: Sequence[Configuration]) -> list[int]:
        scores = {position: self._score(models[position], rung) for position in entrants}
        reached = [position for position, score in scores.items() if score]
        if not reached:
            raise WorkbookError(f"no training reached rung {rung + 1}: see mb status --results-dir {self.results_dir}")
        return sorted(reached, key=scores.get, reverse=True)

    def _score(self, model: Configuration, rung: int) -> tuple[float, float] | None:
        """Returns what models are compared by on a rung; None where the training did not come so far.

        That is the least validation loss until there, which says more than the accuracy, above all of a few images;
        the learning rate is still high on an early rung, and a single epoch of a good model can be a bad one.
        """
        stop = self.space.stop(model, rung)
        epochs = runs.history(self.results_dir, model.run_id).head(stop)
        if len(epochs) < stop:
            return None
        best = epochs.loc[epochs["validation_loss"].idxmin()]
        return -best["validation_loss"], best["validation_top1"]

    def _stages(self, rung: int, entrants: Sequence[int], models: Sequence[Configuration]) -> list[Stage]:
        """Returns the stages of a rung: those of the last one convert and evaluate as well."""
        chosen = [models[position] for position in entrants]
        start = {one.run_id: self.space.stop(one, rung - 1) if rung else 0 for one in chosen}
        if rung < len(self.space.rungs) - 1:
            found = [plan.rung(one, start[one.run_id], self.space.stop(one, rung)) for one in chosen]
            return list({stage.key: stage for stage in found}.values())
        stages = plan.stages(chosen, _LAST_NOTEBOOKS)
        return [replace(stage, start=start[stage.group]) if stage.notebook == "train" else stage for stage in stages]

    def _factors(self, models: Sequence[Configuration]) -> list[float]:
        """Returns how much longer trainings took on this machine than the rule of `estimates` says."""
        before = [
            stage
            for rung in range(len(self.space.rungs))
            for stage in self._stages(rung, self.fitting, models)
            if stage.notebook in (plan.RUNG, "train")
        ]
        return estimates.measured_factors(before, self.results_dir)

    def _seconds(
        self, rung: int, entrants: Sequence[int], models: Sequence[Configuration], factors: list[float]
    ) -> float:
        """Returns the seconds from a rung to the end, if the first of those that enter it go on."""
        seconds = _afterwards(factors)
        for later in range(rung, len(self.space.rungs)):
            seconds += estimates.total(self._stages(later, entrants, models), self.workers, factors)
            entrants = entrants[: self.space.going_on(len(entrants))]
        return seconds


def _afterwards(factors: list[float]) -> float:
    """Returns the seconds that the C code and the page take."""
    return estimates.total([Stage("", name, name, {}, "") for name in _AFTERWARDS], 1, factors)


def _work(model: Configuration) -> float:
    trained = model.parameters("train")
    return trained.epochs * trained.alpha * trained.image_size**2
