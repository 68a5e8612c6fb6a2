"""Training: that it learns, goes on where it stopped, and survives what happens to it."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nmt import checkpoints
from nmt.commands.train import main
from nmt.device import LARGE, autocast_type
from nmt.errors import RunError, UserError
from nmt.recipe import Recipe
from nmt.recipe_file import read_recipe, write_recipe
from nmt.text.tokenizer import Tokenizers
from nmt.training.averaging import average
from nmt.training.check import check
from nmt.training.course import Course
from nmt.training.run import build, prepared_device, train
from nmt.training.updater import Updater
from nmt.translator import Translator

Make = Callable[..., Recipe]
EVERYTHING = [
    "model.encoder.dropout=0.2",
    "model.decoder.dropout=0.2",
    "model.decoder.embedding_dropout=0.2",
    "train.ema=0.9",
    "train.accumulate=2",
    "train.teacher_forcing={type: linear, start: 0.9, slope: 0.01}",
    "train.schedule={type: plateau, patience: 0}",
    "train.keep_best=2",
]


def files_of(run: Path) -> dict[str, bytes]:
    """The newest checkpoint's files."""
    return {path.name: path.read_bytes() for path in checkpoints.newest(run, print).iterdir()}


def records(run: Path, event: str) -> list[dict]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def test_the_copy_recipe_learns_to_copy(copier: Path) -> None:
    translator = Translator.load(copier)
    sentences = ["3 1 4 1 5", "2 7 1 8", "0 0 0 0 0 0"]
    assert translator.translate(sentences) == sentences
    assert records(copier, "validation")[-1]["bleu"] > 99


@pytest.mark.parametrize("cell", ["lstm", "gru", "elman"])
def test_a_resumed_run_ends_with_the_same_bytes_as_an_uninterrupted_one(
    tmp_path: Path, small_recipe: Make, cell: str
) -> None:
    overrides = [*EVERYTHING, f"model.encoder.cell={cell}", f"model.decoder.cell={cell}"]
    train(small_recipe(*overrides), out=tmp_path / "whole")
    train(small_recipe(*overrides, "train.updates=8"), out=tmp_path / "parts")
    torch.rand(5)
    train(small_recipe(*overrides), out=tmp_path / "parts", accept=["train.updates"])
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "whole")
    for each in (records(tmp_path / "parts", "validation"), records(tmp_path / "whole", "validation")):
        assert [record["update"] for record in each] == [4, 8, 12]


