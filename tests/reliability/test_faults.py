"""Faults in training: NaN, Inf, too little memory and loss spikes are met without losing what was learnt."""

import json
import math
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_training import files_of, records
from torch import Tensor

from nmt import checkpoints
from nmt.attention.general import GeneralAttention
from nmt.attention.memory import Memory
from nmt.device import deterministic, is_out_of_memory
from nmt.errors import RunError
from nmt.model.weights import named_weights
from nmt.recipe import Recipe
from nmt.recipe_file import write_recipe
from nmt.registry import ATTENTION, CORPUS, register
from nmt.text.batches import Batch, BatchPlan
from nmt.text.store import TokenStore, build_store
from nmt.text.tokenizer import Tokenizers, make_tokenizers
from nmt.training.course import Course
from nmt.training.faults import MAX_ROLLBACKS
from nmt.training.run import build, train
from nmt.training.stopping import StoppedError
from nmt.training.updater import Updater
from nmt.translator import Translator

Make = Callable[..., Recipe]
Amount = Callable[[int, int], int]
Promise = Callable[[str, str], None]
Change = Callable[[Tensor], Tensor]

FAULTY = "model.decoder.attention=faulty"
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here: this promise is not tested")


def sound(contexts: Tensor) -> Tensor:
    return contexts


class Trouble:
    """What the attention below does to the batches of training: by number from 1, or by size."""

    def __init__(self) -> None:
        self.batches = 0
        self.at: dict[int, Change] = {}
        self.memory = math.inf
        self.backward = False

    def meet(self, contexts: Tensor) -> Tensor:
        self.batches += 1
        if contexts.shape[0] * contexts.shape[1] > self.memory:
            contexts = no_memory_backward(contexts) if self.backward else no_memory(contexts)
        return self.at.get(self.batches, sound)(contexts)


TROUBLE = Trouble()


@register(ATTENTION, "faulty")
class FaultyAttention(GeneralAttention):
    """General attention, and the trouble that a test asks for."""

    def forward(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        contexts, weights = super().forward(query, memory)
        return (TROUBLE.meet(contexts) if self.training else contexts), weights


@pytest.fixture(autouse=True)
def trouble() -> Iterator[Trouble]:
    TROUBLE.__init__()
    yield TROUBLE
    TROUBLE.__init__()


def nan(contexts: Tensor) -> Tensor:
    return contexts * math.nan


def infinite_gradient(contexts: Tensor) -> Tensor:
    contexts.register_hook(lambda gradient: gradient * math.inf)
    return contexts


def no_memory(contexts: Tensor) -> Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def no_memory_backward(contexts: Tensor) -> Tensor:
    def fail(gradient: Tensor) -> Tensor:
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried"
        )

    contexts.register_hook(fail)
    return contexts


def unless_alone(change: Change) -> Change:
    return lambda contexts: change(contexts) if len(contexts) > 1 else contexts


def stop_and(change: Change) -> Change:
    def stop(contexts: Tensor) -> Tensor:
        os.kill(os.getpid(), signal.SIGTERM)
        return change(contexts)

    return stop


def corpus_of(folder: Path, pairs: list[tuple[str, str]]) -> str:
    folder.mkdir(exist_ok=True)
    for name, side in zip(("source", "target"), zip(*pairs, strict=True), strict=True):
        (folder / name).write_text("".join(f"{line}\n" for line in side))
    return f"{{corpus: files, source: {folder / 'source'}, target: {folder / 'target'}}}"


def counting(draw: random.Random, pairs: int) -> list[tuple[str, str]]:
    """Targets that count on from a digit up to 3 and again from 0, three steps in ten somewhere else.

    Quick to learn, but never to the end: a loss with a floor, as that of translation has one.
    """
    sides = []
    for _ in range(pairs):
        target, length = [draw.randrange(4)], 6 + draw.randrange(4)
        while len(target) < length:
            target.append((target[-1] + 1) % 4 if draw.random() < 0.7 else draw.randrange(4))
        sides.append((str(target[0]), " ".join(map(str, target))))
    return sides


