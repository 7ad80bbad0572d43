"""Train the tiny Llamas behind the market `measured`: from scratch, on arithmetic chains, one CPU
core and a few minutes each.

    python -m scripts.train_tiny_models --out models            # all of them
    python -m scripts.train_tiny_models --out models --only chain-0.2M

Each model is saved as a Hugging Face folder (`LlamaForCausalLM` and a character tokenizer) that
vLLM and `transformers` load as any other, with `training.json` beside it (settings, steps,
accuracy, sha256 of the weights). Training stops at a *target sampled accuracy*, because the loss
falls in a sudden transition and a model past it is right nearly always: there would be nothing for
more samples to mend.

Needs torch, transformers and tokenizers (the extra `measure` brings them). A seed fixes the weights
on one machine and library version only.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ttc_env.measure.chains import ALPHABET, ANSWER_END, PROMPT_END, THOUGHT_END, Chain, draw_chain

PAD, BOS = "_", "^"
VOCABULARY = [PAD, BOS, *ALPHABET]
CODE = {token: i for i, token in enumerate(VOCABULARY)}
EOS_ID = CODE[ANSWER_END]
IGNORED = -100  # torch's label for "no loss here"


@dataclass(frozen=True)
class Recipe:
    """One model and how it is trained."""

    name: str
    hidden: int
    layers: int
    heads: int
    learning_rate: float
    style: str  # chain of thought, see ttc_env.measure.chains
    # stop once one sample at temperature 1 is right this often, on fresh training problems
    target_accuracy: float
    seed: int = 0


RECIPES = (
    Recipe("chain-0.1M", 48, 3, 4, 5e-3, "terse", 0.55),
    Recipe("chain-0.2M", 64, 3, 4, 4e-3, "terse", 0.62),
    Recipe("chain-0.2M-verbose", 64, 3, 4, 4e-3, "verbose", 0.66),
    Recipe("chain-0.9M", 128, 4, 4, 2e-3, "terse", 0.72),
    Recipe("chain-1.9M", 192, 4, 6, 1.5e-3, "terse", 0.82),
)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One character, one token; the beginning of the sequence is added, as Llama's own tokenizer
    does.
    """
    from tokenizers.processors import TemplateProcessing

    tokenizer = Tokenizer(WordLevel(CODE, unk_token=PAD))
    tokenizer.pre_tokenizer = Split(Regex("."), behavior="isolated")
    tokenizer.post_processor = TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, CODE[BOS])]
    )
    from tokenizers.decoders import Fuse

    tokenizer.decoder = Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=ANSWER_END,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
    )


def make_model(recipe: Recipe) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=recipe.hidden,
        intermediate_size=3 * recipe.hidden,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        head_dim=32,  # vLLM's CPU kernels refuse 16
        max_position_embeddings=128,
        bos_token_id=CODE[BOS],
        eos_token_id=EOS_ID,
        pad_token_id=CODE[PAD],
        tie_word_embeddings=True,
    )
    torch.manual_seed(recipe.seed)
    return LlamaForCausalLM(config)


def encode(
    chain: Chain, style: str, cut_short: float, rng: np.random.Generator
) -> tuple[list[int], int]:
    """Token ids of one example, and the index of the first token that carries loss.

    With probability `cut_short` the thought is broken off at a random place, and only the answer
    carries loss: so a model learns to guess when its thinking budget is forced to an end, without
    learning to break off by itself.
    """
    prompt, thought = chain.text + PROMPT_END, chain.thought(style)
    first = len(prompt)
    if rng.random() < cut_short:
        thought = thought[: rng.integers(0, len(thought))]
        first = len(prompt) + len(thought) + 1
    text = prompt + thought + THOUGHT_END + chain.answer + ANSWER_END
    return [CODE[BOS], *(CODE[c] for c in text)], first + 1


def make_batch(
    rng: np.random.Generator, recipe: Recipe, size: int, terms: tuple[int, int], cut_short: float
) -> tuple[torch.Tensor, torch.Tensor]:
    examples = [
        encode(draw_chain(rng, *terms, held_out=False), recipe.style, cut_short, rng)
        for _ in range(size)
    ]
    width = max(len(ids) for ids, _ in examples)
    tokens = np.full((size, width), CODE[PAD])
    labels = np.full((size, width), IGNORED)
    for row, (ids, first) in enumerate(examples):
        tokens[row, : len(ids)] = ids
        labels[row, first : len(ids)] = ids[first:]
    return torch.from_numpy(tokens), torch.from_numpy(labels)


