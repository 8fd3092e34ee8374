"""A model on disk becomes an engine: the only place that knows which form of the engine runs on which processor."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from agent.config import Config
from agent.engine.base import CacheType, Engine, Meter, Report, Runner
from agent.engine.batched import BatchedEngine
from agent.engine.batched_guesses import Guesses
from agent.engine.chat import ChatTemplate
from agent.engine.decoder import DecoderSpec
from agent.engine.defaults import SamplingDefaults
from agent.engine.draft import Draft
from agent.engine.encoder import EncoderEngine, EncoderForm
from agent.engine.encoder_spec import EncoderSpec
from agent.engine.encoder_weights import EncoderWeights
from agent.engine.gguf_folder import describe
from agent.engine.grammar import Grammars
from agent.engine.quantise import Quantisation
from agent.engine.tokenizer import Tokenizer
from agent.engine.weights import Checkpoint
from agent.engine.weights_lora import Adapter
from agent.errors import ModelError, NotFoundError, RequestError
from agent.models.checkpoint import StoredModel
from agent.models.disk import packed_folder
from agent.models.memory import CONTEXTS_HELD, LONGEST_DEFAULT, Memory, Settings, estimate
from agent.models.options import LoadOptions, choose_cache_type, choose_quantisation

log = logging.getLogger(__name__)


def _alone(name: str) -> StoredModel:
    raise NotFoundError(f"there is no model {name} beside this one")


_CAPPED = ("Gemma2ForCausalLM",)  # soft-caps its attention: see _open_runner


class Loader:
    """Opens models with the settings of ``[engine]``. ``meter`` is told how the engines fare.

    ``find`` looks up the models that others name as their draft; raises NotFoundError.
    """

    def __init__(self, config: Config, meter: Meter, find: Callable[[str], StoredModel] = _alone) -> None:
        self._config = config
        self._meter = meter
        self._find = find
        self._cache = packed_weights(config)

    def __call__(self, model: StoredModel, options: LoadOptions, report: Report) -> Engine:
        """The model, ready to answer. Takes seconds to minutes; ``report`` hears how far it is.

        Raises ModelError, NoRoomError or EngineError, and RequestError for an option that this device cannot have.
        """
        report("reading", 0.0)
        return self._text(model, options, report) if model.kind == "text" else self._encoder(model, report)

    def needed(self, model: StoredModel, options: LoadOptions) -> Memory:
        """An estimate of the memory that the model will take."""
        engine = self._config.engine
        settings = Settings(
            form="openvino" if _on_x86() and model.architecture not in _CAPPED else "onnx",
            threads=engine.threads or physical_cores(),
            slots=engine.slots,
            context_length=engine.context_length,
            cache_tokens=engine.cache_tokens,
            prefill_tokens=engine.prefill_tokens,
            quantisation=engine.quantisation,
            cache_type=engine.cache_type,
        )
        memory = estimate(model, options, settings)
        if options.draft is None:
            return memory
        draft = estimate(self._draft_of(model, options.draft), replace(options, quantisation=None), settings)
        return replace(
            memory,
            weights=memory.weights + draft.weights,
            cache=memory.cache + draft.cache,
            workspace=memory.workspace + draft.workspace,
        )

    def _text(self, model: StoredModel, options: LoadOptions, report: Report) -> Engine:
        engine = self._config.engine
        adapters = _adapters(model)
        runner, tokenizer, folder, mark = self._opened(model, options, report, adapters)
        draft = None
        with ExitStack() as unfinished:
            unfinished.callback(runner.close)
            template = ChatTemplate.load(folder, tokenizer)
            if options.draft is not None and engine.speculation:
                draft = self._draft(model, options, runner, tokenizer, report)
            unfinished.pop_all()
        return BatchedEngine(
            model.name,
            runner,
            tokenizer,
            template,
            Grammars(tokenizer),
            self._meter,
            mark,
            waiting=engine.waiting,
            prefill_tokens=engine.prefill_tokens,
            defaults=SamplingDefaults.load(folder),
            guesses=Guesses(draft) if engine.speculation else None,
            adapters=[adapter.name for adapter in adapters],
        )

    def _draft_of(self, model: StoredModel, name: str) -> StoredModel:
        try:
            draft = self._find(name)
        except NotFoundError as error:
            raise NotFoundError(error.message, hint=error.hint, param="options.draft") from error
        if draft.kind != "text" or draft.name == model.name:
            raise RequestError(
                f"{draft.name} cannot guess tokens for {model.name}",
                hint="name a smaller text model of the same vocabulary, or leave draft out",
                param="options.draft",
            )
        return draft

    def _draft(
        self, model: StoredModel, options: LoadOptions, runner: Runner, tokenizer: Tokenizer, report: Report
    ) -> Draft:
        """The draft model that ``options`` name. Raises RequestError where its tokens are others."""
        stored = self._draft_of(model, options.draft or "")
        wanted = replace(options, slots=runner.slots, context_length=runner.context_length, quantisation=None)
        smaller, words, _, _ = self._opened(stored, wanted, report)
        common = range(min(runner.vocab_size, smaller.vocab_size))
        if any(tokenizer.token_bytes(token) != words.token_bytes(token) for token in common):
            smaller.close()
            raise RequestError(
                f"{stored.name} has another vocabulary than {model.name}",
                hint="a draft model is of the same family: its tokens must be the same",
                param="options.draft",
            )
        return Draft(smaller, vocab_size=runner.vocab_size, prefill_tokens=self._config.engine.prefill_tokens)

    def _opened(
        self, model: StoredModel, options: LoadOptions, report: Report, adapters: Sequence[Adapter] = ()
    ) -> tuple[Runner, Tokenizer, Path, str]:
        """A text model's runner, its tokenizer, the folder that describes it, and its fingerprint."""
        engine = self._config.engine
        checkpoint = Checkpoint.open(model.path)
        folder = describe(model.path, packed_folder(self._cache, model))
        spec = DecoderSpec.from_config(json.loads((folder / "config.json").read_text()))
        wanted = options.context_length or engine.context_length or LONGEST_DEFAULT
        context_length = min(wanted, spec.context_length)
        quantisation = choose_quantisation(
            options.quantisation or engine.quantisation, model.parameters, model.quantisation
        )
        wanted_cache = options.cache_type or engine.cache_type
        slots = options.slots or engine.slots
        tokenizer = Tokenizer.load(folder, spec.vocab)
        runner = _open_runner(
            checkpoint,
            spec,
            quantisation,
            slots=slots,
            context_length=context_length,
            cache_tokens=engine.cache_tokens or CONTEXTS_HELD * context_length,
            threads=engine.threads or physical_cores(),
            cache=packed_folder(self._cache, model),
            cache_type=choose_cache_type(wanted_cache, quantisation) if wanted_cache != "auto" else None,
            report=report,
            adapters=adapters,
        )
        return runner, tokenizer, folder, fingerprint(checkpoint.digest, quantisation)

    def _encoder(self, model: StoredModel, report: Report) -> Engine:
        checkpoint = Checkpoint.open(model.path)
        spec = EncoderSpec.from_folder(model.path)
        weights = EncoderWeights.read(spec, checkpoint)
        threads = self._config.engine.threads or physical_cores()
        report("compiling", 0.0)
        form = _encoder_form(spec, weights, threads)
        tokenizer = Tokenizer.load(model.path, spec.vocab_size)
        mark = fingerprint(checkpoint.digest, "float")
        return EncoderEngine(model.name, spec, form, tokenizer, head=weights.head, fingerprint=mark, meter=self._meter)