@pytest.fixture
def counting_recipe(tmp_path: Path, small_recipe: Make) -> Make:
    train_set = corpus_of(tmp_path / "train", counting(random.Random(1), 6000))
    valid_set = corpus_of(tmp_path / "valid", counting(random.Random(2), 200))
    data = (f"data.train={train_set}", f"data.valid={valid_set}", "data.test=null", FAULTY)
    sizes = ("model.embedding_size=16", "model.decoder.hidden_size=16", "train.batch_tokens=400")
    return lambda *overrides: small_recipe(*data, *sizes, *overrides)


def store_of(recipe: Recipe) -> tuple[TokenStore, Tokenizers]:
    corpus = recipe.data.train.build(CORPUS)
    tokenizers = make_tokenizers(corpus, recipe.tokenizer)
    return build_store(corpus, tokenizers, max_length=128, keep_text=False, say=print), tokenizers


def lines_of_updates(recipe: Recipe, updates: int) -> list[list[int]]:
    """The lines of each update's batch, from 1 on; nothing stands at 0."""
    plan = BatchPlan(*store_of(recipe), tokens=recipe.train.batch_tokens, sentences=None, seed=recipe.seed)
    lines: list[list[int]] = [[]]
    for epoch in range(1, updates):
        lines += [sorted(batch.lines.tolist()) for batch in plan.batches(epoch)]
        if len(lines) > updates:
            break
    return lines