def test_subword_sampling_resumes_too(tmp_path: Path, small_recipe: Make) -> None:
    overrides = ["tokenizer={model_type: unigram, vocab_size: 40, byte_fallback: false, sampling: {alpha: 0.3}}"]
    train(small_recipe(*overrides), out=tmp_path / "whole")
    train(small_recipe(*overrides, "train.updates=4"), out=tmp_path / "parts")
    train(small_recipe(*overrides), out=tmp_path / "parts", accept=["train.updates"])
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "whole")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_the_same_command_goes_on(
    tmp_path: Path, small_recipe: Make, number: signal.Signals, code: int
) -> None:
    # The number of threads decides in which order a processor adds, so it must be the same for the same bytes.
    settings = ("train.report_every=1", "train.threads=1")
    (tmp_path / "recipe.yaml").write_text(write_recipe(small_recipe("train.updates=4000", *settings)))
    command = [sys.executable, "-c", "import sys; from nmt.commands.train import main; sys.exit(main())"]
    command += ["recipe.yaml", "--out", "run"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(3):
        process.stdout.readline()
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert "saved; the same command goes on from here" in errors
    assert "Traceback" not in errors
    stopped = checkpoints.update_of(checkpoints.newest(tmp_path / "run", print))
    assert 0 < stopped < 4000
    end = 4 * (stopped // 4) + 8
    train(small_recipe(f"train.updates={end}", *settings), out=tmp_path / "run", accept=["train.updates"])
    train(small_recipe(f"train.updates={end}", *settings), out=tmp_path / "whole")
    assert files_of(tmp_path / "run") == files_of(tmp_path / "whole")


def test_a_finished_run_is_left_alone(tmp_path: Path, small_recipe: Make, capsys: pytest.CaptureFixture) -> None:
    train(small_recipe(), out=tmp_path)
    before = files_of(tmp_path)
    train(small_recipe(), out=tmp_path)
    assert "nothing to do" in capsys.readouterr().err
    assert files_of(tmp_path) == before


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(
    tmp_path: Path, small_recipe: Make, capsys: pytest.CaptureFixture
) -> None:
    train(small_recipe("train.keep_last=3"), out=tmp_path)
    newest = checkpoints.listed(tmp_path)[-1]
    content = bytearray((newest / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (newest / "model.safetensors").write_bytes(content)
    whole = tmp_path / "whole"
    train(small_recipe("train.keep_last=3"), out=whole)
    train(small_recipe("train.keep_last=3"), out=tmp_path)
    errors = capsys.readouterr().err
    assert "update-00000012: model.safetensors is damaged; taking the checkpoint before it" in errors
    assert "going on from update 8" in errors
    assert files_of(tmp_path) == files_of(whole)


def test_a_changed_recipe_is_refused_with_both_values_of_each_key(tmp_path: Path, small_recipe: Make) -> None:
    train(small_recipe("train.updates=4"), out=tmp_path)
    before = (tmp_path / "recipe.yaml").read_bytes()
    changed = small_recipe("train.updates=8", "seed=7", "model.encoder.hidden_size=9")
    for accept in ([], ["train.updates"]):
        with pytest.raises(UserError) as caught:
            train(changed, out=tmp_path, accept=accept)
        assert str(caught.value).splitlines() == [
            f"{tmp_path}/recipe.yaml: model.encoder.hidden_size was 8 and is now 9",
            f"{tmp_path}/recipe.yaml: seed was 1 and is now 7",
            f"{tmp_path}/recipe.yaml: train.updates was 4 and is now 8",
            "this folder was begun with another recipe; train into another with --out",
        ]
    assert (tmp_path / "recipe.yaml").read_bytes() == before


def test_harmless_changes_are_accepted_by_name_and_told(
    tmp_path: Path, small_recipe: Make, capsys: pytest.CaptureFixture
) -> None:
    train(small_recipe("train.updates=4"), out=tmp_path)
    longer = small_recipe("train.updates=8", "search.beam=3")
    for accept in ([], ["train.updates"], ["search"]):
        with pytest.raises(UserError, match=r"these changes are harmless: add --accept search\.beam,train\.updates;"):
            train(longer, out=tmp_path, accept=accept)
    capsys.readouterr()
    train(longer, out=tmp_path, accept=["search", "train.updates"])
    assert "recipe.yaml: train.updates was 4 and is now 8: accepted" in capsys.readouterr().err
    assert checkpoints.update_of(checkpoints.newest(tmp_path, print)) == 8
    train(longer, out=tmp_path)  # from now on it is the folder's recipe


def test_the_command_takes_the_keys_that_may_change(
    tmp_path: Path, small_recipe: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(write_recipe(small_recipe("train.updates=4")))
    longer = ["nmt-train", "recipe.yaml", "train.updates=8", "--out", "run"]
    for arguments, code, said in (
        (["nmt-train", "recipe.yaml", "--out", "run"], 0, "the model is in run"),
        (longer, 2, "nmt-train: run/recipe.yaml: train.updates was 4 and is now 8\nnmt-train: these changes are harm"),
        ([*longer, "--accept", "seed"], 2, "nmt-train: --accept seed: a change of this key is not harmless"),
        ([*longer, "--accept", "train.patience, train.updates"], 0, "train.updates was 4 and is now 8: accepted"),
    ):
        monkeypatch.setattr(sys, "argv", arguments)
        assert main() == code
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("key", ["seed", "model.encoder.hidden_size", "train", "train.update", ""])
def test_only_harmless_keys_can_be_accepted(tmp_path: Path, small_recipe: Make, key: str) -> None:
    with pytest.raises(UserError, match="a change of this key is not harmless; harmless are "):
        train(small_recipe(), out=tmp_path / "run", accept=[key])
    assert not (tmp_path / "run").exists()


def test_two_trainings_in_one_folder_are_refused(tmp_path: Path, small_recipe: Make) -> None:
    from nmt.training.folder import claimed

    with claimed(tmp_path, small_recipe(), (), print), pytest.raises(UserError, match="another training is running"):
        train(small_recipe(), out=tmp_path)


def test_the_best_and_the_newest_checkpoints_are_kept(tmp_path: Path, small_recipe: Make) -> None:
    train(small_recipe("train.updates=32", "train.keep_best=2", "train.keep_last=2"), out=tmp_path)
    losses = {record["update"]: record["loss"] for record in records(tmp_path, "validation")}
    best = sorted(losses, key=losses.get)[:2]
    kept = [checkpoints.update_of(path) for path in checkpoints.listed(tmp_path)]
    assert kept == sorted({*best, 28, 32})
    assert checkpoints.best(tmp_path).name == checkpoints.name_of(best[0])


def test_training_stops_early_when_nothing_gets_better(
    tmp_path: Path, small_recipe: Make, capsys: pytest.CaptureFixture
) -> None:
    train(small_recipe("train.optimizer.learning_rate=1e-12", "train.patience=2", "train.updates=100"), out=tmp_path)
    assert records(tmp_path, "validation")[-1]["update"] <= 16
    assert "no better loss in 2 validations" in (checkpoints.newest(tmp_path, print) / "state.json").read_text()
    train(small_recipe("train.optimizer.learning_rate=1e-12", "train.patience=2", "train.updates=100"), out=tmp_path)
    assert "nothing to do, training is over (no better loss in 2 validations)" in capsys.readouterr().err


@pytest.mark.parametrize("metric", ["perplexity", "bleu", "chrf"])
def test_any_metric_may_choose_the_best(tmp_path: Path, small_recipe: Make, metric: str) -> None:
    train(small_recipe(f"train.best_metric={metric}"), out=tmp_path)
    values = {record["update"]: record[metric] for record in records(tmp_path, "validation")}
    wanted = min(values.values()) if metric == "perplexity" else max(values.values())
    assert values[checkpoints.update_of(checkpoints.best(tmp_path))] == wanted


def some_batches(recipe: Recipe, folder: Path) -> tuple[Updater, list]:
    from nmt.text.batches import BatchPlan
    from nmt.text.digits import DigitsCorpus
    from nmt.text.store import build_store
    from nmt.text.tokenizer import make_tokenizers

    corpus = DigitsCorpus(pairs=60)
    tokenizers = make_tokenizers(corpus, recipe.tokenizer)
    store = build_store(corpus, tokenizers, max_length=50, keep_text=False, say=print)
    plan = BatchPlan(store, tokenizers, tokens=None, sentences=20, seed=1)
    model = build(recipe, tokenizers).double()
    return Updater(model, recipe.train, torch.device("cpu"), None), list(plan.batches(0))


def test_accumulated_batches_make_the_same_update_as_one_batch(tmp_path: Path, small_recipe: Make) -> None:
    recipe = small_recipe("train.optimizer={type: sgd, learning_rate: 0.5}")
    updater, batches = some_batches(recipe, tmp_path)
    start = [parameter.detach().clone() for parameter in updater.model.parameters()]
    applied = updater.update(batches, 1, 0.5, 3)
    together = [parameter.detach().clone() for parameter in updater.model.parameters()]
    sizes = [int((batch.target_lengths - 1).sum()) for batch in batches]
    assert applied.tokens == sum(sizes)
    with torch.no_grad():
        for parameter, value in zip(updater.model.parameters(), start, strict=True):
            parameter.copy_(value)
    updater.optimizer.zero_grad()
    for batch in batches:
        (updater._loss(batch, 1.0).objective / sum(sizes)).backward()
    torch.nn.utils.clip_grad_norm_(updater.model.parameters(), 1.0)
    expected = [p.detach() - 0.5 * p.grad for p in updater.model.parameters()]
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(together, expected, strict=True))


def test_gradients_are_clipped_by_value_then_by_norm(tmp_path: Path, small_recipe: Make) -> None:
    updater, batches = some_batches(small_recipe("train.clip_value=0.001", "train.clip_norm=0.002"), tmp_path)
    applied = updater.update(batches[:1], 1, 1e-3, 3)
    gradients = torch.cat([parameter.grad.flatten() for parameter in updater.model.parameters()])
    assert gradients.norm() <= 0.002 * (1 + 1e-6)
    assert gradients.abs().max() <= 0.001
    assert applied.gradient_norm > 0.002


def test_the_moving_average_is_what_is_saved_and_validated(tmp_path: Path, small_recipe: Make) -> None:
    updater, batches = some_batches(small_recipe("train.ema=0.75"), tmp_path)
    name, weight = next(iter(updater.average.items()))
    before = weight.clone()
    updater.update(batches[:1], 1, 1e-2, 3)
    new = dict(updater.model.named_parameters())[name].detach()
    assert torch.allclose(updater.final_weights()[name], 0.75 * before + 0.25 * new)


def test_averaging_gives_the_mean_of_the_weights(tmp_path: Path, small_recipe: Make) -> None:
    from safetensors.torch import load_file

    train(small_recipe("train.keep_last=3"), out=tmp_path)
    chosen = checkpoints.listed(tmp_path)
    written = average(tmp_path, chosen)
    parts = [load_file(path / "model.safetensors") for path in chosen]
    for name, mean in load_file(written / "model.safetensors").items():
        assert torch.allclose(mean, sum(part[name] for part in parts) / 3, atol=1e-7)
    assert isinstance(Translator.load(written).translate(["1 2"])[0], str)
    with pytest.raises(UserError, match="no checkpoint here"):
        average(tmp_path, [])


def test_averaging_takes_integers_from_the_newest(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    chosen = [tmp_path / checkpoints.name_of(update) for update in (1, 2)]
    for number, checkpoint in enumerate(chosen, 1):
        tensors = {
            "mean": torch.tensor([float(number)]),
            "count": torch.tensor(number),
            "mask": torch.tensor([number > 1]),
        }
        checkpoints.write(tmp_path, checkpoint.name, {"model.safetensors": partial(save_file, tensors)})
    found = load_file(average(tmp_path, chosen) / "model.safetensors")
    assert found == {"mean": torch.tensor([1.5]), "count": torch.tensor(2), "mask": torch.tensor([True])}
    assert found["count"].dtype == torch.int64
    other = tmp_path / checkpoints.name_of(3)
    tensors = {"mean": torch.tensor([1]), "count": torch.tensor(1), "mask": torch.tensor([True])}
    checkpoints.write(tmp_path, other.name, {"model.safetensors": partial(save_file, tensors)})
    with pytest.raises(UserError, match=r"mean is torch.int64 and in another checkpoint isn't; average checkpoints of"):
        average(tmp_path, [*chosen, other])


def test_a_run_folder_tells_what_it_was_made_with(copier: Path) -> None:
    made_with = json.loads((copier / "environment.json").read_text())
    assert made_with["components"]["cell lstm"].startswith("recurrent-nmt ")
    assert made_with["packages"]["torch"] == torch.__version__
    recipe = read_recipe(copier / "recipe.yaml")
    assert recipe.model.encoder.options["cell"].options == {"forget_bias": 1.0}
    reports = records(copier, "report")
    assert {"loss", "perplexity", "tokens_per_second", "learning_rate", "gradient_norm"} <= reports[0].keys()


@pytest.mark.parametrize(
    "overrides",
    [
        ["model.decoder.input_feeding=true"],
        ["model.decoder.layers=2", "model.decoder.attention_layer=first", "model.encoder.layers=2"],
        ["model.decoder.attention=none"],
        ["tokenizer.shared=false", "model.tie_embeddings=two-way"],
        ["train.teacher_forcing=0.5", "train.batch_sentences=8"],
        ["model.engine=loop"],
    ],
    ids=lambda overrides: overrides[0],
)
def test_every_kind_of_model_trains_and_translates(tmp_path: Path, small_recipe: Make, overrides: list[str]) -> None:
    train(small_recipe("train.updates=24", *overrides), out=tmp_path)
    reports = records(tmp_path, "report")
    assert reports[-1]["loss"] < reports[0]["loss"]
    assert len(Translator.load(tmp_path).translate(["1 2", ""])) == 2


@pytest.mark.parametrize("tie", ["none", "two-way", "three-way"])
def test_a_model_whose_target_has_fewer_tokens_than_its_source_trains_and_translates(
    tmp_path: Path, small_recipe: Make, tie: str
) -> None:
    (tmp_path / "source").write_text("ab cd ef gh\ngh ef\n" * 100, encoding="utf-8")
    (tmp_path / "target").write_text("ax x a ax\nx a\n" * 100, encoding="utf-8")
    texts = f"{{corpus: files, source: {tmp_path / 'source'}, target: {tmp_path / 'target'}}}"
    run = tmp_path / "run"
    overrides = [f"data.train={texts}", f"data.valid={texts}", f"model.tie_embeddings={tie}", "train.updates=24"]
    settings = small_recipe(*overrides, "tokenizer={model_type: char, byte_fallback: false, min_frequency: 1}")
    check(settings)
    train(settings, out=run)
    tokenizers = Tokenizers.load(run)
    assert tokenizers.target.vocab_size < tokenizers.source.vocab_size
    reports = records(run, "report")
    assert reports[-1]["loss"] < reports[0]["loss"]
    (found,) = Translator.load(run).translate(["ab cd ef gh"])
    assert set(found) <= set("ax ")

    rows = torch.arange(tokenizers.target.vocab_size * 8.0).view(-1, 8)
    save_file({"weight": rows}, tmp_path / "vectors.safetensors")
    given = f"model.target_embeddings={tmp_path / 'vectors.safetensors'}"
    model = build(small_recipe(*overrides, given, "tokenizer.model_type=char"), tokenizers)
    assert torch.equal(model.decoder.embedding(torch.arange(len(rows))), rows)


def test_paths_of_tokenizers_are_checked_before_anything_is_read(small_recipe: Make) -> None:
    with pytest.raises(UserError, match="target_path is for shared: false"):
        check(small_recipe("tokenizer.target_path=none.model"))
    with pytest.raises(UserError, match=r"none\.model: can't be read"):
        check(small_recipe("tokenizer.path=none.model"))


def test_bf16_trains_nearly_like_fp32_where_the_processor_has_it(tmp_path: Path, small_recipe: Make) -> None:
    try:
        autocast_type("bf16", torch.device("cpu"))
    except UserError:
        pytest.skip("this processor has no bf16 instructions")
    losses = {}
    for precision in ("fp32", "bf16"):
        train(small_recipe(f"train.precision={precision}", "train.updates=24"), out=tmp_path / precision)
        losses[precision] = records(tmp_path / precision, "validation")[-1]["loss"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.05)


@pytest.mark.parametrize(
    ("huge_pages", "precision", "kept"),
    [
        ("1", "fp32", [{"below": LARGE[torch.float32]}]),
        ("1", "bf16", [{"below": LARGE[torch.bfloat16]}]),
        ("0", "fp32", []),
        ("0", "bf16", [{}]),
    ],
)
def test_memory_is_kept_where_large_pieces_of_it_are_cheap_to_get_anew(
    small_recipe: Make, huge_pages: str, precision: str, kept: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, int]] = []
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", huge_pages)
    monkeypatch.setattr("nmt.training.run.keep_freed_memory", lambda **below: told.append(below))
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    prepared_device(small_recipe("train.device=cpu", f"train.precision={precision}").train)
    assert told == kept


def test_fp16_without_a_gpu_is_refused(tmp_path: Path, small_recipe: Make) -> None:
    with pytest.raises(UserError, match="fp16 needs a CUDA GPU"):
        train(small_recipe("train.precision=fp16", "train.device=cpu"), out=tmp_path)


def test_a_folder_that_can_not_be_written_is_told_in_a_line(tmp_path: Path, small_recipe: Make) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="can't be written to"):
        train(small_recipe(), out=tmp_path / "file" / "run")


def test_a_course_remembers_the_best_first() -> None:
    course = Course()
    for update, cost in ((1, 3.0), (2, 1.0), (3, 2.0), (4, 5.0)):
        course.update = update
        course.validated(cost, keep=2)
    assert course.best == [(1.0, 2), (2.0, 3)]
    assert course.waited == 2
    again = Course()
    again.load_state(json.loads(json.dumps(course.state())))
    assert again == course