def packed_weights(config: Config) -> Path:
    """The folder of packed weights, which are made again whenever they are missing."""
    return config.state_dir / "cache"


def fingerprint(digest: str, quantisation: str) -> str:
    """OpenAI's system_fingerprint: another one when weights, quantisation or the form of the engine change."""
    told = f"{digest} {quantisation} {platform.machine()}".encode()
    return "fp_" + hashlib.blake2b(told, digest_size=5).hexdigest()


def physical_cores(root: Path = Path("/sys/devices/system/cpu")) -> int:
    """The cores this process may run on. Two threads of one core would only take its caches from each other."""
    cores = set()
    for cpu in os.sched_getaffinity(0):
        try:
            cores.add((root / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text().strip())
        except OSError:  # a machine that does not say: every processor counts
            cores.add(str(cpu))
    return max(1, len(cores))


def _on_x86() -> bool:
    """OpenVINO's paged attention does not compile on arm64 cores; ONNX Runtime serves those."""
    return platform.machine() in ("x86_64", "AMD64")


def _open_runner(
    checkpoint: Checkpoint,
    spec: DecoderSpec,
    quantisation: Quantisation,
    *,
    slots: int,
    context_length: int,
    cache_tokens: int,
    threads: int,
    cache: Path,
    cache_type: CacheType | None,
    report: Report,
    adapters: Sequence[Adapter],
) -> Runner:
    if _on_x86() and not spec.attention_cap:
        from agent.engine.openvino import open_openvino as open_form
    else:
        # Gemma 2 comes here on every processor: OpenVINO's paged attention has no soft-capping.
        try:
            from agent.engine.onnx import open_onnx as open_form
        except ModuleNotFoundError as error:
            raise ModelError(
                f"this model is computed by ONNX Runtime, and {error.name} is not installed",
                hint="pip install onnxruntime onnx",
            ) from error
    return open_form(
        checkpoint,
        spec,
        quantisation,
        slots=slots,
        context_length=context_length,
        cache_tokens=cache_tokens,
        threads=threads,
        cache=cache,
        cache_type=cache_type,
        report=report,
        adapters=adapters,
    )


def _adapters(model: StoredModel) -> list[Adapter]:
    """The adapters that load with a model. One that is broken must not keep its base from loading."""
    found = []
    for stored in model.adapters:
        try:
            found.append(Adapter.open(stored.name, stored.path))
        except ModelError as error:
            log.warning("adapter %s is not loaded with %s: %s", stored.name, model.name, error.message)
    return found


def _encoder_form(spec: EncoderSpec, weights: EncoderWeights, threads: int) -> EncoderForm:
    if _on_x86():
        from agent.engine.openvino_encoder import OpenVinoEncoder

        return OpenVinoEncoder(spec, weights, threads=threads)
    from agent.engine.onnx_encoder import OnnxEncoder

    return OnnxEncoder(spec, weights, threads=threads)
