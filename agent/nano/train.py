"""Makes thox-nano from nothing but the corpus: `python -m agent.nano.train --out DIR`.

Tokenizer, weights, configuration and model card are written to DIR. The run saves its state every few minutes beside
DIR and goes on from there when it is started again. The same seed, steps and number of threads give the same weights
on the same machine and library versions; another processor may round differently and end with slightly other weights.
"""

import argparse
import json
import math
import sys
import time
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from agent.nano import tokens, train_card
from agent.nano.corpus import COPIED, DRILLED, KINDS, SETTLED, SHARPENED, WIDENED, Kinds
from agent.nano.layout import END_OF_TEXT, TURN_END
from agent.nano.tokens import IGNORED, Row
from agent.nano.train_network import Network, Shape

SAVE_EVERY_SECONDS = 240.0


@dataclass(frozen=True)
class Part:
    """A stretch of the training, up to a step: its text, and the step at which its falling rate would reach the floor.

    Two parts were cut short of that step, because their answers had been read and the next text was ready. A part
    begins with the rate at which the one before it ended, unless it states a share of the peak.
    """

    until: int
    floor_at: int
    kinds: Kinds
    begins_with: float | None = None


PARTS = (
    Part(800, 2400, KINDS),
    Part(1500, 2100, WIDENED),
    Part(3200, 3200, SHARPENED),
    Part(4400, 4400, DRILLED, begins_with=0.45),
    Part(5900, 5900, COPIED, begins_with=0.45),
    Part(6500, 6500, SETTLED, begins_with=0.3),
)


@dataclass(frozen=True)
class Plan:
    """Everything that decides what comes out."""

    seed: int = 2026
    threads: int = 2
    steps: int = PARTS[-1].until
    batch_tokens: int = 1536
    peak: float = 2.5e-3
    floor: float = 0.04
    warm_up: int = 100
    decay: float = 0.05
    clip: float = 1.0
    tokenizer_documents: int = 40_000

    def rate(self, step: int) -> float:
        """The learning rate: a short rise, then a cosine in each part, from where the part before had come to."""
        if step < self.warm_up:
            return self.peak * (step + 1) / self.warm_up
        rate, start = self.peak, self.warm_up
        for part in PARTS:
            if part.begins_with is not None:
                rate = self.peak * part.begins_with
            rate *= self._cosine((min(step, part.until) - start) / (part.floor_at - start))
            if step <= part.until:
                break
            start = part.until
        return rate

    def _cosine(self, through: float) -> float:
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * through))


def tensors(batch: list[Row]) -> tuple[Tensor, Tensor]:
    """A batch as two tensors, padded on the right, where causal attention never looks."""
    longest = max(len(ids) for ids, _ in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    wanted = torch.full((len(batch), longest), IGNORED, dtype=torch.long)
    for index, (row, learned) in enumerate(batch):
        ids[index, : len(row)] = torch.tensor(row)
        wanted[index, : len(row)] = torch.tensor(learned)
    return ids, wanted


def held_out(network: Network, sample: list[list[Row]]) -> float:
    """The loss on documents of another seed."""
    with torch.no_grad():
        return sum(float(network.loss(*tensors(batch))) for batch in sample) / len(sample)


def optimizer_for(network: Network, plan: Plan) -> torch.optim.Optimizer:
    """AdamW; norms and the embedding do not decay."""
    matrices = [p for name, p in network.named_parameters() if p.dim() == 2 and name != "embedding"]
    others = [p for name, p in network.named_parameters() if p.dim() != 2 or name == "embedding"]
    groups = [{"params": matrices, "weight_decay": plan.decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=plan.peak, betas=(0.9, 0.95), fused=True)


def export(network: Network, tokenizer: Tokenizer, figures: dict[str, Any], folder: Path) -> None:
    """The checkpoint as transformers reads it, and the figures of the training so far."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = tokenizer.get_vocab()
    bos, eos = vocabulary[END_OF_TEXT], vocabulary[TURN_END]
    generation = {"bos_token_id": bos, "eos_token_id": [eos, bos], "pad_token_id": bos, "do_sample": False}
    for name, content in (
        ("config.json", network.shape.config(bos, eos)),
        ("generation_config.json", generation),
        ("training.json", figures),
    ):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")
    tokens.write(tokenizer, folder)
    save_file(network.checkpoint(), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)


def train(plan: Plan, out: Path, state: Path) -> None:
    """The whole run, from the state where there is one."""
    torch.manual_seed(plan.seed)
    torch.set_num_threads(plan.threads)
    tokenizer = tokens.trained(plan.seed, plan.tokenizer_documents)
    network = Network(Shape(vocabulary=tokenizer.get_vocab_size()))
    optimizer = optimizer_for(network, plan)
    stream = chain.from_iterable(
        islice(tokens.batches(tokenizer, plan.seed + 2 * index, plan.batch_tokens, part.kinds), part.until - start)
        for index, (start, part) in enumerate(zip((0, *(part.until for part in PARTS)), PARTS, strict=False))
    )
    held = tokens.batches(tokenizer, plan.seed + 1, plan.batch_tokens)
    sample = [next(held) for _ in range(16)]
    figures: dict[str, Any] = {
        **vars(plan),
        "parameters": sum(p.numel() for p in network.parameters()),
        "torch": str(torch.__version__),
        "done": 0, "tokens": 0, "learned_tokens": 0, "documents": 0, "minutes": 0.0, "curve": [],
    }  # fmt: skip
    if state.exists():
        saved = torch.load(state, weights_only=True)
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        figures.update(saved["figures"] | vars(plan))
        for _ in range(figures["done"]):
            next(stream)
    before, started = figures["minutes"], time.monotonic()
    last_save, running = started, 0.0
    for step in range(figures["done"], plan.steps):
        for group in optimizer.param_groups:
            group["lr"] = plan.rate(step)
        ids, wanted = tensors(next(stream))
        loss = network.loss(ids, wanted)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), plan.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        running = float(loss.detach()) if not running else 0.97 * running + 0.03 * float(loss.detach())
        figures["done"] = step + 1
        figures["tokens"] += ids.numel()
        figures["learned_tokens"] += int((wanted >= 0).sum())
        figures["documents"] += ids.shape[0]
        now = time.monotonic()
        figures["minutes"] = round(before + (now - started) / 60, 2)
        ended = step + 1 == plan.steps
        if ended or (step + 1) % 100 == 0:
            point = {"step": step + 1, "loss": round(running, 4), "held_out": round(held_out(network, sample), 4)}
            figures["curve"].append(point)
            sys.stdout.write(f"{point} tokens {figures['tokens']} minutes {figures['minutes']}\n")
            sys.stdout.flush()
        if ended or now - last_save > SAVE_EVERY_SECONDS:
            last_save = now
            content = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "figures": figures}
            torch.save(content, state.with_suffix(".new"))
            state.with_suffix(".new").replace(state)
            export(network, tokenizer, figures, out)
    train_card.write(out)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description="Train thox-nano from its corpus.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the finished checkpoint")
    parser.add_argument("--state", type=Path, help="the run's own state (default: OUT.state, beside OUT)")
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument("--threads", type=int, default=Plan.threads)
    options = parser.parse_args()
    state = options.state or options.out.with_name(options.out.name + ".state")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    train(Plan(seed=options.seed, threads=options.threads), options.out, state)


if __name__ == "__main__":
    main()
