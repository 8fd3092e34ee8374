"""Chat templates come with models that strangers made: a sandbox in which one can write text, and not for long."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from datetime import datetime

import jinja2
import jinja2.exceptions
import jinja2.ext
import jinja2.filters
import jinja2.nodes
import jinja2.parser
import jinja2.runtime
import jinja2.sandbox
import jinja2.utils

MAX_SECONDS = 5.0
MAX_STEPS = 2_000_000  # turns of loops, and calls
MAX_CHARS = 4 * 1024 * 1024  # of any text made on the way, beside four times what the messages bring along
_MAX_NUMBER = 100_000  # in the place of a width or a count; as long as the sandbox's longest range
_WIDE = re.compile(r"\d{5}|\*")  # a width in a format


class Refusal(jinja2.TemplateError):
    """What a template says with ``raise_exception``: it cannot write these messages."""


class Exhausted(jinja2.TemplateError):
    """A template took longer, or wrote more, than any honest one does."""


class _Budget:
    """What one rendering may still spend."""

    def __init__(self, brought: int) -> None:
        self._chars = MAX_CHARS + 4 * brought
        self._steps = MAX_STEPS
        self._until = time.monotonic() + MAX_SECONDS

    def step(self) -> None:
        self._steps -= 1
        if self._steps < 0 or (self._steps % 256 == 0 and time.monotonic() > self._until):
            raise Exhausted("it runs too long")

    def size(self, chars: float) -> None:
        if chars > self._chars:
            raise Exhausted("it writes too much")

    def growth(self, name: str, text: object, args: Iterable[object]) -> None:
        """Refuse the call of a filter or a method that would make very much out of little."""
        args = list(args)
        numbers = [arg for arg in args if isinstance(arg, (int, float))]
        if any(number > _MAX_NUMBER for number in numbers):
            raise Exhausted(f"{name} is asked for too much")
        if not isinstance(text, str):
            return
        if name in ("format", "format_map", "%") and _WIDE.search(text):
            raise Exhausted("a format is too wide")
        if name == "replace" and len(args) > 1:
            self.size(len(text) + text.count(str(args[0])) * len(str(args[1])))
        self.size(max(numbers, default=1) * (1 + text.count("\n") + text.count("\t")))


_spent: ContextVar[_Budget] = ContextVar("what the rendering in this thread may still spend")


@jinja2.pass_context
def _each(_: jinja2.runtime.Context, items: Iterable[object]) -> Iterator[object]:
    budget = _spent.get()
    for item in items:
        budget.step()
        yield item


@jinja2.pass_context
def _concat(_: jinja2.runtime.Context, parts: list[object]) -> str:
    texts = [str(part) for part in parts]
    _spent.get().size(sum(map(len, texts)))
    return "".join(texts)


def _bounded(name: str) -> Callable[..., object]:
    """A filter of Jinja that looks at what it is asked for first. It needs the context, so it is never run early."""
    plain = jinja2.filters.FILTERS[name]

    @jinja2.pass_context
    def bounded(context: jinja2.runtime.Context, value: object, *args: object, **kwargs: object) -> object:
        if name == "join":
            value = list(value) if isinstance(value, Iterable) else []
            separator = len(str((*args, *kwargs.values())[0])) if args or kwargs else 0
            _spent.get().size(sum(len(str(part)) + separator for part in value))
        elif name == "sum" and not isinstance(kwargs.get("start", args[1] if len(args) > 1 else 0), (int, float)):
            raise Exhausted("sum is for numbers")
        else:
            _spent.get().growth(name, value, [*args, *kwargs.values()])
        first: tuple[object, ...] = ()
        if name in ("join", "replace"):
            first = (context.eval_ctx,)
        elif name in ("wordwrap", "sum"):
            first = (context.environment,)
        return plain(*first, value, *args, **kwargs)

    return bounded


class _Generation(jinja2.ext.Extension):
    """``{% generation %}`` marks what the assistant wrote, for training. Here its body is simply written."""

    tags = {"generation"}  # noqa: RUF012 - declared so by the base class

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Namespace(jinja2.utils.Namespace):
    """``namespace()`` without names that begin with an underscore."""

    def __init__(self, *args: Mapping[str, object], **kwargs: object) -> None:
        attributes: dict[str, object] = dict(*args, **kwargs)
        for name in attributes:
            _Namespace._check(name)
        super().__init__(attributes)

    def __setitem__(self, name: str, value: object) -> None:
        _Namespace._check(name)
        super().__setitem__(name, value)

    @staticmethod
    def _check(name: object) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"a namespace may not hold {name!r}")


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as transformers writes it in templates: nothing escaped for HTML, and no letter as a number."""
    if isinstance(indent, (int, str)):
        _spent.get().growth("tojson", "", [indent if isinstance(indent, int) else len(indent)])
    text = json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    _spent.get().size(len(text))
    return text


