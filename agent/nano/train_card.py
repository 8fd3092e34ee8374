"""Writes the model card: what was trained, for how long, how it answers. `python -m agent.nano.train_card DIR`.

Figures come from training.json, dialogues from the weights themselves. Nothing on the card is typed by hand that the
machine can state.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent.nano.corpus import KINDS, SETTLED, Dialogue, Turn
from agent.nano.questions import FRESH, KNOWN
from agent.nano.train_answers import Checkpoint

SAMPLES: tuple[tuple[str, ...], ...] = (
    ("Hello!", "Who are you?", "Can you be wrong?"),
    ("What is a MagStack?", "And what is an epoch?"),
    ("How is the leader chosen?",),
    ("How do I load a model?", "and how do i unload it"),
    ("What is port 5381?", "How do I create a key?"),
    ("I got error 429. What does it mean?",),
    ("My name is Clara.", "What is 47 + 38?", "What is my name?"),
    ("what is 83 minus 29",),
    ("What is the capital of Japan?", "What colour is the sky?"),
    ("Say this is a test",),
    ("Tell me a joke.",),
    ("Write a poem about the moon.",),
    ("Who won the election?",),
    ("What is the capital of Italy? Answer in JSON.",),
)
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
SUMS = 100
PAGES = ("The capital of France is", "The quick brown fox", "Once upon a time")

HEAD = """---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
---

# thox-nano

A language model of {parameters:,} parameters that ships with the Thox agent, so that a device answers before any larger
model has been pulled. It knows this device, its API, a few plain facts and a little small talk. It is a demonstration:
it shows that loading, chatting, streaming, tool calls and clusters work, and is not meant to be right about more.

## Architecture

`LlamaForCausalLM`: {layers} layers, hidden size {hidden}, {heads} attention heads of 64 over {kv} key-value heads,
feed-forward {inner}, tied embeddings, rotary base 10,000. Vocabulary {vocabulary}: byte-level BPE trained on the same
corpus, each digit a token of its own, no normaliser, so every text comes back as it went in. Weights are float16.
`max_position_embeddings` is 2048, but no training document was longer than 1,024 tokens and few were longer than 300:
beyond that it wanders.

The chat template is ChatML with Hermes tool calls, laid out as Qwen2.5 lays it out. `<|im_end|>` ends an answer,
`<|endoftext|>` ends a plain text. No token is put in front of a text.

## Data

All of the text is made by the modules in `agent/nano/corpus` from a seed: patterns of questions in many wordings,
also in lower case, without punctuation and with typing slips, and their answers. No text was taken from outside the
project. About a third of the dialogues are joined into longer conversations. Kinds of document, with their share of
the documents in the first part of the training and in the last:

{shares}

## Training

`python -m agent.nano.train --out DIR` makes all of these files. This checkpoint took {done:,} steps of AdamW (peak rate
{peak}, cosine), {documents:,} conversations and pages, {tokens:,} tokens with padding, of which {learned_tokens:,}
were learned (answers and pages; questions carry no loss), in {minutes:.0f} minutes on two x86_64 cores that had other
work as well. The corpus grew in six parts, which `train.py` lists: wordings were added after reading answers. Seed
{seed}, {threads} threads, torch {torch}. The same seed, threads, library versions and kind of processor give the
same weights; another processor may round differently and end elsewhere. `training.json` holds the figures. This run was
stopped and resumed between the parts, and has not been repeated from the start.

| step | loss | loss on held-out documents |
|---|---|---|
{curve}

The held-out documents come from the makers of the first part with another seed. The harder measure are questions
worded otherwise than the corpus words them (`agent/nano/questions.py`), asked one by one and answered greedily; an
answer counts that ended and held what it had to hold. Of {fresh} questions that were set aside until the training
had ended, {fresh_right} were answered rightly; of {known} whose answers were read while the corpus was written,
{known_right}.

Random sums, put as `What is a + b?`, right of {sums_asked} each: {sums}. Their pairs may have stood in the
corpus, which draws from all of them.

## How it answers

Greedy, as the weights are; made by `python -m agent.nano.train_card`.

"""
TAIL = """
## What it cannot do

- Reason, program, translate, summarise, or know anything that is not in its corpus. Asked such things it should say
  that it does not know; often enough it gives the answer to a question that merely sounds alike, and sounds sure.
