"""`hydra/sweeper=search`: a search for the settings with the lowest held-out error, by Optuna.

Suggestions are a function of the seed and of the results so far, and each run is found again by its settings. So
the same command resumes a search, and an interrupted search ends like one that was not.
"""

import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from resnet_lab.checks import UserError, check_positive
from resnet_lab.files import unusable
from resnet_lab.runs.directory import Run
from resnet_lab.runs.identity import hash_of_run
from resnet_lab.runs.signals import EXIT_INTERRUPTED
from resnet_lab.sweeps.launcher import SweepLauncher


class SearchSweeper(Sweeper):
    """Suggests settings in batches, has them run, and learns from their errors on held-out training images.

    Args:
        params: settings to search over, besides those on the command line.
        n_trials: number of runs in total.
        batch: number of runs at a time.
        seed: seed of the suggestions.

    Raises:
        ValueError: a number is out of its range, or Optuna is missing.
    """

    def __init__(self, params: Any, n_trials: int, batch: int, seed: int) -> None:
        if importlib.util.find_spec("optuna") is None:
            raise ValueError("hydra/sweeper=search needs Optuna: pip install 'resnet-lab[search]'")
        check_positive(n_trials=n_trials, batch=batch)
        self.params: Any = OmegaConf.to_container(params) if OmegaConf.is_config(params) else params or {}
        self.n_trials, self.batch, self.seed = n_trials, batch, seed

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.folder = Path(config.hydra.sweep.dir)
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        if not isinstance(launcher, SweepLauncher):
            raise UserError("hydra/sweeper=search needs hydra/launcher=pool or hydra/launcher=slurm")
        self.jobs = launcher

    def sweep(self, arguments: list[str]) -> None:
        given = [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
        # as with Hydra's own sweeper, the command line goes before a file
        overrides = {o.get_key_element(): o for o in OverridesParser.create().parse_overrides(given)}.values()
        self.fixed = [str(override.input_line) for override in overrides if not override.is_sweep_override()]
        space = {o.get_key_element(): distribution(o) for o in overrides if o.is_sweep_override()}
        if not space:
            raise UserError("hydra/sweeper=search has nothing to search over; try 'optimizer.lr=interval(0.01,1)'")
        least = [f"{key}={least_of(values)}" for key, values in space.items()]
        (config,) = self.jobs.check([[*self.fixed, *least]])
        check_objective(config)
        study = self._open_study(json.dumps([space, self.seed, hash_of_run(config)], default=str, sort_keys=True))
        failed = False
        while trials := self._next_trials(study, space):
            failed |= self._run(study, trials)
        self._tell_best(study)
        if failed:
            sys.exit(1)

    def _open_study(self, asked: str) -> Any:
        """The study in search.db beside the runs; refuses that of another search."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unusable(self.folder, error) from error
        study = optuna.create_study(
            storage=f"sqlite:///{self.folder / 'search.db'}", study_name="search", load_if_exists=True
        )
        if study.user_attrs.get("asked", asked) != asked:
            raise UserError(
                f"{self.folder} has a search with other settings, space or seed; choose another experiment_name"
            )
        study.set_user_attr("asked", asked)
        return study

    def _next_trials(self, study: Any, space: dict[str, Any]) -> list[Any]:
        """The jobs that an interruption left unfinished, or else the next suggestions."""
        import optuna

        every = study.get_trials(deepcopy=False)
        if begun := [trial for trial in every if trial.state == optuna.trial.TrialState.RUNNING]:
            return begun
        study.sampler = optuna.samplers.TPESampler(seed=self.seed + len(every), constant_liar=True)
        count = min(self.batch, self.n_trials - len(every))
        return [study.ask(space) for _ in range(count)]

    def _run(self, study: Any, trials: Sequence[Any]) -> bool:
        """Run them and tell the study their errors; return whether one of them failed."""
        jobs = [[*self.fixed, *(f"{key}={value}" for key, value in trial.params.items())] for trial in trials]
        configs = self.jobs.check(jobs)
        ended: SystemExit | None = None
        try:
            self.jobs.launch(jobs, trials[0].number)
        except SystemExit as end:
            if end.code == EXIT_INTERRUPTED:
                raise
            ended = end
        failed = False
        for trial, config in zip(trials, configs, strict=True):
            run = Run(config["run_dir"])
            if run.is_complete():
                study.tell(trial.number, run.record()["val_error"], skip_if_finished=True)  # by the same search
            elif not self.jobs.stopping or run.status() == "failed":  # others were stopped, and are to be resumed
                failed = True
                study.tell(trial.number, state=failed_state(), skip_if_finished=True)
        if ended and self.jobs.stopping:
            raise ended
        return failed

    def _tell_best(self, study: Any) -> None:
        values = [trial for trial in study.get_trials(deepcopy=False) if trial.values]
        if not values:
            return
        best = min(values, key=lambda trial: trial.value)
        settings = " ".join(f"{key}={value}" for key, value in best.params.items())
        print(f"lowest held-out error, {best.value:.2f} %, of {len(values)} runs: {settings}")


def failed_state() -> Any:
    import optuna

    return optuna.trial.TrialState.FAIL


def check_objective(config: dict[str, Any]) -> None:
    """Refuse a search whose objective would be the test error."""
    if config["job"] != "train" or not config["data"].get("holdout"):
        raise UserError(
            "hydra/sweeper=search needs data.holdout: without images held out, the validation error is the test "
            "error, which must choose nothing; set data.holdout=5000"
        )


def distribution(override: Override) -> Any:
    """Optuna's form of an interval or of a list of values.

    Raises:
        UserError: an interval is empty, or a logarithmic one does not start above zero.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value = override.value()
    if not isinstance(value, IntervalSweep):
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    start, end, log = value.start, value.end, "log" in value.tags
    if start is None or end is None or not start < end or (log and start <= 0):
        raise UserError(f"{override.input_line}: an interval must rise, and a logarithmic one must start above 0")
    if isinstance(start, int) and isinstance(end, int):
        return IntDistribution(start, end, log=log)
    return FloatDistribution(float(start), float(end), log=log)


def least_of(values: Any) -> Any:
    return values.choices[0] if hasattr(values, "choices") else values.low
