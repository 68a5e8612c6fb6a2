"""The contracts of components in a form that can fail: for the tests of plugins, and of this package.

>>> from nmt.testing import check_cell
>>> check_cell(MyCell)
>>> check_cell(MyCell, dropout=0.2)
"""

from nmt.testing.contract import Check, ContractError
from nmt.testing.suite import (
    check_attention,
    check_cell,
    check_corpus,
    check_decoder,
    check_encoder,
    checks,
    needs_options,
)

__all__ = [
    "Check",
    "ContractError",
    "check_attention",
    "check_cell",
    "check_corpus",
    "check_decoder",
    "check_encoder",
    "checks",
    "needs_options",
]
