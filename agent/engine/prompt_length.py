"""How a prompt that is too long is refused, by whoever notices first."""

from __future__ import annotations

from agent.errors import RequestError


def too_long(limit: int, tokens: int | None = None) -> RequestError:
    """``limit``: tokens of prompt and answer together; ``tokens``: the prompt's, None where not all were counted."""
    counted = {} if tokens is None else {"tokens": tokens}
    return RequestError(
        f"the prompt has {f'more than {limit}' if tokens is None else tokens} tokens; "
        f"prompt and answer together may have {limit}",
        hint="shorten the prompt, or load the model with a larger context_length",
        param="prompt",
        **counted,
        limit=limit,
    )
