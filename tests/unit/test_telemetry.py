"""Telemetry: what /metrics shows after engines and requests have reported."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.parser import text_string_to_metric_families

from agent.engine.base import EngineStatus, Meter, Usage
from agent.telemetry import Telemetry


def _samples(telemetry: Telemetry) -> dict[tuple[str, tuple[str, ...]], float]:
    body, content_type = telemetry.render()
    assert content_type.startswith("text/plain")
    return {
        (sample.name, tuple(sorted(sample.labels.values()))): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def test_tokens_steps_and_requests_are_counted_by_model_and_route() -> None:
    telemetry = Telemetry()
    meter: Meter = telemetry
    meter.step("nano", 0.010, 0.008, 5, 1)
    meter.step("nano", 0.010, 0.008, 0, 2)
    meter.first_token("nano", 0.05)
    meter.finished("nano", "stop", Usage(prompt=5, completion=3, cached=2))
    telemetry.request("inference", "POST", "/v1/chat/completions", 200, 0.2)
    samples = _samples(telemetry)
    assert samples["thox_step_seconds_count", ("nano",)] == 2
    assert samples["thox_forward_seconds_total", ("nano",)] == 0.016
    assert samples["thox_computed_tokens_total", ("decode", "nano")] == 3
    assert samples["thox_prompt_tokens_total", ("nano",)] == 5
    assert samples["thox_cached_tokens_total", ("nano",)] == 2
    assert samples["thox_completion_tokens_total", ("nano",)] == 3
    assert samples["thox_answers_total", ("nano", "stop")] == 1
    assert samples["thox_first_token_seconds_count", ("nano",)] == 1
    assert samples["thox_requests_total", ("/v1/chat/completions", "200", "POST", "inference")] == 1
    assert samples["thox_process_resident_memory_bytes", ()] > 1_000_000
    assert not [name for name, _ in samples if name.endswith("_created")]


def test_methods_that_a_client_invents_are_one_series() -> None:
    telemetry = Telemetry()
    for method in ("GET", "FOO1", "FOO2"):
        telemetry.request("inference", method, "(none)", 404, 0.001)
    samples = _samples(telemetry)
    assert samples["thox_requests_total", ("(none)", "404", "GET", "inference")] == 1
    assert samples["thox_requests_total", ("(none)", "(other)", "404", "inference")] == 2


def test_gauges_are_read_when_they_are_asked_for() -> None:
    telemetry = Telemetry()
    waiting = [0]

    def statuses() -> Iterator[EngineStatus]:
        yield EngineStatus("nano", "text", 2048, slots=16, running=2, waiting=waiting[0], pages=64, pages_used=9)

    telemetry.watch(statuses)
    telemetry.step("nano", 0.010, 0.008, 0, 1)
    assert _samples(telemetry)["thox_queue", ("nano",)] == 0
    waiting[0] = 7
    samples = _samples(telemetry)
    assert samples["thox_queue", ("nano",)] == 7
    assert samples["thox_slots", ("nano",)] == 16
    assert samples["thox_slots_used", ("nano",)] == 2
    assert samples["thox_cache_pages", ("nano",)] == 64
    assert samples["thox_cache_pages_used", ("nano",)] == 9
    assert round(samples["thox_step_overhead_ratio", ("nano",)], 6) == 0.2