@torch.no_grad()
def sampled_accuracy(
    model: LlamaForCausalLM,
    recipe: Recipe,
    terms: tuple[int, int],
    problems: int,
    generator: torch.Generator,
) -> float:
    """Share of fresh training-side problems that one sample at temperature 1 gets right."""
    rng = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
    by_length: dict[int, list[Chain]] = {}
    for _ in range(problems):
        chain = draw_chain(rng, *terms, held_out=False)
        by_length.setdefault(len(chain.digits), []).append(chain)
    right = 0
    for chains in by_length.values():  # one length at a time: no padding needed
        tokens = torch.tensor(
            [[CODE[BOS], *(CODE[c] for c in chain.text + PROMPT_END)] for chain in chains]
        )
        start = tokens.shape[1]
        for _ in range(len(chains[0].thought(recipe.style)) + 4):
            probabilities = model(tokens).logits[:, -1].softmax(-1)
            tokens = torch.cat(
                [tokens, torch.multinomial(probabilities, 1, generator=generator)], 1
            )
        for chain, ids in zip(chains, tokens[:, start:].tolist(), strict=True):
            text = "".join(VOCABULARY[i] for i in ids)
            right += f"{THOUGHT_END}{chain.answer}{ANSWER_END}" in text[: text.find(ANSWER_END) + 1]
    return right / problems


def train(
    recipe: Recipe,
    *,
    terms: tuple[int, int],
    batch: int,
    cut_short: float,
    max_steps: int,
    check_every: int,
) -> tuple[LlamaForCausalLM, dict]:
    """Train to the target sampled accuracy, or `max_steps`; returns the model and what happened."""
    model = make_model(recipe)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.01
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 200))
    rng, generator = np.random.default_rng(recipe.seed), torch.Generator().manual_seed(recipe.seed)
    started, accuracy, smoothed, step = time.time(), 0.0, 0.0, 0
    for step in range(1, max_steps + 1):
        tokens, labels = make_batch(rng, recipe, batch, terms, cut_short)
        logits = model(tokens).logits[:, :-1]
        loss = cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        smoothed = loss.item() if step == 1 else 0.98 * smoothed + 0.02 * loss.item()
        # in the transition twenty steps can mean thirty points: look more often
        near = accuracy > recipe.target_accuracy - 0.2
        if step % (max(1, check_every // 5) if near else check_every) == 0:
            accuracy = sampled_accuracy(model, recipe, terms, 256, generator)
            print(
                f"{recipe.name}: step {step}, loss {smoothed:.3f}, sampled accuracy {accuracy:.3f},"
                f" {time.time() - started:.0f} s",
                flush=True,
            )
            if accuracy >= recipe.target_accuracy:
                break
    parameters = sum(p.numel() for p in model.parameters())
    return model, {
        "steps": step,
        "loss": smoothed,
        "sampled_accuracy": accuracy,
        "parameters": parameters,
        "seconds": time.time() - started,
    }


def save(
    model: LlamaForCausalLM, recipe: Recipe, folder: Path, outcome: dict, settings: dict
) -> None:
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    record = {
        "recipe": dataclasses.asdict(recipe),
        **settings,
        **outcome,
        "weights_sha256": weights,
        "torch": torch.__version__,
    }
    (folder / "training.json").write_text(json.dumps(record, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, required=True, help="folder that gets one sub-folder for each model"
    )
    parser.add_argument("--only", nargs="*", help="names of the models to train; all by default")
    parser.add_argument(
        "--terms", type=int, nargs=2, default=(3, 6), help="shortest and longest chain, in terms"
    )
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument(
        "--cut-short",
        type=float,
        default=0.15,
        help="share of examples whose thought is broken off",
    )
    parser.add_argument("--max-steps", type=int, default=30_000)
    parser.add_argument("--check-every", type=int, default=20)
    args = parser.parse_args()
    names = args.only or [recipe.name for recipe in RECIPES]
    if unknown := set(names) - {recipe.name for recipe in RECIPES}:
        parser.error(
            f"no recipe named {', '.join(sorted(unknown))}; there are"
            f" {', '.join(recipe.name for recipe in RECIPES)}"
        )
    settings = {"terms": list(args.terms), "batch": args.batch, "cut_short": args.cut_short}
    for recipe in RECIPES:
        if recipe.name in names:
            model, outcome = train(
                recipe,
                terms=tuple(args.terms),
                batch=args.batch,
                cut_short=args.cut_short,
                max_steps=args.max_steps,
                check_every=args.check_every,
            )
            save(model, recipe, args.out / recipe.name, outcome, settings)


if __name__ == "__main__":
    main()