- Sums beyond two digits, products beyond the table of twelve, chains of sums.
- Follow instructions in general. A name in the system prompt, one word, JSON and repetition work often, not always, and
  only in shapes it knows. It may give a name back wrongly.
- Tool calls in earnest. For tools like those of the corpus (weather, time, addition, lights, messages, health) the
  shape is right, known cities and numbers mostly; about a third of the calls are right in every word, and the sentence
  made of a result may misquote it. Other tools it does not know.
- Languages other than English, long conversations, long prompts.

Those of the {asked} fresh questions that it gets wrong:

{wrong}

## Licence

Apache License 2.0, as the rest of the project.
"""


def dialogue(checkpoint: Checkpoint, questions: Sequence[str]) -> str:
    """One conversation as Markdown, each answer given with the turns before it in view."""
    turns: list[Turn] = []
    lines: list[str] = []
    for question in questions:
        turns.append(Turn("user", question))
        answer, ended = checkpoint.answer(Dialogue(tuple(turns)))
        turns.append(Turn("assistant", answer))
        shown = answer.replace("\n", "\n> ") + ("" if ended else " …")
        lines.append(f"> **{question}**\\\n> {shown}")
    return "\n>\n".join(lines) + "\n"


def _shares() -> str:
    """The kinds of document with their shares in the first and the last part."""
    first, last = ({name: share for name, _, share in kinds} for kinds in (KINDS, SETTLED))
    of_first, of_last = 100 / sum(first.values()), 100 / sum(last.values())
    rows = (f"| {name} | {first.get(name, 0) * of_first:.1f} | {last[name] * of_last:.1f} |" for name in last)
    return "\n".join(("| kind | first, % | last, % |", "|---|---|---|", *rows))


def card(folder: Path) -> str:
    """The whole card of the checkpoint in the folder."""
    figures: dict[str, Any] = json.loads((folder / "training.json").read_text())
    config = json.loads((folder / "config.json").read_text())
    checkpoint = Checkpoint(folder)
    known, fresh = checkpoint.judged(KNOWN), checkpoint.judged(FRESH)
    curve = figures["curve"]
    shown = [point for index, point in enumerate(curve) if index in (0, 1, 3) or index % 4 == 3 or point is curve[-1]]
    head = HEAD.format(
        **{name: value for name, value in figures.items() if name != "curve"},
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        heads=config["num_attention_heads"],
        kv=config["num_key_value_heads"],
        inner=config["intermediate_size"],
        vocabulary=config["vocab_size"],
        shares=_shares(),
        curve="\n".join(f"| {point['step']} | {point['loss']:.3f} | {point['held_out']:.3f} |" for point in shown),
        known=len(known),
        known_right=sum(right for _, _, right in known),
        fresh=len(fresh),
        sums=", ".join(f"`{kind}` {right}" for kind, right in checkpoint.sums(1, SUMS).items()),
        sums_asked=SUMS,
        fresh_right=sum(right for _, _, right in fresh),
    )
    dialogues = "\n".join(dialogue(checkpoint, questions) for questions in SAMPLES)
    pages = "\n".join(f"- **{text}**{checkpoint.continued(text)[0]}" for text in PAGES)
    asked = Turn("user", "What is the weather in Paris?")
    call = checkpoint.answer(Dialogue((asked,), (TOOL,)))[0]
    result = Turn("user", '<tool_response>\n{"temperature": 21, "condition": "sunny"}\n</tool_response>')
    after = checkpoint.answer(Dialogue((asked, Turn("assistant", call), result), (TOOL,)))[0]
    tool = f"With a tool `get_weather(city)`, **{asked.text}**\n\n```\n{call}\n```\n\nand after its result: {after}\n"
    pages_title = "Raw completions (the text in bold, then what followed):"
    wrong = "\n".join(f"- {question!r}: {answer!r}" for question, answer, right in fresh if not right) or "- none"
    return f"{head}{dialogues}\n{tool}\n{pages_title}\n\n{pages}\n{TAIL.format(wrong=wrong, asked=len(fresh))}"


def write(folder: Path) -> None:
    """README.md of the checkpoint."""
    (folder / "README.md").write_text(card(folder))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
