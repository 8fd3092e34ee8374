"""A runner passes each step through its stages in order, and refuses chunks that do not fit before any stage runs."""

from __future__ import annotations

import numpy as np
import pytest

from agent.engine.base import Batch, Chunk, Floats, Tokens
from agent.engine.pages import PageTable
from agent.engine.rows import RowTable
from agent.engine.staged import StagedRunner
from agent.errors import EngineError

VOCAB = 50


class NotingStage:
    """Adds one to what it gets, as hidden states or logits would pass; notes every batch."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.closed = False
        self.broken = False

    def run(self, inputs: Tokens | Floats, batch: Batch) -> Floats:
        if self.broken:
            raise EngineError("the stage broke")
        self.batches.append(batch)
        return (inputs + 1).astype(np.float32)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def stages() -> list[NotingStage]:
    return [NotingStage(), NotingStage(), NotingStage()]


@pytest.fixture
def runner(stages: list[NotingStage]) -> StagedRunner:
    return StagedRunner(stages, PageTable(8, 4, 3), context_length=16, vocab_size=VOCAB)


def test_a_step_goes_through_all_stages_in_order(runner: StagedRunner, stages: list[NotingStage]) -> None:
    for slot in (0, 2):
        assert runner.begin(slot, [slot, 5, 6]) == 0
        assert runner.reserve(slot, 3)
    out = runner.forward([Chunk(0, 0, [0, 5, 6]), Chunk(2, 0, [2])])
    assert out.tolist() == [3, 8, 9, 5]
    first = stages[0].batches[0]
    assert all(stage.batches == [first] for stage in stages)
    assert [len(pages) for pages in first.pages] == [1, 1]
    runner.forward([Chunk(2, 1, [5, 6])])
    runner.close()
    assert all(stage.closed for stage in stages)


def test_a_step_that_breaks_leaves_every_slot_as_it_was(runner: StagedRunner, stages: list[NotingStage]) -> None:
    runner.begin(0, [1, 2])
    runner.reserve(0, 2)
    stages[1].broken = True
    with pytest.raises(EngineError):
        runner.forward([Chunk(0, 0, [1, 2])])
    stages[1].broken = False
    runner.forward([Chunk(0, 0, [1, 2])])


def test_rows_to_copy_are_not_lost_with_a_step_that_breaks(stages: list[NotingStage]) -> None:
    runner = StagedRunner(stages, RowTable(3, 16), context_length=16, vocab_size=VOCAB)
    runner.begin(0, [1, 2, 3])
    runner.forward([Chunk(0, 0, [1, 2, 3])])
    assert runner.begin(1, [1, 2, 4]) == 2  # its beginning is to be copied from the row of slot 0
    stages[1].broken = True
    with pytest.raises(EngineError):
        runner.forward([Chunk(0, 3, [9])])
    stages[1].broken = False
    runner.forward([Chunk(1, 2, [4])])
    assert all(len(stage.batches[-1].copies) == 1 for stage in stages)
    runner.forward([Chunk(1, 3, [5])])
    assert stages[0].batches[-1].copies == ()


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        ([Chunk(0, 0, [1]), Chunk(0, 1, [2])], "more than one chunk"),
        ([Chunk(0, 0, [])], "is empty"),
        ([Chunk(0, 1, [1])], "holds 0 tokens, not 1"),
        ([Chunk(0, 0, [1] * 5)], "no room"),
        ([Chunk(1, 0, [1])], "not open"),
        ([Chunk(0, 0, [VOCAB])], "within 0 to 49"),
        ([Chunk(0, 0, [-1])], "within 0 to 49"),
    ],
)
def test_chunks_that_do_not_fit_reach_no_stage(
    chunks: list[Chunk], message: str, runner: StagedRunner, stages: list[NotingStage]
) -> None:
    runner.begin(0, [1])
    runner.reserve(0, 4)
    with pytest.raises(ValueError, match=message):
        runner.forward(chunks)
    assert not any(stage.batches for stage in stages)


def test_a_context_has_an_end(runner: StagedRunner) -> None:
    runner.begin(0, [1])
    assert runner.reserve(0, 16)
    with pytest.raises(ValueError, match="do not fit a context of 16"):
        runner.reserve(0, 17)


def test_no_chunks_give_no_rows(runner: StagedRunner) -> None:
    assert runner.forward([]).shape == (0, VOCAB)


def test_what_a_slot_held_is_reused_after_its_release(runner: StagedRunner) -> None:
    runner.begin(0, [1, 2, 3, 4, 5])
    runner.reserve(0, 5)
    runner.forward([Chunk(0, 0, [1, 2, 3, 4, 5])])
    assert runner.cache_use().used == 2
    runner.release(0)
    assert runner.cache_use().used == 0
    assert runner.begin(1, [1, 2, 3, 4, 9]) == 4
