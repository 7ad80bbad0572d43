"""The market as a task of BenchMARL.

    from benchmarl.experiment import Experiment, ExperimentConfig
    from ttc_env.envs.benchmarl import market_task

    task = market_task(benchmark="gsm8k", prices="fixed", beta=200.0)
    Experiment(task=task, algorithm_config=..., model_config=..., seed=0, config=...).run()

`examples/benchmarl_ippo.py` is a whole run. All providers are one group, `provider`; BenchMARL's
`share_policy_params=False` gives each a network of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ttc_env.envs.market import parallel_env

try:
    from benchmarl.environments import PettingZooClass
    from torchrl.envs.libs.pettingzoo import PettingZooWrapper
except ImportError as error:
    raise ImportError("ttc_env.envs.benchmarl needs BenchMARL: pip install benchmarl") from error

GROUP = "provider"


class MarketTask(PettingZooClass):  # type: ignore[misc]
    """A game as BenchMARL takes it. Made by `market_task`; `config` holds `parallel_env`'s options.

    What an experiment asks of the tensors is what BenchMARL asks of its own PettingZoo tasks.
    """

    def get_env_fun(
        self, num_envs: int, continuous_actions: bool, seed: int | None, device: Any
    ) -> Callable[[], Any]:
        """A function that makes one TorchRL environment; BenchMARL makes `num_envs` of them."""
        options = dict(self.config)

        def make() -> Any:
            env = parallel_env(**options)
            return PettingZooWrapper(
                env,
                group_map={GROUP: list(env.possible_agents)},
                return_state=True,
                categorical_actions=True,
                seed=seed,
                device=device,
            )

        return make

    def supports_continuous_actions(self) -> bool:
        return self.config["actions"] == "continuous"

    def supports_discrete_actions(self) -> bool:
        return not self.supports_continuous_actions()

    def has_state(self) -> bool:
        return True

    def has_render(self, env: Any) -> bool:
        return False

    @staticmethod
    def env_name() -> str:
        return "ttc_env"


def market_task(
    *, actions: str = "flat", max_cycles: int = 100, infos: str = "basic", **options: Any
) -> MarketTask:
    """A task for `benchmarl.experiment.Experiment`.

    Args:
        actions: `"flat"` (level, price and report as one index) or `"continuous"`.
        options: of `ttc_env.parallel_env`.

    Raises:
        ValueError, TypeError: an option that is unknown or out of range; BenchMARL has no policy
            for several discrete choices at once, `actions="discrete"` with a price grid.
    """
    if actions not in ("flat", "continuous"):
        raise ValueError(f"actions is {actions!r}; BenchMARL plays 'flat' or 'continuous'")
    options |= {"actions": actions, "max_cycles": max_cycles, "infos": infos}
    env = parallel_env(**options)  # so that what is wrong is said here
    return MarketTask(f"{env.unwrapped.config.mechanism.name}".upper(), options)


__all__ = ["MarketTask", "market_task"]
