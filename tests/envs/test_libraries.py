"""Learning libraries read the environments as they are. Each test needs its library, which no extra
installs.
"""

import numpy as np
import pytest

import ttc_env
from tests.variants import UNEVEN


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("actions", ["discrete", "flat", "continuous"])
def test_torchrl_wraps_every_kind_of_action_and_reads_its_mask(actions):
    pettingzoo = pytest.importorskip("torchrl.envs.libs.pettingzoo")
    env = ttc_env.parallel_env(market=UNEVEN, prices=(1.0, 2.0), actions=actions, max_cycles=20)
    played = pettingzoo.PettingZooWrapper(env).rollout(20)["provider"]
    if actions == "continuous":
        assert "action_mask" not in played.keys()  # noqa: SIM118 (a TensorDict iterates over rows)
        return
    masks = np.array([env.config.action_masks] * 20)
    np.testing.assert_array_equal(played["action_mask"].numpy(), masks)
    chosen = played["action"].numpy().reshape(20, 3, -1)[..., 0]
    levels = chosen if actions == "discrete" else chosen // 2
    assert (levels.max(axis=0) == [2, 0, 1]).all()
