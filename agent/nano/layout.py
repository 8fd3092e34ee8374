"""How a dialogue becomes text: the chat template, and the same layout in Python for training.

The template is what every client of the checkpoint sees; `segments` is what the weights saw. They must never differ, so
they stand side by side and a test renders both and compares. The layout is ChatML with Hermes tool calls, word for word
as Qwen2.5 writes it, because that is what serving software already knows how to parse.
"""

import json

from agent.nano.corpus.document import Dialogue, Document, Page

END_OF_TEXT = "<|endoftext|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
SPECIAL_TOKENS = (END_OF_TEXT, TURN_START, TURN_END)
TOOL_TOKENS = ("<tool_call>", "</tool_call>")

DEFAULT_WITH_TOOLS = "You are thox-nano, a small demonstration model."
TOOLS_BEFORE = (
    "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
)
TOOLS_AFTER = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    '<tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n'
    "</tool_call>"
)


def _quoted(text: str) -> str:
    """A Jinja string literal of the text."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"


CHAT_TEMPLATE = (
    """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- """
    + _quoted(DEFAULT_WITH_TOOLS)
    + """ }}
    {%- endif %}
    {{- """
    + _quoted(TOOLS_BEFORE)
    + """ }}
    {%- for tool in tools %}
        {{- '\\n' }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- """
    + _quoted(TOOLS_AFTER)
    + """ }}
    {{- '<|im_end|>\\n' }}
{%- elif messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == 'user') or (message.role == 'system' and not loop.first) or \
(message.role == 'assistant' and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == 'assistant' %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\\n<tool_call>\\n{"name": "' }}
            {{- tool_call.name }}
            {{- '", "arguments": ' }}
            {%- if tool_call.arguments is string %}
                {{- tool_call.arguments }}
            {%- else %}
                {{- tool_call.arguments | tojson }}
            {%- endif %}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != 'tool') %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- message.content }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != 'tool') %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
)


def segments(document: Document) -> list[tuple[str, bool]]:
    """The document as pieces of text, each with whether the model is to learn to write it."""
    if isinstance(document, Page):
        return [(document.text + END_OF_TEXT, True)]
    pieces: list[tuple[str, bool]] = []
    system = _system(document)
    if system:
        pieces.append((f"{TURN_START}system\n{system}{TURN_END}\n", False))
    for turn in document.turns:
        if turn.role == "system":
            continue
        if turn.role == "assistant":
            pieces.append((f"{TURN_START}assistant\n", False))
            pieces.append((turn.text + TURN_END, True))
            pieces.append(("\n", False))
        else:
            pieces.append((f"{TURN_START}{turn.role}\n{turn.text}{TURN_END}\n", False))
    return pieces


def _system(dialogue: Dialogue) -> str:
    """The text of the system block, empty where there is none: the dialogue's own words, then its tools."""
    first = dialogue.turns[0]
    text = first.text if first.role == "system" else ""
    if not dialogue.tools:
        return text
    listed = "".join("\n" + json.dumps(tool, ensure_ascii=False) for tool in dialogue.tools)
    return (text or DEFAULT_WITH_TOOLS) + TOOLS_BEFORE + listed + TOOLS_AFTER