def test_twenty_faults_are_never_applied_are_named_by_their_lines_and_cost_less_than_a_hundredth_of_the_loss(
    tmp_path: Path, counting_recipe: Make, trouble: Trouble, amount: Amount, promise: Promise
) -> None:
    length = amount(400, 1600)
    settings = (f"train.updates={length}", "train.validate_every=50", "train.schedule={type: cosine, warmup: 20}")
    recipe = counting_recipe(*settings, "train.validate_decoded=0", "train.optimizer.learning_rate=0.01")
    train(recipe, out=tmp_path / "clean")
    clean = records(tmp_path / "clean", "validation")
    lines = lines_of_updates(recipe, length)
    worst = 0.0
    for number in range(amount(1, 10)):
        draw = random.Random(number)
        first = draw.randrange(60, length - 60)
        apart = [n for n in range(2, length, 2) if abs(n - first) > 4]
        chosen = sorted([first, first + 1, first + 2, *draw.sample(apart, 17)])
        trouble.__init__()
        trouble.at = {n: draw.choice([nan, infinite_gradient]) for n in chosen}
        run = tmp_path / f"faulty-{number}"
        train(recipe, out=run)
        faults = {record["update"]: record["lines"] for record in records(run, "fault")}
        assert faults == {n: lines[n] for n in chosen}
        back = [(record["update"], record["to"]) for record in records(run, "rollback")]
        assert back == [(first + 2, 50 * ((first + 1) // 50))]
        assert all(
            tensor.isfinite().all() for tensor in load_file(checkpoints.best(run) / "model.safetensors").values()
        )
        worst = max(worst, abs(records(run, "validation")[-1]["loss"] / clean[-1]["loss"] - 1))
    assert clean[-1]["loss"] < 0.4 * math.log(4), "it has learnt: each of the four digits costs less than by chance"
    assert worst < 0.01
    promise(
        "20 updates with NaN or Inf, one roll-back: final loss against the clean run's", f"{worst:.2%} away at most"
    )


def one_update(recipe: Recipe, trouble: Trouble) -> tuple[Updater, list[Batch]]:
    store, tokenizers = store_of(recipe)
    plan = BatchPlan(store, tokenizers, tokens=None, sentences=20, seed=1)
    return Updater(build(recipe, tokenizers), recipe.train, torch.device("cpu"), None), list(plan.batches(1))


@pytest.mark.parametrize("change", [nan, infinite_gradient])
@pytest.mark.parametrize("optimizer", ["adam", "sgd", "adadelta"])
def test_a_fault_leaves_weights_moments_and_average_as_they_were(
    small_recipe: Make, trouble: Trouble, change: Change, optimizer: str
) -> None:
    settings = ("train.ema=0.9", f"train.optimizer={{type: {optimizer}, learning_rate: 0.01}}")
    updater, batches = one_update(small_recipe(FAULTY, *settings), trouble)

    def learnt() -> list[Tensor]:
        moments = [value for state in updater.optimizer.state.values() for value in state.values()]
        tensors = [*named_weights(updater.model).values(), *updater.average.values(), *moments]
        return [tensor.detach().clone() for tensor in tensors if isinstance(tensor, Tensor)]

    assert updater.update(batches[:1], 1, 0.01, 1).applied
    before = learnt()
    trouble.at = {3: change}
    applied = updater.update(batches[1:3], 2, 0.01, 2)
    assert (applied.applied, applied.fault) == (False, True)
    assert all(map(torch.equal, learnt(), before))
    assert updater.update(batches[1:3], 3, 0.01, 3).applied
    assert not all(map(torch.equal, learnt(), before))


def test_of_accumulated_batches_the_one_with_the_nan_is_named(
    tmp_path: Path, small_recipe: Make, trouble: Trouble
) -> None:
    recipe = small_recipe(FAULTY, "train.accumulate=3", "train.updates=2")
    trouble.at = {2: nan}
    train(recipe, out=tmp_path)
    assert records(tmp_path, "fault")[0]["lines"] == lines_of_updates(recipe, 3)[2]


def test_three_faults_in_a_row_bring_back_all_that_was_learnt_by_the_last_validation(
    tmp_path: Path, small_recipe: Make, trouble: Trouble, capsys: pytest.CaptureFixture
) -> None:
    trouble.at = dict.fromkeys((9, 10, 11), nan)
    train(small_recipe(FAULTY, "train.updates=11", "train.keep_last=2", "train.ema=0.9"), out=tmp_path)
    before, after = (tmp_path / checkpoints.name_of(update) for update in (8, 11))
    for file in ("model.safetensors", "training.safetensors"):
        assert (before / file).read_bytes() == (after / file).read_bytes()
    course = json.loads((after / "state.json").read_text())["course"]
    assert (course["update"], course["faults"], course["rollbacks"]) == (11, 0, 1)
    assert (
        "back to the weights of update 8, and on with the data behind these (1 of at most 5" in capsys.readouterr().err
    )


def test_without_a_checkpoint_training_goes_back_to_its_first_weights(
    tmp_path: Path, small_recipe: Make, trouble: Trouble
) -> None:
    trouble.at = dict.fromkeys((3, 4, 5), infinite_gradient)
    recipe = small_recipe(FAULTY, "train.updates=5", "train.validate_every=50", "train.ema=0.9")
    train(recipe, out=tmp_path)
    start = named_weights(build(recipe, Tokenizers.load(tmp_path)))
    written = load_file(tmp_path / checkpoints.name_of(5) / "model.safetensors")
    assert all(torch.equal(written[name], tensor) for name, tensor in start.items())
    assert not any(
        "optimizer" in name for name in load_file(tmp_path / checkpoints.name_of(5) / "training.safetensors")
    )
    assert records(tmp_path, "rollback") == [{"event": "rollback", "update": 5, "to": 0, "rollbacks": 1}]


def test_going_back_to_a_checkpoint_without_moments_forgets_the_moments(
    tmp_path: Path, small_recipe: Make, trouble: Trouble
) -> None:
    trouble.at = dict.fromkeys((1, 2, 3, 4, 6, 7, 8), nan)  # only the fifth update is applied
    train(small_recipe(FAULTY, "train.updates=8", "train.keep_last=2"), out=tmp_path)
    assert [record["to"] for record in records(tmp_path, "rollback")] == [0, 4]
    written = [(tmp_path / checkpoints.name_of(update) / "training.safetensors").read_bytes() for update in (4, 8)]
    assert written[0] == written[1]


def test_a_damaged_checkpoint_is_passed_over_in_going_back(
    tmp_path: Path, small_recipe: Make, trouble: Trouble, capsys: pytest.CaptureFixture
) -> None:
    def damage(contexts: Tensor) -> Tensor:
        os.truncate(tmp_path / checkpoints.name_of(8) / "model.safetensors", 100)
        return nan(contexts)

    trouble.at = {9: nan, 10: nan, 11: damage}
    train(small_recipe(FAULTY, "train.updates=12"), out=tmp_path)
    assert "update-00000008: model.safetensors is damaged; going further back" in capsys.readouterr().err
    assert records(tmp_path, "rollback")[0]["to"] < 8


def test_faults_without_end_end_the_run_in_a_line_and_leave_a_model(
    tmp_path: Path, small_recipe: Make, trouble: Trouble
) -> None:
    trouble.at = dict.fromkeys(range(6, 1000), nan)
    recipe = small_recipe(FAULTY, "train.updates=1000", "train.validate_every=5")
    with pytest.raises(RunError, match="3 updates in a row had no finite loss or gradient, and going back 5") as caught:
        train(recipe, out=tmp_path)
    assert caught.value.exit_code == 1
    assert len(records(tmp_path, "rollback")) == MAX_ROLLBACKS
    assert len(records(tmp_path, "fault")) == 3 * (MAX_ROLLBACKS + 1)
    assert isinstance(Translator.load(tmp_path).translate(["1 2"])[0], str)


def test_going_back_prefers_the_newest_validated_then_the_best_and_never_what_has_no_finite_loss() -> None:
    course = Course()
    assert course.good() == []
    for update, cost in ((10, 3.0), (20, 2.0), (30, 2.5)):
        course.update = update
        course.validated(cost, keep=1)
    assert course.good() == [30, 20]
    course.rollbacks = 1
    assert course.good() == [20]
    course.update, course.rollbacks = 40, 0
    course.validated(math.inf, keep=1)
    assert course.good() == [20]
    course.update, course.rollbacks = 50, 3
    course.validated(1.0, keep=1)
    assert (course.good(), course.rollbacks) == ([50], 0)


def test_a_run_stopped_anywhere_around_a_rollback_ends_with_the_same_bytes(
    tmp_path: Path, small_recipe: Make, trouble: Trouble, amount: Amount, promise: Promise
) -> None:
    settings = ("model.encoder.dropout=0.2", "model.decoder.dropout=0.2", "train.ema=0.9", "train.spike=1.05")
    recipe = small_recipe(FAULTY, *settings, "train.schedule={type: plateau, patience: 0}", "train.updates=16")
    faults: dict[int, Change] = {9: nan, 10: infinite_gradient, 11: nan}
    trouble.at = faults
    train(recipe, out=tmp_path / "whole")
    assert records(tmp_path / "whole", "rollback")[0]["to"] == 8
    stops = {10, 11, *random.Random(1).sample(range(1, 16), amount(1, 15))}
    for update in stops:
        run = tmp_path / f"stopped-{update}"
        trouble.batches = 0
        trouble.at = {**faults, update: stop_and(faults.get(update, sound))}
        with pytest.raises(StoppedError):
            train(recipe, out=run)
        assert checkpoints.update_of(checkpoints.newest(run, print)) == update
        trouble.batches, trouble.at = update, faults
        train(recipe, out=run)
        assert files_of(run) == files_of(tmp_path / "whole")
        for event in ("fault", "rollback", "spike"):
            assert records(run, event) == records(tmp_path / "whole", event)
    promise("stops around a roll-back after which the run ended with the same bytes", f"{len(stops)} of {len(stops)}")


def test_a_spike_is_logged_with_its_lines_and_applied(
    tmp_path: Path, small_recipe: Make, capsys: pytest.CaptureFixture
) -> None:
    draw = random.Random(1)
    pairs = [("1 2 3", "4 " * (2 + n % 3) + "4") for n in range(312)]
    strange = sorted(draw.sample(range(312), 8))
    for n in strange:  # the longest, so that they make a batch of their own
        pairs[n] = ("1 2 3", " ".join(str(draw.randrange(10)) for _ in range(12)))
    data = f"data.train={corpus_of(tmp_path / 'data', pairs)}"
    settings = ("train.batch_sentences=8", "train.updates=156", "train.validate_every=156", "train.report_every=156")
    recipe = small_recipe(data, *settings, "train.optimizer.learning_rate=0.02", "train.spike=3.0")
    train(recipe, out=tmp_path / "run")
    spikes = records(tmp_path / "run", "spike")
    assert spikes[-1]["lines"] == [n + 1 for n in strange]
    assert all(record["loss"] > 3.0 * record["usual_loss"] for record in spikes)
    assert re.search(r"update \d+: the loss is [\d.]+, [\d.]+ times the usual", capsys.readouterr().err)
    train(small_recipe(data, *settings, "train.optimizer.learning_rate=0.02"), out=tmp_path / "without")
    assert not records(tmp_path / "without", "spike")
    assert files_of(tmp_path / "run") == files_of(tmp_path / "without")


def test_a_split_batch_holds_the_same_pairs_without_more_padding_than_they_need(small_recipe: Make) -> None:
    store, tokenizers = store_of(small_recipe())
    for whole in BatchPlan(store, tokenizers, tokens=None, sentences=7, seed=1).batches(1):
        halves = whole.split()
        assert [line for half in halves for line in half.lines] == list(whole.lines)
        assert abs(len(halves[0].lines) - len(halves[1].lines)) <= 1
        rows = [row for half in halves for row in zip(half.target, half.target_lengths, strict=True)]
        for (row, length), before in zip(rows, whole.target, strict=True):
            assert torch.equal(row[:length], before[:length])
        for half in halves:
            assert half.source.shape == (len(half.lines), half.source_lengths.max())
            assert half.target.shape == (len(half.lines), half.target_lengths.max())


def gradients(updater: Updater) -> Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in updater.model.parameters()])


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_the_gradient_of_split_batches_is_that_of_whole_ones(
    small_recipe: Make, trouble: Trouble, accumulate: int, smoothing: float, backward: bool
) -> None:
    settings = (f"train.label_smoothing={smoothing}", "train.clip_norm=null", "model.decoder.hidden_size=24")
    updater, batches = one_update(small_recipe(FAULTY, *settings), trouble)
    start = {name: tensor.detach().clone() for name, tensor in named_weights(updater.model).items()}
    whole = updater.update(batches[:accumulate], 1, 0.01, 1)
    expected = gradients(updater)
    updater.begin_again(start)
    trouble.memory, trouble.backward = 3.5 * max(batch.target.shape[1] for batch in batches[:accumulate]), backward
    split = updater.update(batches[:accumulate], 1, 0.01, 1)
    assert (gradients(updater) - expected).norm() < 1e-6 * expected.norm()
    assert split.negative_log_likelihood == pytest.approx(whole.negative_log_likelihood, rel=1e-6)
    assert (split.tokens, split.dropped) == (whole.tokens, ())
    assert len(split.split) >= 3 * accumulate
    assert all(part.batch.target[:, 1:].numel() <= trouble.memory for part in split.parts)
    trained = sorted(line for part in split.parts for line in part.batch.lines)
    assert trained == sorted(line for batch in batches[:accumulate] for line in batch.lines)


def test_memory_that_is_short_at_random_places_costs_no_sentence(
    tmp_path: Path, small_recipe: Make, trouble: Trouble, amount: Amount, promise: Promise
) -> None:
    recipe = small_recipe(FAULTY, f"train.updates={amount(24, 200)}", "train.validate_every=12", "train.accumulate=2")
    train(recipe, out=tmp_path / "clean")
    draw = random.Random(1)
    trouble.__init__()
    places = [8 * n + draw.randrange(1, 5) for n in range(amount(6, 40))]  # an update is tried again in between
    trouble.at = {n: unless_alone(draw.choice([no_memory, no_memory_backward])) for n in places}
    train(recipe, out=tmp_path / "short")
    clean, short = (json.loads(files_of(tmp_path / run)["state.json"])["course"] for run in ("clean", "short"))
    assert len({record["update"] for record in records(tmp_path / "short", "split")}) >= 4
    assert short["tokens"] == clean["tokens"]
    assert not records(tmp_path / "short", "fault")
    losses = [records(tmp_path / run, "validation")[-1]["loss"] for run in ("clean", "short")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    promise(
        f"memory short in {len(places)} batches: loss against the clean run's",
        f"{abs(losses[1] / losses[0] - 1):.0e} away",
    )


def test_a_pair_that_does_not_fit_alone_is_left_out_named_and_counted(
    tmp_path: Path, trouble: Trouble, small_recipe: Make, capsys: pytest.CaptureFixture
) -> None:
    pairs = [("1 2 3", "1 2 3")] * 40
    pairs[16] = ("1 2 3", " ".join("3" * 30))
    data = f"data.train={corpus_of(tmp_path / 'data', pairs)}"
    trouble.memory = 31
    recipe = small_recipe(data, FAULTY, "train.batch_sentences=8", "train.updates=10", "train.validate_every=5")
    train(recipe, out=tmp_path / "run")
    course = json.loads(files_of(tmp_path / "run")["state.json"])["course"]
    assert [record["lines"] for record in records(tmp_path / "run", "dropped")] == [[17], [17]]
    assert course["dropped"] == 2
    clean = small_recipe(data, FAULTY, "train.batch_sentences=8", "train.updates=10", "train.validate_every=5")
    trouble.memory = math.inf
    train(clean, out=tmp_path / "clean")
    long = 2 * len(Tokenizers.load(tmp_path / "run").target.encode([pairs[16][1]])[0]) + 2
    assert json.loads(files_of(tmp_path / "clean")["state.json"])["course"]["tokens"] == course["tokens"] + long
    errors = capsys.readouterr().err
    assert errors.count("memory is not enough for the training pair of line 17 alone; it was left out") == 2
    sizes = [
        tuple(record[key] for key in ("sentences", "target_tokens")) for record in records(tmp_path / "run", "split")
    ]
    assert len(sizes) == len(set(sizes)) == errors.count("it was split (told once for a size)")


def test_an_update_of_nothing_but_pairs_that_do_not_fit_moves_nothing(small_recipe: Make, trouble: Trouble) -> None:
    updater, batches = one_update(small_recipe(FAULTY), trouble)
    trouble.memory = 0
    before = [parameter.detach().clone() for parameter in updater.model.parameters()]
    applied = updater.update(batches[:1], 1, 0.01, 1)
    assert sorted(applied.dropped) == sorted(batches[0].lines)
    assert (applied.tokens, applied.applied, applied.fault) == (0, False, False)
    assert all(map(torch.equal, updater.model.parameters(), before))


def test_memory_that_is_enough_for_nothing_ends_the_run_in_a_line(
    tmp_path: Path, small_recipe: Make, trouble: Trouble
) -> None:
    trouble.memory = 0
    with pytest.raises(RunError, match=r"memory is not enough for any of the [0-9]+ training pairs of update 1; use a"):
        train(small_recipe(FAULTY), out=tmp_path)


def test_an_error_that_is_none_of_memory_is_not_taken_for_one(small_recipe: Make, trouble: Trouble) -> None:
    def fail(contexts: Tensor) -> Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    updater, batches = one_update(small_recipe(FAULTY), trouble)
    trouble.at = {1: fail}
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        updater.update(batches[:1], 1, 0.01, 1)


def test_a_processor_without_memory_is_known_by_its_own_error() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert is_out_of_memory(caught.value)


REAL = """
import resource, sys
from pathlib import Path
from nmt.training.run import train
train("recipe.yaml", ["train.batch_tokens=300"], out="before")  # so that all that is ever imported is
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
limit = size + 2**20 * int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
train("recipe.yaml", out="run")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of address space is Linux's")
def test_a_process_that_really_runs_out_of_memory_trains_on_every_sentence(tmp_path: Path, small_recipe: Make) -> None:
    pairs = [("1 2 3", "1 2 3 " * 10)] * 160 + [("1 2", "2 1")] * 20  # all of them in one batch
    data = f"data.train={corpus_of(tmp_path / 'data', pairs)}"
    sizes = ("model.decoder.hidden_size=128", "model.embedding_size=64", "train.batch_tokens=12000")
    limits = ("train.updates=1", "train.threads=1", "train.validate_decoded=0")
    (tmp_path / "recipe.yaml").write_text(write_recipe(small_recipe(data, *sizes, *limits)))
    command = [sys.executable, "-c", REAL, "70"]
    one_arena = {**os.environ, "MALLOC_ARENA_MAX": "1"}  # another takes 64 MiB of addresses, whenever threads meet
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, env=one_arena)
    assert done.returncode == 0, done.stderr[-2000:]
    assert records(tmp_path / "run", "split")
    tokenizer = Tokenizers.load(tmp_path / "run").target
    course = json.loads(files_of(tmp_path / "run")["state.json"])["course"]
    assert course["tokens"] == sum(len(ids) + 1 for ids in tokenizer.encode([target for _, target in pairs]))


def test_deterministic_training_asks_torch_for_it_and_gives_its_settings_back(
    tmp_path: Path, small_recipe: Make, trouble: Trouble
) -> None:
    asked: list[bool] = []

    def ask(contexts: Tensor) -> Tensor:
        asked.append(torch.are_deterministic_algorithms_enabled() and torch.backends.cudnn.deterministic)
        return contexts

    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic
    for wanted in (True, False):
        trouble.at, trouble.batches = {1: ask}, 0
        settings = (f"train.deterministic={str(wanted).lower()}", "train.updates=4")
        train(small_recipe(FAULTY, *settings), out=tmp_path / str(wanted))
    assert asked == [True, False]
    assert before == (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic)
    written = [files_of(tmp_path / str(wanted))["training.safetensors"] for wanted in (True, False)]
    assert written[0] == written[1]  # on a CPU nothing changes


def test_what_has_no_deterministic_form_is_told_in_a_line(tmp_path: Path, small_recipe: Make, trouble: Trouble) -> None:
    def undetermined(contexts: Tensor) -> Tensor:
        contexts.detach().clone().put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))
        return contexts

    trouble.at = {2: undetermined}
    with pytest.raises(RunError, match=r"not everything can be computed deterministically.*; leave out train.determ"):
        train(small_recipe(FAULTY, "train.deterministic=true", "train.device=cpu"), out=tmp_path)
    with deterministic(False):
        assert not torch.are_deterministic_algorithms_enabled()


def test_a_scale_that_is_too_large_for_fp16_is_no_fault_but_nan_is(small_recipe: Make, trouble: Trouble) -> None:
    store, tokenizers = store_of(recipe := small_recipe(FAULTY, "model.engine=loop"))  # not every kernel has fp16
    batches = list(BatchPlan(store, tokenizers, tokens=None, sentences=20, seed=1).batches(1))
    updater = Updater(build(recipe, tokenizers), recipe.train, torch.device("cpu"), torch.float16)
    trouble.at = {2: infinite_gradient, 3: nan}
    outcomes = [updater.update(batches[:1], number, 0.01, number) for number in range(1, 5)]
    assert [applied.applied for applied in outcomes] == [True, False, False, True]
    assert [applied.fault for applied in outcomes] == [False, False, True, False]


@CUDA
def test_on_cuda_a_deterministic_run_that_was_stopped_ends_with_the_same_bytes(
    tmp_path: Path, small_recipe: Make
) -> None:
    settings = ("train.device=cuda", "train.deterministic=true", "model.encoder.dropout=0.2", "train.ema=0.9")
    train(small_recipe(*settings), out=tmp_path / "whole")
    train(small_recipe(*settings, "train.updates=8"), out=tmp_path / "parts")
    train(small_recipe(*settings), out=tmp_path / "parts", accept=["train.updates"])
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "whole")


@CUDA
def test_on_cuda_a_batch_that_really_does_not_fit_is_split(small_recipe: Make, trouble: Trouble) -> None:
    store, tokenizers = store_of(recipe := small_recipe("train.clip_norm=null"))
    batches = list(BatchPlan(store, tokenizers, tokens=None, sentences=300, seed=1).batches(1))
    updater = Updater(build(recipe, tokenizers).cuda(), recipe.train, torch.device("cuda"), None)
    updater.update(batches[:1], 1, 0.0, 1)
    expected = gradients(updater)
    used, total = torch.cuda.memory_allocated(), torch.cuda.get_device_properties(0).total_memory
    torch.cuda.reset_peak_memory_stats()
    updater.update(batches[:1], 2, 0.0, 1)
    most = torch.cuda.max_memory_allocated()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((used + 0.6 * (most - used)) / total)
    try:
        split = updater.update(batches[:1], 3, 0.0, 1)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert split.split
    assert (gradients(updater) - expected).norm() < 1e-6 * expected.norm()
