"""Options that `measure` and `estimate` share: which curves are made of samples."""

from __future__ import annotations

import argparse
import json
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ttc_env.measure.estimate import RewardOptions


def whole_numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


whole_numbers.__name__ = "list of whole numbers"


def numbers(text: str) -> list[float]:
    values = [float(part) for part in text.split(",")]
    if not all(map(math.isfinite, values)):
        raise ValueError
    return values


numbers.__name__ = "list of numbers"


def names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"no JSON ({error})") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError('expected a JSON object, such as {"max_terms": 8}')
    return value


def add_curve_options(parser: argparse.ArgumentParser) -> None:
    from ttc_env.measure.estimate import ALL_METHODS
    from ttc_env.measure.samples import SCORES

    group = parser.add_argument_group("curves")
    group.add_argument(
        "--methods",
        type=names,
        default=["majority", "best_of_n"],
        help=f"of {', '.join(ALL_METHODS)}",
    )
    group.add_argument(
        "--levels", type=whole_numbers, help="numbers of samples; powers of two by default"
    )
    group.add_argument(
        "--score",
        choices=SCORES,
        default="logprob",
        help="what best_of_n and weighted_majority go by",
    )
    group.add_argument(
        "--reward-model",
        help="score samples by this model first (folder or hub name); implies --score reward",
    )
    group.add_argument(
        "--reward-options",
        type=json_object,
        default={},
        help='JSON: \'{"kind": "process", "step": "\\\\n\\\\n", "dtype": "bfloat16"}\'',
    )
    group.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="run code that the reward model's repository brings, or those models that a campaign"
        " file marks so; it can do anything that you can",
    )
    group.add_argument(
        "--prices", type=numbers, help="USD per 1M tokens, in the order of the models"
    )
    group.add_argument(
        "--margin",
        type=float,
        help="mu: cost = price / (1 + mu); the loader's default where not given",
    )
    group.add_argument(
        "--resamples", type=int, default=2000, help="of the bootstrap over questions"
    )


def reward_options(args: argparse.Namespace) -> RewardOptions | None:
    """The reward model that the options name."""
    from ttc_env.measure.estimate import RewardOptions

    if args.reward_model is None:
        if args.reward_options or args.trust_remote_code:
            raise ValueError("options of a reward model are given, and no --reward-model")
        return None
    options = dict(args.reward_options)
    if args.trust_remote_code:
        options["trust_remote_code"] = True
    return RewardOptions(args.reward_model, options)