def _raise_exception(message: object) -> str:
    raise Refusal(str(message))


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


class Sandbox(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """The environment that transformers renders chat templates in, with every loop, call and text counted."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols])
        for name in ("batch", "center", "format", "indent", "join", "replace", "round", "slice", "sum", "wordwrap"):
            self.filters[name] = _bounded(name)
        # No template can spell these two names.
        self.filters |= {"tojson": _tojson, "for each": _each, "join all": _concat}
        del self.globals["lipsum"]
        self.globals |= {
            "raise_exception": _raise_exception,
            "strftime_now": _strftime_now,
            "namespace": _Namespace,
        }

    def _parse(self, source: str, name: str | None, filename: str | None) -> jinja2.nodes.Template:
        tree = super()._parse(source, name, filename)
        for loop in list(tree.find_all(jinja2.nodes.For)):
            loop.iter = jinja2.nodes.Filter(loop.iter, "for each", [], [], None, None, lineno=loop.lineno)
        for concat in list(tree.find_all(jinja2.nodes.Concat)):
            parts = jinja2.nodes.List(concat.nodes, lineno=concat.lineno)
            concat.nodes = [jinja2.nodes.Filter(parts, "join all", [], [], None, None, lineno=concat.lineno)]
        tree.set_environment(self)
        return tree

    def call(
        __self,
        __context: jinja2.runtime.Context,
        __obj: object,
        *args: object,
        **kwargs: object,
    ) -> object:
        budget = _spent.get()
        budget.step()
        method = getattr(__obj, "__wrapped__", __obj)
        owner = getattr(method, "__self__", None)
        if isinstance(owner, str):
            name = str(getattr(method, "__name__", ""))
            if name == "translate":
                raise Exhausted("translate is not for templates")
            if name == "join" and args and isinstance(args[0], Iterable):
                args = (list(args[0]),)
                budget.size(sum(len(owner) + len(str(part)) for part in args[0]))
            budget.growth(name, owner, [*args, *kwargs.values()])
        return super().call(__context, __obj, *args, **kwargs)

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: object, right: object) -> object:
        budget = _spent.get()
        if operator == "%" and isinstance(left, str):
            budget.growth("%", left, right if isinstance(right, tuple) else [right])
        elif isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() * right if operator == "**" else left.bit_length() + right.bit_length()
            if bits > 4096:
                raise Exhausted("a number is too large")
        elif operator in "+*":
            budget.size(_times(left, right) if operator == "*" else _length(left) + _length(right))
        return super().call_binop(context, operator, left, right)

    def write(self, template: jinja2.Template, variables: Mapping[str, object], brought: int) -> str:
        """Render. ``brought``: how many characters the variables hold, which a template may write more than once.

        Raises Refusal, Exhausted, and what else a template can raise: TemplateError, or any error of plain values.
        """
        budget = _Budget(brought)
        token = _spent.set(budget)
        try:
            parts: list[str] = []
            written = 0
            for part in template.generate(variables):
                written += len(part)
                budget.size(written)
                parts.append(part)
            return "".join(parts)
        finally:
            _spent.reset(token)


def _length(value: object) -> int:
    return len(value) if isinstance(value, (str, list, tuple)) else 0


def _times(left: object, right: object) -> float:
    count = next((v for v in (left, right) if isinstance(v, int)), 1)
    return max(_length(left), _length(right)) * count
