"""BenchMARL's IPPO, a network of its own for each provider, on the task of this package.

Needs: pip install ttc-env benchmarl
"""

import tempfile

from benchmarl.algorithms import IppoConfig
from benchmarl.experiment import Experiment, ExperimentConfig
from benchmarl.models.mlp import MlpConfig

import ttc_env
from ttc_env.envs.benchmarl import market_task

market = ttc_env.load_market("gsm8k", providers=["Llama-3.1-8B", "Qwen2-7B", "Qwen2.5-7B"])
task = market_task(market=market, prices="fixed")

config = ExperimentConfig.get_from_yaml()
config.share_policy_params = False
config.gamma = 0.0  # a round's profit depends on that round alone
config.lr = 0.003
config.max_n_iters = 25
config.on_policy_collected_frames_per_batch = 400
config.on_policy_n_envs_per_worker = 4
config.on_policy_n_minibatch_iters = 8
config.on_policy_minibatch_size = 200
config.evaluation, config.create_json, config.loggers = False, False, []
config.save_folder = tempfile.mkdtemp()
model = MlpConfig.get_from_yaml()
model.num_cells = [32]
experiment = Experiment(
    task=task, algorithm_config=IppoConfig.get_from_yaml(), model_config=model,
    critic_model_config=model, seed=0, config=config,
)  # fmt: skip
experiment.run()

# What was learned, against the exact solution: the choices of the last round of an episode.
played = experiment.test_env.rollout(100, experiment.policy)
levels = played["provider", "logits"].flatten(0, -3)[-1].argmax(-1).numpy()
print("learned    ", levels, "NashConv", ttc_env.nash_conv(market, levels))
print("equilibrium", ttc_env.solve(market).worst)
