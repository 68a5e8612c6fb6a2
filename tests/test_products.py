"""Products by prepared weights: right, equal to the last bit for any rows and threads, or refused."""

import weakref

import pytest
import torch
from torch import Tensor, nn

from nmt.errors import UserError
from nmt.products import Prepare, PreparedLinear, Recurrences, frozen, plain, prepare_for

CPU = torch.device("cpu")
ONEDNN = "fp32 by oneDNN"
"""As where nmt's own products are missing."""
SIZES = [(200, 64), (96, 100), (37, 50), (1, 3), (512, 1280), (256, 4096)]
ERRORS = {"fp32": 1e-6, ONEDNN: 1e-6, "bf16": 1e-2, "int8": 2e-2}
"""Of each result, relative to the greatest."""
LONG, LONG_ERROR = 1024, 2e-6
"""In fp32, of sums of more products than these."""


def prepared(precision: str, threads: int = 1) -> Prepare:
    with pytest.MonkeyPatch.context() as patch:
        if precision == ONEDNN:
            patch.setenv("NMT_NATIVE", "0")
        try:
            return prepare_for("fp32" if precision == ONEDNN else precision, CPU, threads).product
        except UserError as error:
            pytest.skip(str(error))


def weights(outputs: int, inputs: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(outputs, inputs), torch.randn(outputs), torch.randn(70, inputs)


@pytest.mark.parametrize("precision", ERRORS)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_prepared_weights_are_given_no_gradients_where_they_are_wanted(precision: str, device: str) -> None:
    weight, bias, xs = weights(96, 100)
    if device == "meta" and precision != "fp32":
        pytest.skip("that is for processors")
    how = prepared(precision) if device == "cpu" else prepare_for("fp32", torch.device(device), 1).product
    assert not how(nn.Parameter(weight), nn.Parameter(bias))(xs).requires_grad


@pytest.mark.parametrize("precision", ERRORS)
@pytest.mark.parametrize(("outputs", "inputs"), SIZES)
def test_a_prepared_product_is_the_product(precision: str, outputs: int, inputs: int) -> None:
    weight, bias, xs = weights(outputs, inputs)
    for given in (bias, None):
        product = prepared(precision)(weight, given)
        expected = plain(weight.double(), None if given is None else given.double())(xs.double())
        found = product(xs)
        assert found.dtype is torch.float32
        bound = LONG_ERROR if precision in ("fp32", ONEDNN) and inputs > LONG else ERRORS[precision]
        assert (found - expected).abs().max() <= bound * expected.abs().max()
        assert torch.equal(product(xs.view(7, 10, inputs)), found.view(7, 10, outputs))


@pytest.mark.parametrize("precision", ERRORS)
def test_a_weight_that_nobody_else_needs_is_let_go(precision: str) -> None:
    weight, bias, xs = weights(96, 100)
    left = weakref.ref(weight)
    product = prepared(precision)(weight, bias)
    del weight
    assert left() is None
    product(xs)


@pytest.mark.parametrize("precision", ERRORS)
@pytest.mark.parametrize(("outputs", "inputs"), SIZES)
def test_a_row_is_the_same_to_the_last_bit_among_any_others(precision: str, outputs: int, inputs: int) -> None:
    weight, bias, xs = weights(outputs, inputs)
    product = prepared(precision)(weight, bias)
    together = product(xs)
    for count in (1, 2, 3, 5, 8, 13, 40):
        for first in (0, 17, 70 - count):
            assert torch.equal(product(xs[first : first + count].clone()), together[first : first + count])


@pytest.mark.parametrize("precision", ERRORS)
def test_threads_change_no_bit_of_a_large_product(precision: str) -> None:
    torch.manual_seed(1)
    weight, xs = torch.randn(2000, 512), torch.randn(40, 512)
    alone = prepared(precision, 1)(weight, None)(xs)
    try:
        for threads in (2, 3):
            assert torch.equal(prepared(precision, threads)(weight, None)(xs), alone)
            assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("precision", ERRORS)
def test_rows_of_zeros_give_the_bias_and_nan_stays_nan(precision: str) -> None:
    weight, bias, xs = weights(40, 30)
    product = prepared(precision)(weight, bias)
    assert product(torch.zeros(2, 30)).allclose(bias, atol=1e-2)
    xs[1, 3] = float("nan")
    found = product(xs[:3])
    assert found[1].isnan().all()
    assert found[[0, 2]].isfinite().all()


def test_on_this_processor_weights_are_really_laid_out_anew_where_onednn_is_there() -> None:
    there = torch.backends.mkldnn.is_available()
    assert (prepare_for("fp32", CPU, 1).product is frozen) == (not there)


def test_what_reads_the_weights_of_a_prepared_layer_finds_them() -> None:
    linear = nn.Linear(4, 6)
    layer = PreparedLinear(linear, prepared("fp32"))
    assert layer.weight is linear.weight
    assert layer.bias is linear.bias
    assert (layer.in_features, layer.out_features) == (4, 6)


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_low_precision_is_refused_where_the_processor_has_none(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    with pytest.raises(UserError, match=f"precision {precision}: this processor has no .* instructions; use fp32"):
        prepare_for(precision, CPU, 1)
    with pytest.raises(UserError, match="is for processors, not for meta; use fp32"):
        prepare_for(precision, torch.device("meta"), 1)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")
@pytest.mark.parametrize("precision", ["fp32", *(["int8"] if torch.cpu._is_vnni_supported() else [])])
@pytest.mark.parametrize("has_bf16", [True, False])
@pytest.mark.parametrize("has_avx2", [True, False])
def test_recurrences_multiply_in_bf16_for_lower_precisions_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, precision: str, has_bf16: bool, has_avx2: bool
) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: has_bf16)
    monkeypatch.setattr(torch.cpu, "_is_avx2_supported", lambda: has_avx2)
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16 if has_bf16 else None
    expected = Recurrences(dtype, 3) if dtype and has_avx2 else None
    assert prepare_for(precision, CPU, 3).recurrences == expected
