"""Asks a finished checkpoint: the same network with the weights read back, decoding greedily.

It exists so that the card shows real answers. `python -m agent.nano.train_answers DIR` prints the answer to every
question of `questions` and which of them are right.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from agent.nano.corpus import Dialogue, Turn
from agent.nano.layout import END_OF_TEXT, TURN_END, TURN_START, segments
from agent.nano.questions import FRESH, KNOWN, Question
from agent.nano.train_network import Network, Shape

LONGEST_ANSWER = 120


class Checkpoint:
    """A checkpoint that can be asked."""

    def __init__(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.network = Network(
            Shape(config["vocab_size"], layers=config["num_hidden_layers"], inner=config["intermediate_size"])
        )
        self.network.restore(load_file(folder / "model.safetensors"))
        self._ends = {self.tokenizer.token_to_id(END_OF_TEXT), self.tokenizer.token_to_id(TURN_END)}

    def continued(self, text: str) -> tuple[str, bool]:
        """What follows the text, decoded greedily, and whether it ended by itself."""
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        start = len(ids)
        with torch.no_grad():
            while len(ids) - start < LONGEST_ANSWER:
                states = self.network.hidden(torch.tensor([ids]))[0, -1]
                following = int((states @ self.network.embedding.T).argmax())
                if following in self._ends:
                    return self.tokenizer.decode(ids[start:], skip_special_tokens=True), True
                ids.append(following)
        return self.tokenizer.decode(ids[start:], skip_special_tokens=True), False

    def answer(self, dialogue: Dialogue) -> tuple[str, bool]:
        """The answer to the last turn of a dialogue."""
        text = "".join(piece for piece, _ in segments(dialogue))
        return self.continued(f"{text}{TURN_START}assistant\n")

    def judged(self, questions: Sequence[Question]) -> list[tuple[str, str, bool]]:
        """Every question with its answer, and whether that is right: it ended and holds what it must."""
        found = []
        for question, wanted in questions:
            answer, ended = self.answer(Dialogue((Turn("user", question),)))
            found.append((question, answer, ended and any(part in answer for part in wanted)))
        return found

    def sums(self, seed: int, count: int) -> dict[str, int]:
        """Of `count` random sums of each kind, how many end in the right number."""
        rng = Random(seed)
        right = dict.fromkeys(("+ up to 10", "+ up to 99", "- up to 99", "* up to 10"), 0)
        for kind in right:
            sign, top = kind[0], int(kind.split(" ")[-1])
            for _ in range(count):
                b, a = sorted((rng.randint(1, top), rng.randint(1, top)))
                answer, ended = self.answer(Dialogue((Turn("user", f"What is {a} {sign} {b}?"),)))
                worth = {"+": a + b, "-": a - b, "*": a * b}[sign]
                right[kind] += ended and answer.endswith(f"{a} {sign} {b} = {worth}.")
        return right


def main() -> None:
    """Print every question with its answer."""
    checkpoint = Checkpoint(Path(sys.argv[1]))
    for questions in (KNOWN, FRESH):
        judged = checkpoint.judged(questions)
        for question, answer, right in judged:
            sys.stdout.write(f"{'ok ' if right else 'BAD'} {question!r} -> {answer!r}\n")
        sys.stdout.write(f"{sum(right for _, _, right in judged)} of {len(judged)} right\n")


if __name__ == "__main__":
    main()
