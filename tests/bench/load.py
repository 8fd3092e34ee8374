"""A client that measures: the same requests, over HTTP, to whichever server listens."""

from __future__ import annotations

import json
import re
import threading
import time
from dataclasses import dataclass, field

import httpx
import numpy as np

_STEP_TIMES = ("step_seconds_sum", "forward_seconds_total")
SPOKEN = 10  # token ids below this are special in the checkpoint


@dataclass
class Stream:
    """When each token of one streamed answer arrived, in seconds of ``time.perf_counter``."""

    sent: float = 0.0
    arrivals: list[float] = field(default_factory=list)


class Load:
    """Requests made of random token ids, so that nothing is in a prompt cache and no tokenizer is measured."""

    def __init__(self, url: str, key: str, model: str, vocabulary: int, seed: int) -> None:
        self._client = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=600,
            trust_env=False,
            limits=httpx.Limits(max_keepalive_connections=0),  # llama-server may close one just as it is used again
        )
        self._model = model
        self._vocabulary = vocabulary
        self._random = np.random.default_rng(seed)

    def close(self) -> None:
        self._client.close()

    def prompt(self, tokens: int) -> list[int]:
        return [int(token) for token in self._random.integers(SPOKEN, self._vocabulary, tokens)]

    def prefill(self, tokens: int) -> float:
        """Prompt tokens a second, the answer being one token."""
        stream = self._stream(self.prompt(tokens), 1)
        return tokens / (stream.arrivals[0] - stream.sent)

    def first_token(self, prompt_tokens: int) -> float:
        """Seconds from the request to the first token of its answer."""
        stream = self._stream(self.prompt(prompt_tokens), 1)
        return stream.arrivals[0] - stream.sent

    def step_seconds(self) -> tuple[float, float]:
        """Seconds of all steps so far, and of these inside the forward pass; zeros from a server that does not tell."""
        text = self._client.get("/metrics").text
        found = (re.search(rf"^thox_{name}{{[^}}]*}} (\S+)$", text, re.M) for name in _STEP_TIMES)
        step, forward = (float(match[1]) if match else 0.0 for match in found)
        return step, forward

    def decode(self, streams: int, prompt_tokens: int, new_tokens: int) -> float:
        """New tokens a second over all streams, counted while every one of them was being written."""
        prompts = [self.prompt(prompt_tokens) for _ in range(streams)]
        results: list[Stream] = []
        threads = [
            threading.Thread(target=lambda prompt=prompt: results.append(self._stream(prompt, new_tokens)))
            for prompt in prompts
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if len(results) != streams:
            raise RuntimeError("a stream failed")
        begin = max(stream.arrivals[0] for stream in results)
        end = min(stream.arrivals[-1] for stream in results)
        # A piece of text may be more than one token (half characters are held back), so pieces are scaled to tokens.
        counted = sum(
            sum(begin < at <= end for at in stream.arrivals) * new_tokens / len(stream.arrivals) for stream in results
        )
        return counted / (end - begin)

    def _stream(self, prompt: list[int], new_tokens: int) -> Stream:
        body = {
            "model": self._model,
            "prompt": prompt,
            "max_tokens": new_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
        }
        stream = Stream(sent=time.perf_counter())
        with self._client.stream("POST", "/v1/completions", json=body) as response:
            if response.status_code != 200:
                raise RuntimeError(f"{response.status_code}: {response.read().decode()[:300]}")
            for line in response.iter_lines():
                if not line.startswith("data: ") or line == "data: [DONE]":
                    continue
                event = json.loads(line.removeprefix("data: "))
                if "error" in event:
                    raise RuntimeError(str(event["error"]))
                if event.get("choices"):
                    stream.arrivals.append(time.perf_counter())
        return stream
