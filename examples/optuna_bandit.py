"""Optuna tunes a learner: how much UCB bandits explore and how long they remember, by how far they
end from the exact equilibrium. Trials that are clearly worse half-way are stopped.

Needs: pip install ttc-env optuna tqdm
"""

import optuna

from baselines.plan import Plan, TrainConfig
from baselines.training import Run

PROVIDERS = "Llama-3.1-8B,Qwen2-7B,Qwen2.5-7B"


def trained(width: float, memory: float, trial: optuna.Trial | None = None) -> Run:
    """Four seeds, scored against the solver as they learn."""
    config = TrainConfig(
        learner=f"ucb:width={width}:memory={memory}", providers=PROVIDERS, seeds="0..3",
        steps=1_000, evaluations=10,
    )  # fmt: skip
    run = Run(Plan.of(config))

    def report(row: dict[str, float]) -> None:
        if trial is not None and row["seed"] == 0 and row["step"] > 0:
            trial.report(row["relative_regret"], step=int(row["step"]))
            if trial.should_prune():
                raise optuna.TrialPruned

    run.on_evaluation = report
    run.train()
    return run


def objective(trial: optuna.Trial) -> float:
    width = trial.suggest_float("width", 1e-3, 10.0, log=True)
    memory = trial.suggest_float("memory", 10.0, 1e4, log=True)
    return float(trained(width, memory, trial).final().relative_regret.mean())


optuna.logging.set_verbosity(optuna.logging.WARNING)
study = optuna.create_study(
    sampler=optuna.samplers.TPESampler(seed=0),
    pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=500),
)
study.optimize(objective, n_trials=12)
states = [trial.state.name for trial in study.trials]
print(f"best of {len(states)}, {states.count('PRUNED')} stopped early: {study.best_params}")

# What the best one learned under seed 0, against the exact solution.
run = trained(**study.best_params)
row = run.final().iloc[0]
levels = [int(row[f"level_{i}"]) for i in range(len(PROVIDERS.split(",")))]
print("learned    ", levels, "NashConv", row.nash_conv)
print("equilibrium", run.plan.environment.solve().worst.tolist())
