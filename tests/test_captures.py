"""Captures by torch.cuda, where there is none: what is asked of it, in which order, and what is left when it fails."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from nmt.cells.captures import CudaCapture

GIVEN = [torch.ones(2)]


class Graph:
    """A CUDA graph that only counts."""

    def __init__(self) -> None:
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1

    def pool(self) -> object:
        return ("of", id(self))


class Cuda:
    """What is used of torch.cuda; the stream that is current is told, and a capture may fail at its end."""

    def __init__(self) -> None:
        self.current: object = Stream()
        self.captures: list[tuple[object, object, str]] = []
        self.made: list[object] = []
        self.fails = -1

    def stream_made(self) -> object:
        self.made.append(Stream())
        return self.made[-1]

    @contextmanager
    def stream(self, stream: object) -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def graph(self, graph: Graph, pool: object, stream: object, mode: str) -> Iterator[None]:
        before, self.current = self.current, stream
        self.captures.append((pool, stream, mode))
        yield
        if len(self.captures) == self.fails:
            raise RuntimeError("operation not permitted when stream is capturing")  # and the stream is left as it is
        self.current = before

    @contextmanager
    def device(self, device: torch.device) -> Iterator[None]:
        yield


class Stream:
    """Something to wait for."""

    def wait_stream(self, other: object) -> None:
        pass


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    fake = Cuda()
    for name, made in {
        "Stream": fake.stream_made,
        "stream": fake.stream,
        "graph": fake.graph,
        "device": fake.device,
        "CUDAGraph": Graph,
        "current_stream": lambda: fake.current,
        "synchronize": lambda: None,
        "graph_pool_handle": lambda: ("shared", id(fake)),
    }.items():
        monkeypatch.setattr(torch.cuda, name, made)
    return fake


def doubled(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return (2 * tensors[0],)


def test_one_stream_is_for_all_captures_and_memory_is_shared_where_no_gradients_are(cuda: Cuda) -> None:
    before, capture = cuda.current, CudaCapture()
    with torch.no_grad():
        for _ in range(2):
            capture(doubled, GIVEN, [])
    weight = torch.ones(2, requires_grad=True)
    for _ in range(2):
        capture(lambda tensors: (weight * tensors[0],), GIVEN, [weight])
    pools, streams, modes = zip(*cuda.captures, strict=True)
    assert set(streams) == set(cuda.made) and len(cuda.made) == 1
    assert set(modes) == {"thread_local"}
    assert pools[0] == pools[1] == ("shared", id(cuda))
    assert pools[2] is None and pools[4] is None  # forward
    assert len({pools[0], pools[3], pools[5]}) == 3  # backward: each with its forward
    assert cuda.current is before


def test_models_have_streams_of_their_own(cuda: Cuda) -> None:
    with torch.no_grad():
        for _ in range(2):
            CudaCapture()(doubled, GIVEN, [])
    assert len(cuda.made) == 2


@pytest.mark.parametrize("fails", [1, 2])
def test_a_capture_that_fails_leaves_the_stream_as_it_was_and_no_graph_behind_that_could_be_freed(
    cuda: Cuda, fails: int
) -> None:
    before, cuda.fails, capture = cuda.current, fails, CudaCapture()
    weight = torch.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="not permitted"):
        capture(lambda tensors: (weight * tensors[0],), GIVEN, [weight])
    assert cuda.current is before
    assert len(capture._graphs) == 2
    with torch.no_grad():
        captured = capture(doubled, GIVEN, [])  # and the next can be made
    captured.forward(GIVEN)
    assert [graph.replays for graph in capture._graphs] == [0, 0, 1, 0]


def test_what_is_captured_is_fed_with_what_is_given(cuda: Cuda) -> None:
    seen: list[Tensor] = []

    def steps(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        seen[:] = tensors
        return (tensors[0] + 0,)

    with torch.no_grad():
        captured = CudaCapture()(steps, GIVEN, [])
    captured.forward([torch.tensor([5.0, 7.0])])
    assert seen[0].tolist() == [5.0, 7.0]
    assert GIVEN[0].tolist() == [1.0, 1.0]
