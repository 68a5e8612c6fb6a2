"""Checks that hold for components of every kind that has parameters."""

from __future__ import annotations

import copy
import inspect
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nmt.model.weights import load_weights, named_weights, save_weights
from nmt.options import schema
from nmt.testing.contract import apart, built, expect, random, same, weighted_sum

Use = Callable[[Any, torch.dtype, torch.device], dict[str, Tensor]]
"""Uses a component on fixed inputs of a type, on a device -> everything that it gave, by name."""

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Subject:
    """What is checked: a component with its options, what the framework gives it, and one use of it."""

    component: type
    options: Mapping[str, object]
    given: Callable[[], tuple[object, ...]]
    use: Use

    def make(self, seed: int = 0, *, spread: float = 0.1) -> Any:
        """The component in double precision and in evaluation, as it starts and a little beside: `spread` is the
        deviation of what is added to each parameter, so that nothing that starts at zero hides something.
        """
        torch.manual_seed(seed)
        module: nn.Module = built(self.component, self.options, *self.given())
        module.double().eval()
        with torch.no_grad():
            for index, parameter in enumerate(module.parameters()):
                parameter.add_(spread * random(*parameter.shape, seed=1000 * seed + index))
        return module

    def run(self, module: Any, dtype: torch.dtype = torch.double, device: torch.device = CPU) -> dict[str, Tensor]:
        """What the component gives for fixed inputs."""
        return self.use(module, dtype, device)


def its_options_are_named_annotated_and_described(subject: Subject) -> None:
    """`schema` raises where options are hidden; the class's docstring must have each in backquotes."""
    text = inspect.getdoc(subject.component) or ""
    expect(text != "", f"{subject.component.__name__} has no docstring", "say what it is, with its formula")
    silent = [name for name in schema(subject.component).model_fields if not re.search(rf"`{name}\b", text)]
    expect(not silent, f"the docstring says nothing of {', '.join(silent)}", "describe each option as `name`: …")


def all_it_computes_with_is_parameters_and_buffers(subject: Subject) -> None:
    """A tensor that is neither is not saved, not trained and not moved to a device."""
    module = subject.make()
    subject.run(module)
    for name, part in module.named_modules():
        for attribute, value in vars(part).items():
            if attribute in ("_parameters", "_buffers"):
                continue
            held = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else [value]
            expect(
                not any(isinstance(item, Tensor) for item in held),
                f"{'.'.join(filter(None, [name, attribute]))} is a tensor that is neither parameter nor buffer",
                "make it a Parameter or register_buffer it; what changes from step to step belongs in the state",
            )


def it_gives_the_same_each_time(subject: Subject) -> None:
    """In evaluation nothing is random and nothing is remembered."""
    module = subject.make()
    first = subject.run(module)
    for name, again in subject.run(module).items():
        expect(
            same(first[name], again),
            f"{name} differs when the same is computed twice in evaluation",
            "keep nothing on the module from call to call, and draw nothing random unless self.training",
        )


