"""What a check is, how it fails, and how tensors are compared."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from nmt.errors import UserError
from nmt.options import OptionError, check_options

S = TypeVar("S")


class ContractError(AssertionError):
    """A component that breaks its contract: what is wrong, and what to do about it."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.problem = problem
        self.remedy = remedy


@dataclass(frozen=True)
class Check:
    """One promise of a contract: its name is the promise, `run` raises ContractError where it isn't kept."""

    name: str
    run: Callable[[], None]


def named_checks(subject: S, functions: Iterable[Callable[[S], None]]) -> list[Check]:
    """A check for each function, called as the function is; an error of the component's own fails the check too."""

    def watched(function: Callable[[S], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                function(subject)
            except ContractError:
                raise
            except Exception as error:
                frame = traceback.extract_tb(error.__traceback__)[-1]
                reason = (str(error).splitlines() or [""])[0]
                raise ContractError(
                    f"{type(error).__name__}: {reason} ({frame.filename}:{frame.lineno}, in {frame.name})",
                    "make this call work",
                ) from error

        return run

    return [Check(function.__name__.replace("_", " "), watched(function)) for function in functions]


def expect(holds: bool, problem: str, remedy: str) -> None:
    """Fail the check where something doesn't hold."""
    if not holds:
        raise ContractError(problem, remedy)


def built(component: Callable[..., Any], options: Mapping[str, object], *given: object) -> Any:
    """The component as a recipe with these options builds it, from what the framework gives."""
    try:
        return component(*given, **check_options(component, options))
    except OptionError as error:
        path = ".".join(map(str, error.path))
        raise ContractError(f"the option {path} is refused: {error.problem}", error.remedy or "correct it") from error
    except UserError as error:
        raise ContractError(f"can't be built: {error.problem}", error.remedy or "correct it") from error


def apart(one: Tensor, other: Tensor) -> float:
    """How far two tensors are apart at most, beside what rounding explains; infinite where either is no number."""
    if one.shape != other.shape:
        return float("inf")
    if one.numel() == 0:
        return 0.0
    one, other = one.detach().double(), other.detach().double()
    far = (one - other).abs() - 1e-8 * other.abs() - 1e-10
    largest = float(far.max())
    return max(0.0, largest) if largest == largest else float("inf")


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal but for rounding in double precision."""
    return apart(one, other) == 0.0


def weighted_sum(tensors: Iterable[Tensor]) -> Tensor:
    """A number that depends on every element of every tensor, each with a weight of its own, so that no two mistakes
    cancel in its gradient.
    """
    total = torch.zeros((), dtype=torch.double)
    for tensor in tensors:
        weights = torch.linspace(0.5, 1.5, max(1, tensor.numel()), dtype=tensor.dtype)[: tensor.numel()]
        total = total + (tensor * weights.view_as(tensor)).sum().double()
    return total


def random(*shape: int, seed: int = 0) -> Tensor:
    """Normally distributed numbers in double precision, the same each time."""
    return torch.randn(shape, dtype=torch.double, generator=torch.Generator().manual_seed(seed))


def unchanged(before: Sequence[Tensor], after: Sequence[Tensor]) -> bool:
    """Whether tensors are bit for bit what they were."""
    return all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
