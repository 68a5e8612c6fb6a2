"""oneDNN's own LSTM: what stepping gives, and the same bits in any batch and on any threads."""

import pytest
import torch
from torch import Tensor

from nmt.cells import engines
from nmt.cells.layers import BothWays
from nmt.cells.lstm import LSTMCell
from nmt.cells.packed import Reading
from nmt.products import SHARED, Recurrences, in_threads, prepare_for

HERE = prepare_for("fp32", torch.device("cpu"), 1).recurrences

pytestmark = pytest.mark.skipif(HERE is None, reason="no oneDNN for this processor")

SIZES = [(256, 256), (512, 256), (96, 64), (30, 50), (33, 33), (1024, 512)]


def reading_of(cell: LSTMCell, dtype: torch.dtype = torch.float32, threads: int = 1) -> Reading:
    return cell.reading(Recurrences(dtype, threads))


def has(dtype: torch.dtype) -> bool:
    return dtype is torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported()


def some(inputs: int, size: int, rows: int, steps: int) -> tuple[LSTMCell, Tensor]:
    torch.manual_seed(1)
    return LSTMCell(inputs, size).eval(), torch.randn(rows, steps, inputs)


@pytest.mark.parametrize(("inputs", "size"), SIZES)
@pytest.mark.parametrize(("dtype", "far"), [(torch.float32, 2e-6), (torch.bfloat16, 0.02)])
@torch.inference_mode()
def test_reading_gives_what_stepping_gives(inputs: int, size: int, dtype: torch.dtype, far: float) -> None:
    if not has(dtype):
        pytest.skip(f"no {dtype} here")
    cell, xs = some(inputs, size, 3, 12)
    expected, _ = engines.loop(cell, xs, torch.full((3,), 12), cell.initial_state(3))
    found = reading_of(cell, dtype)(xs)
    assert found.dtype is torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=far)


@pytest.mark.parametrize(("inputs", "size"), SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_sentence_is_read_to_the_same_bits_in_any_batch_of_any_width(
    inputs: int, size: int, dtype: torch.dtype
) -> None:
    if not has(dtype):
        pytest.skip(f"no {dtype} here")
    cell, xs = some(inputs, size, 65, 9)
    read = reading_of(cell, dtype)
    whole = read(xs)
    for rows in (1, 2, 3, 8, 33):
        for steps in (1, 2, 9):
            assert torch.equal(read(xs[-rows:, :steps]), whole[-rows:, :steps]), (rows, steps)


@torch.inference_mode()
def test_threads_share_long_work_and_change_no_bit() -> None:
    cell, xs = some(64, 256, 80, 5)
    assert len(xs) * cell.recurrent.weight.numel() > SHARED
    with in_threads(1):
        assert torch.equal(reading_of(cell, threads=2)(xs), reading_of(cell, threads=1)(xs))
        assert torch.get_num_threads() == 1


@torch.inference_mode()
def test_a_layer_that_is_ready_reads_both_ways_and_past_no_sentence() -> None:
    torch.manual_seed(1)
    layer = BothWays(LSTMCell(6, 5), LSTMCell(6, 5), engines.loop).eval()
    lengths = torch.tensor([7, 1, 4])
    xs = torch.randn(3, 7, 6)
    expected = layer(xs, lengths)
    assert HERE is not None
    for one_way in (layer.forwards, layer.backwards):
        one_way.prepare(HERE)
    xs[1, 1:] = float("nan")  # padding
    for found, stepped in zip(layer(xs, lengths), expected, strict=True):
        torch.testing.assert_close(found, stepped, rtol=0, atol=1e-6)