def saving_and_loading_gives_the_same(subject: Subject) -> None:
    """Through a file, as checkpoints do."""
    module, other = subject.make(1), subject.make(2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        save_weights(named_weights(module), path)
        load_weights(named_weights(other), path)
    _expect_alike(subject, module, other, "after loading the saved parameters", "keep all it learns in parameters")


def a_deep_copy_gives_the_same_and_shares_nothing(subject: Subject) -> None:
    """Averages of weights and tests copy models."""
    module = subject.make()
    subject.run(module)
    twin = copy.deepcopy(module)
    _expect_alike(subject, module, twin, "in a deep copy", "hold nothing that can't be copied")
    before = subject.run(module)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    for name, tensor in subject.run(module).items():
        expect(same(before[name], tensor), f"a deep copy shares {name} with its original", "share no tensors")


def it_runs_in_float32_and_bfloat16(subject: Subject) -> None:
    """Outputs are of the type of the parameters, and float32 is near double precision."""
    exact = subject.run(subject.make())
    for dtype in (torch.float32, torch.bfloat16):
        for name, tensor in subject.run(subject.make().to(dtype), dtype).items():
            if not tensor.is_floating_point():
                continue
            expect(
                tensor.dtype == dtype,
                f"{name} is {tensor.dtype} where parameters and inputs are {dtype}",
                "make no tensors of a fixed type: use new_zeros, zeros_like or the type of a parameter",
            )
            expect(bool(tensor.isfinite().all()), f"{name} isn't finite in {dtype}", "avoid what overflows")
            near = dtype is torch.bfloat16 or torch.allclose(tensor.double(), exact[name], rtol=1e-3, atol=1e-4)
            expect(near, f"{name} in float32 is far from double precision", "use a stable form of the formula")


def it_runs_under_autocast(subject: Subject) -> None:
    """Training in bf16 keeps parameters in float32 and multiplies in bfloat16."""
    module = subject.make().float().train()
    with torch.autocast("cpu", torch.bfloat16):
        outputs = subject.run(module, torch.float32)
    for name, tensor in outputs.items():
        expect(bool(tensor.isfinite().all()), f"{name} isn't finite under autocast", "avoid what overflows in bfloat16")


def gradients_reach_every_parameter(subject: Subject) -> None:
    """What gets none is never trained."""
    module = subject.make().train()
    outputs = [tensor for tensor in subject.run(module).values() if tensor.requires_grad]
    if outputs:
        weighted_sum(outputs).backward()
    for name, parameter in module.named_parameters():
        expect(
            not parameter.requires_grad or (parameter.grad is not None and bool(parameter.grad.any())),
            f"no gradient reaches the parameter {name}",
            "use it, don't detach what it makes, or remove it",
        )


def it_moves_between_devices(subject: Subject) -> None:
    """Checked where there is a second device."""
    if not torch.cuda.is_available():
        return
    module = subject.make().float()
    before = subject.run(module, torch.float32)
    for name, tensor in subject.run(module.cuda(), torch.float32, torch.device("cuda")).items():
        far = apart(before[name], tensor.cpu())
        expect(far < 1e-3, f"{name} differs on cuda by {far:.1e}", "make new tensors on the parameters' device")


def parameters_of(module: nn.Module) -> dict[str, Tensor]:
    """A module's parameters that are trained, named as a message names them."""
    trained = [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]
    return {f"the parameter {name}": parameter for name, parameter in trained}


def gradients_are_right(inputs: Mapping[str, Tensor], outputs: Callable[[], Tensor]) -> None:
    """Against finite differences along random directions (a fast gradcheck): all inputs together, then, to name the
    wrong one, each by itself. `outputs` reads the inputs where they are, and is called anew for each difference.
    """
    gradients = dict(zip(inputs, torch.autograd.grad(outputs(), list(inputs.values()), allow_unused=True), strict=True))
    slope, measured = _slopes(inputs, gradients, outputs)
    if _agree(slope, measured):
        return
    for name, tensor in inputs.items():
        slope, measured = _slopes({name: tensor}, gradients, outputs)
        expect(
            _agree(slope, measured),
            f"the gradient of {name} is not that of the outputs: {slope:.6g} where differences give {measured:.6g}",
            "let autograd make it, or correct the backward that was written by hand",
        )


def _agree(slope: float, measured: float) -> bool:
    return abs(measured - slope) <= 1e-5 * max(1.0, abs(measured))


def _slopes(
    inputs: Mapping[str, Tensor], gradients: Mapping[str, Tensor | None], outputs: Callable[[], Tensor]
) -> tuple[float, float]:
    """The slope along a random direction: by the gradients, and by finite differences."""
    step = 1e-6
    directions = {name: random(*tensor.shape, seed=70 + index) for index, (name, tensor) in enumerate(inputs.items())}
    slope = 0.0
    for name, direction in directions.items():
        gradient = gradients[name]
        slope += 0.0 if gradient is None else float((gradient * direction).sum())

    def moved(by: float) -> float:
        with torch.no_grad():
            for name, tensor in inputs.items():
                tensor.add_(by * step * directions[name])
            return float(outputs())

    ahead, behind = moved(1.0), moved(-2.0)
    moved(1.0)
    return slope, (ahead - behind) / (2 * step)


def _expect_alike(subject: Subject, one: Any, other: Any, when: str, remedy: str) -> None:
    theirs = subject.run(other)
    for name, tensor in subject.run(one).items():
        expect(same(tensor, theirs[name]), f"{name} differs {when}", remedy)


MODULE_CHECKS: tuple[Callable[[Subject], None], ...] = (
    all_it_computes_with_is_parameters_and_buffers,
    it_gives_the_same_each_time,
    saving_and_loading_gives_the_same,
    a_deep_copy_gives_the_same_and_shares_nothing,
    it_runs_in_float32_and_bfloat16,
    it_runs_under_autocast,
    gradients_reach_every_parameter,
    it_moves_between_devices,
)
