"""The checks of each kind of component, and the functions that run them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nmt.errors import UserError
from nmt.options import schema
from nmt.registry import ATTENTION, CELL, CORPUS, DECODER, ENCODER, Kind
from nmt.testing.attentions import attention_checks
from nmt.testing.cells import STEP_CHECKS, cell_subject
from nmt.testing.components import MODULE_CHECKS, its_options_are_named_annotated_and_described
from nmt.testing.contract import Check, ContractError, named_checks
from nmt.testing.corpora import corpus_checks
from nmt.testing.decoders import decoder_checks
from nmt.testing.encoders import encoder_checks
from nmt.testing.readiness import READY_CHECKS
from nmt.testing.unrolling import UNROLL_CHECKS


def cell_checks(component: type, options: Mapping[str, object]) -> list[Check]:
    """Every promise of a cell, the plainest first."""
    its_options = its_options_are_named_annotated_and_described
    functions = (its_options, *STEP_CHECKS, *UNROLL_CHECKS, *READY_CHECKS, *MODULE_CHECKS)
    return named_checks(cell_subject(component, options), functions)


_CHECKS: dict[Kind, Callable[[type, Mapping[str, object]], list[Check]]] = {
    CELL: cell_checks,
    ATTENTION: attention_checks,
    ENCODER: encoder_checks,
    DECODER: decoder_checks,
    CORPUS: corpus_checks,
}


def checks(kind: Kind, component: type, options: Mapping[str, object] | None = None) -> list[Check]:
    """The promises of a component with these options, to be run one after the other: later ones rely on earlier."""
    return _CHECKS[kind](component, options or {})


def needs_options(kind: Kind, component: type) -> str:
    """Why a component can't be checked without options that only its author or a user can give; empty where it can."""
    required = [name for name, info in schema(component).model_fields.items() if info.is_required()]
    if required:
        return f"needs {', '.join(required)}"
    if kind is CORPUS:
        try:
            component()
        except UserError as error:
            return error.problem
    return ""


def check_cell(component: type, **options: object) -> None:
    """Check a cell with these options against its contract, in double precision and tiny sizes.

    Raises ContractError (an AssertionError) for the first promise that it doesn't keep.
    """
    _run(CELL, component, options)


def check_attention(component: type, **options: object) -> None:
    """As `check_cell`, for an attention."""
    _run(ATTENTION, component, options)


def check_encoder(component: type, **options: object) -> None:
    """As `check_cell`, for an encoder."""
    _run(ENCODER, component, options)


def check_decoder(component: type, **options: object) -> None:
    """As `check_cell`, for a decoder."""
    _run(DECODER, component, options)


def check_corpus(component: type, **options: object) -> None:
    """As `check_cell`, for a corpus: its first thousand pairs."""
    _run(CORPUS, component, options)


def _run(kind: Kind, component: type, options: Mapping[str, object]) -> None:
    for check in checks(kind, component, options):
        try:
            check.run()
        except ContractError as error:
            raise ContractError(f"{component.__name__}: {check.name}: {error.problem}", error.remedy) from error
