"""Hydra composes the options of training, overrides them, and sweeps over them:

    python examples/hydra_train.py learner=ucb beta=200
    python examples/hydra_train.py --multirun learner=hedge,ucb beta=200,1000

Every run has a folder of its own under outputs/ or multirun/, with Hydra's record of the options
beside manifest.json, metrics.csv and policies/ (see scripts.train).

Needs: pip install ttc-env hydra-core tqdm
"""

from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from baselines.plan import Plan, TrainConfig
from baselines.training import Run
from ttc_env import settings

ConfigStore.instance().store(name="train", node=settings.structured(TrainConfig))


@hydra.main(version_base=None, config_name="train")
def main(chosen: DictConfig) -> None:
    config = settings.of(TrainConfig, OmegaConf.to_container(chosen, resolve=True))
    plan = Plan.of(config)
    run = Run(plan, Path(HydraConfig.get().runtime.output_dir))
    run.train()
    row = run.final().iloc[0]
    levels = [int(row[f"level_{i}"]) for i in range(plan.environment.market.num_providers)]
    print("learned    ", levels, "NashConv", row.nash_conv)
    print("equilibrium", plan.environment.solve().worst.tolist())


if __name__ == "__main__":
    main()
