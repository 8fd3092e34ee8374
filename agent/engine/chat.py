"""A conversation to a prompt, by the template of the model; and what to expect of the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2
import jinja2.exceptions

from agent.engine import reasoning, tool_formats
from agent.engine.base import Chat, Grammar
from agent.engine.chat_messages import marked, plain_json, plain_messages, size, without_system
from agent.engine.chat_sandbox import Exhausted, Refusal, Sandbox
from agent.engine.output import OutputParser
from agent.engine.prompt_length import too_long
from agent.engine.tokenizer import Tokenizer
from agent.engine.tokenizer_files import read_json
from agent.errors import ModelError, RequestError

# For a model that comes without a template: a base model, most often, which goes on with a written dialogue.
FALLBACK = (
    "{{ bos_token }}{% for message in messages %}{{ message.role | capitalize }}: {{ message.content | trim }}\n\n"
    "{% endfor %}Assistant:"
)

# What a template is given by us; an option of the same name would replace it.
_RESERVED = frozenset({"messages", "tools", "documents", "add_generation_prompt"})

# What plain values can raise in a template, beside Jinja's own errors.
_FAULTS = (jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
_TAIL = 32  # tokens of a prompt's end in which an opened reasoning span shows


class ChatTemplate:
    """The chat template of one model. Safe to call from many threads."""

    def __init__(self, tokenizer: Tokenizer, template: str, tool_template: str | None = None) -> None:
        """``tool_template`` is for conversations with tools, where a model has one apart."""
        self._tokenizer = tokenizer
        sandbox = Sandbox()
        self._sandbox = sandbox
        self._plain = _compiled(sandbox, template)
        self._with_tools = self._plain if tool_template is None else _compiled(sandbox, tool_template)
        whole = template + (tool_template or "")
        self.tools = tool_formats.recognise(whole)
        self._teaches_tools = "tools" in whole
        # A model whose template is silent may still have the token; one that has neither does not think aloud.
        self.reasoning = reasoning.recognise(whole) or next(
            (form for form in reasoning.FORMATS if tokenizer.added_id(form.close) is not None), None
        )
        self._nine_letters = any(
            test in whole for test in ("!= 9", "< 9")
        )  # Mistral's templates refuse other ids of calls

        self._no_system = "System role not supported" in whole  # Gemma's first templates refuse it by these words

    @classmethod
    def load(cls, folder: Path, tokenizer: Tokenizer) -> ChatTemplate:
        """The template of a model's folder: chat_template.jinja, or in tokenizer_config.json; else a plain dialogue.

        Raises ModelError for a template that cannot be compiled.
        """
        default, tools = _sources(folder)
        return cls(tokenizer, FALLBACK if default is None else default, tools)

    def encode(self, chat: Chat, most: int | None = None) -> list[int]:
        """The prompt as ids. The text of special tokens within messages stays text.

        Raises RequestError when the model cannot take the conversation, or sees early that it has far more than
        ``most`` tokens; ModelError when its template misbehaves.
        """
        messages = plain_messages(chat.messages, nine_letters=self._nine_letters)
        if self._no_system:
            messages = without_system(messages)
        tools = [] if chat.tool_choice == "none" else [plain_json(tool, "tools") for tool in chat.tools]
        tool_formats.tool_names(chat.tools)
        if tools and not self._teaches_tools:
            raise RequestError(
                "this model was not trained to call tools", param="tools", hint="leave out tools, or take another model"
            )
        options = {key: plain_json(value, "chat_template_kwargs") for key, value in chat.template_options.items()}
        if not _RESERVED.isdisjoint(options):
            raise RequestError(f"{min(_RESERVED & set(options))} is no option", param="chat_template_kwargs")
        variables = {"messages": messages, "tools": tools or None, "documents": None, **options}
        safe, marks = marked(variables, self._tokenizer.control_pattern, self._tokenizer.control_beginnings)
        text = self._render(self._with_tools if tools else self._plain, safe)
        if most is not None and self._tokenizer.outgrows(text, most):
            raise too_long(most)
        if marks is None:
            return self._tokenizer.encode_rendered(text)
        return self._tokenizer.encode_marked(text, *marks)

    def grammar(self, chat: Chat) -> Grammar | None:
        """What the answer must match when it must call a tool; None when it need not.

        Raises RequestError when the tools are not there, or the model has no known way to call them.
        """
        if tool_formats.allowed(chat) is None:
            return None
        if self.tools is None:
            raise RequestError("this model has no known way to call tools", param="tool_choice")
        return tool_formats.call_grammar(chat, self.tools, self._tokenizer.added_id)

    def parser(self, chat: Chat, prompt: Sequence[int] | None = None, *, constrained: bool = False) -> OutputParser:
        """What takes the answer apart.

        ``prompt`` is what ``encode`` gave: it may end within a reasoning span. Without it, it is written once more.
        ``constrained``: the request has a grammar of its own, so the answer is content and nothing else.
        """
        if constrained:
            return OutputParser()
        forced = tool_formats.allowed(chat) is not None
        tools = self.tools if chat.tools and chat.tool_choice != "none" else None
        return OutputParser(
            tools,
            tool_formats.tool_names(chat.tools),
            parallel=chat.parallel_tool_calls,
            reasoning=None if forced else self.reasoning,
            opened=not forced and self.reasoning is not None and self._opens(chat, prompt, self.reasoning),
        )

    def _opens(self, chat: Chat, prompt: Sequence[int] | None, form: reasoning.ReasoningFormat) -> bool:
        """Whether the prompt ends with the mark that opens a span, and white space at most."""
        tail = (self.encode(chat) if prompt is None else prompt)[-_TAIL:]
        return self._tokenizer.decode(tail).rstrip().endswith(form.open)

    def _render(self, template: jinja2.Template, variables: Mapping[str, object]) -> str:
        try:
            return self._sandbox.write(
                template, {**self._tokenizer.named_tokens, "add_generation_prompt": True, **variables}, size(variables)
            )
        except Refusal as error:
            raise RequestError(
                f"the model's chat template refuses these messages: {error}", param="messages"
            ) from error
        except (Exhausted, jinja2.exceptions.SecurityError, RecursionError, MemoryError) as error:
            raise ModelError(f"the model's chat template does what no template should: {error}") from error
        except _FAULTS as error:
            raise RequestError(
                f"the model's chat template cannot write these messages: {error}", param="messages"
            ) from error


def _compiled(sandbox: Sandbox, source: str) -> jinja2.Template:
    try:
        return sandbox.from_string(source)
    except (jinja2.TemplateError, RecursionError, MemoryError, OverflowError, SyntaxError) as error:
        raise ModelError(
            f"the model's chat template is broken: {error}",
            hint="a chat_template.jinja beside its weights takes the place of it",
        ) from error


def _sources(folder: Path) -> tuple[str | None, str | None]:
    """The default template, and the one for tools where there is one apart."""
    named: dict[str, str] = {}
    listed = read_json(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(listed, str):
        named["default"] = listed
    elif isinstance(listed, list):
        for entry in listed:
            if isinstance(entry, dict) and isinstance(entry.get("template"), str):
                named[str(entry.get("name"))] = entry["template"]
    files = {"default": folder / "chat_template.jinja", "tool_use": folder / "additional_chat_templates/tool_use.jinja"}
    for name, path in files.items():
        try:
            named[name] = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise ModelError(f"{path.name} cannot be read: {error}") from error
    return named.get("default"), named.get("tool_use")
