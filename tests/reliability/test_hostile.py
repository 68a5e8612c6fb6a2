"""Promise: nothing that is loaded can run code, write anything, or take more memory than a model of its size."""

import ast
import functools
import json
import os
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from contents import contents
from folders import CHECKPOINT, small_model, small_recipe, tokenizers, write_folder
from safetensors.torch import save_file

import nmt
from nmt import checkpoints
from nmt.errors import UserError
from nmt.manifest import damage, sealed
from nmt.model.pretrained import load_embeddings
from nmt.model.weights import MAX_HEADER, named_weights
from nmt.recipe_file import write_recipe
from nmt.training.run import train

Harm = Callable[[Path], object]
WATCHED = Path(__file__).parent / "watched.py"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(nmt.__file__).parents[1]), "OMP_NUM_THREADS": "1"}


# --- harms: each takes a good folder


def weights_of(change: Callable[[bytes], bytes], name: str = "model.safetensors") -> Harm:
    """Other bytes as the weights, or another file of the checkpoint, under a manifest that vouches for them."""

    def harm(folder: Path) -> None:
        files = {path.name: path.read_bytes() for path in (folder / CHECKPOINT).iterdir()}
        files[name] = change(files[name])
        del files["MANIFEST.json"]
        write = {file: lambda path, content=content: path.write_bytes(content) for file, content in files.items()}
        checkpoints.write(folder, CHECKPOINT, write)

    return harm


def header_of(change: Callable[[dict[str, dict[str, object]]], object], name: str = "model.safetensors") -> Harm:
    def changed(content: bytes) -> bytes:
        (size,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + size])
        given = change(header)
        text = given if isinstance(given, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + content[8 + size :]

    return weights_of(changed, name)


def first(header: dict[str, dict[str, object]]) -> dict[str, object]:
    return next(entry for name, entry in header.items() if name != "__metadata__")


def recipe_with(*pairs: tuple[str, str]) -> Harm:
    def harm(folder: Path) -> None:
        text = (folder / "recipe.yaml").read_text()
        for old, new in pairs:
            assert old in text
            text = text.replace(old, new)
        (folder / "recipe.yaml").write_text(text)

    return harm


def file_of(name: str, content: bytes) -> Harm:
    return lambda folder: (folder / name).write_bytes(content)


def link(name: str, target: str) -> Harm:
    def harm(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return harm


def pipe(name: str) -> Harm:
    def harm(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return harm


def manifest_of(change: Callable[[dict[str, object]], object]) -> Harm:
    def harm(folder: Path) -> None:
        path = folder / CHECKPOINT / "MANIFEST.json"
        manifest = json.loads(path.read_text())
        del manifest["sha256"]
        given = change(manifest)
        path.write_text(given if isinstance(given, str) else sealed(manifest))

    return harm


def sparse(name: str, size: int) -> Harm:
    return lambda folder: os.truncate(folder / name, size)


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 30)
)
MODEL = f"{CHECKPOINT}/model.safetensors"
MANIFEST = f"{CHECKPOINT}/MANIFEST.json"
PICKLE = b"cos\nsystem\n(S'touch /tmp/hostile'\ntR."

OF_CHECKPOINTS: dict[str, Harm] = {
    "wrong shape": header_of(lambda header: first(header).update(shape=[4, 4])),
    "shape of 2 ** 62": header_of(lambda header: first(header).update(shape=[2**62, 2])),
    "negative shape": header_of(lambda header: first(header).update(shape=[-8, 8])),
    "no shape": header_of(lambda header: first(header).pop("shape")),
    "offsets beyond the end": header_of(lambda header: first(header).update(data_offsets=[0, 2**40])),
    "offsets backwards": header_of(lambda header: first(header).update(data_offsets=[64, 0])),
    "unknown type": header_of(lambda header: first(header).update(dtype="OBJECT")),
    "integers": header_of(lambda header: first(header).update(dtype="I32")),
    "complex": header_of(lambda header: first(header).update(dtype="C64")),
    "unknown name": header_of(lambda header: header.update({"../../x": header.pop(next(reversed(header)))})),
    "name of two lines": header_of(lambda header: header.update({"a\nb\x1b[31m": header.pop(next(reversed(header)))})),
    "missing name": header_of(lambda header: header.pop(next(reversed(header)))),
    "metadata of lists": header_of(lambda header: header.update(__metadata__={"a": [1]})),
    "header nested deeply": header_of(lambda header: b"[" * 100_000),
    "header is a list": header_of(lambda header: b"[]"),
    "header no JSON": header_of(lambda header: b"{" * 9),
    "empty header": header_of(lambda header: b""),
    "header of 4 GB announced": weights_of(lambda content: struct.pack("<Q", 2**32) + content[8:]),
    "header of 2 ** 64 announced": weights_of(lambda content: b"\xff" * 8 + content[8:]),
    "huge header": weights_of(lambda content: struct.pack("<Q", MAX_HEADER + 8) + b"{}" + b" " * (MAX_HEADER + 6)),
    "weights cut": weights_of(lambda content: content[:-100]),
    "weights empty": weights_of(lambda content: b""),
    "weights of seven bytes": weights_of(lambda content: b"1234567"),
    "pickle as weights": weights_of(lambda content: PICKLE),
    "zip as weights": weights_of(lambda content: b"PK\x03\x04" + content),
    "weights not finite": weights_of(lambda content: content[:-4096] + b"\x00\x00\xc0\x7f" * 1024),
    "weights are a pipe": pipe(MODEL),
    "weights linked to a device": link(MODEL, "/dev/zero"),
    "weights linked to nowhere": link(MODEL, "nowhere"),
    "weights linked to themselves": link(MODEL, "model.safetensors"),
    "weights of a terabyte": sparse(MODEL, 2**40),
    "manifest is a pipe": pipe(MANIFEST),
    "manifest linked to a device": link(MANIFEST, "/dev/zero"),
    "manifest of a terabyte": sparse(MANIFEST, 2**40),
    "manifest nested deeply": manifest_of(lambda manifest: "[" * 100_000),
    "manifest is a list": manifest_of(lambda manifest: "[1]"),
    "manifest is a number": manifest_of(lambda manifest: "1"),
    "manifest without the model": manifest_of(lambda manifest: manifest["files"].pop("model.safetensors") and None),
    "manifest without files": manifest_of(lambda manifest: manifest.pop("files")),
    "manifest with files as a list": manifest_of(lambda manifest: manifest.update(files=["a"])),
    "manifest without format": manifest_of(lambda manifest: manifest.pop("format")),
    "manifest of a wordy format": manifest_of(lambda manifest: manifest.update(format="2\n2")),
    "manifest by a wordy writer": manifest_of(lambda manifest: manifest.update(format=9, written_by="\n\x1b[2J")),
    "manifest names a device": manifest_of(
        lambda manifest: manifest["files"].update({"../../../../../../../../dev/zero": {"bytes": 0, "sha256": ""}})
    ),
    "manifest names a file elsewhere": manifest_of(lambda manifest: manifest["files"].update({"/etc/passwd": {}})),
    "manifest names a NUL": manifest_of(lambda manifest: manifest["files"].update({"a\x00b": {}})),
    "manifest names what is not there": manifest_of(lambda manifest: manifest["files"].update({"x": {}})),
}
HARMS: dict[str, Harm] = {
    **OF_CHECKPOINTS,
    "best names a path": file_of("best", b"../../../etc\n"),
    "best names a folder within": file_of("best", f"{CHECKPOINT}/../{CHECKPOINT}\n".encode()),
    "best is absolute": file_of("best", b"/tmp\n"),
    "best of two lines": file_of("best", f"{CHECKPOINT}\n{CHECKPOINT}\n".encode()),
    "best is no text": file_of("best", b"\xff\xfe\n"),
    "best is a pipe": pipe("best"),
    "best linked to a device": link("best", "/dev/zero"),
    "recipe is a pipe": pipe("recipe.yaml"),
    "recipe linked to a device": link("recipe.yaml", "/dev/zero"),
    "recipe linked to passwords": link("recipe.yaml", "/etc/passwd"),
    "recipe of aliases": file_of("recipe.yaml", BOMB.encode()),
    "recipe of merged aliases": file_of("recipe.yaml", b"a: &a {b: 1}\nc: {<<: [" + b"*a, " * 20_000 + b"]}\n"),
    "recipe nested deeply": file_of("recipe.yaml", b"[" * 100_000),
    "recipe runs a command": file_of("recipe.yaml", b"name: !!python/object/apply:os.system [touch /tmp/hostile]\n"),
    "recipe makes an object": file_of("recipe.yaml", b"name: !!python/object/new:os._wrap_close {}\n"),
    "recipe imports": file_of("recipe.yaml", b"name: !!python/name:os.system\n"),
    "recipe is a pickle": file_of("recipe.yaml", PICKLE),
    "recipe of a terabyte": sparse("recipe.yaml", 2**40),
    "recipe's name has slashes": recipe_with(("name: copy", "name: ../../copy")),
    "recipe's key has lines": recipe_with(("name: copy", 'name: copy\n"a\\nb\\e[31m": 1')),
    "number of many digits": recipe_with(("seed: 1", f"seed: {'9' * 5000}")),
    "hexadecimal of many digits": recipe_with(("seed: 1", f"seed: -0x{'f' * 50_000}")),
    "component is a path": recipe_with(("type: lstm", "type: os:system")),
    "component has slashes": recipe_with(("type: lstm", "type: ../../lstm")),
    "component is unknown": recipe_with(("type: lstm", "type: lstn")),
    "component is a list": recipe_with(("type: lstm", "type: [lstm]")),
    "layers without end": recipe_with(("layers: 1", "layers: 1000000000000")),
    "a thousand layers": recipe_with(("layers: 1", "layers: 1000")),
    "hidden size of millions": recipe_with(("hidden_size: 8", "hidden_size: 10000000")),
    "hidden size of thousands": recipe_with(("hidden_size: 8", "hidden_size: 20000")),
    "hidden size beyond integers": recipe_with(("hidden_size: 8", f"hidden_size: {10**30}")),
    "embeddings of billions": recipe_with(("embedding_size: 8", "embedding_size: 3000000000")),
    "another hidden size": recipe_with(("hidden_size: 8", "hidden_size: 12")),
    "beam of millions": recipe_with(("beam: 5", "beam: 5000000")),
    "lengths without end": recipe_with(("max_length_ratio: 2.0", "max_length_ratio: 1.0e+300")),
    "tokenizer is a pipe": pipe("tokenizer.model"),
    "tokenizer linked to a device": link("tokenizer.model", "/dev/zero"),
    "tokenizer of a terabyte": sparse("tokenizer.model", 2**40),
    "tokenizer is empty": file_of("tokenizer.model", b""),
    "tokenizer is a pickle": file_of("tokenizer.model", PICKLE),
    "tokenizer with a piece of a megabyte": file_of(
        "tokenizer.model", b"\x0a\x85\x80\x40\x0a\x80\x80\x40" + b"a" * (1 << 20) + b"\x15\x00"
    ),
    "tokenizer is missing": lambda folder: (folder / "tokenizer.model").unlink(),
}


def bytes_changed(name: str, seed: int) -> Harm:
    """Some bytes of a file replaced, left out or put in; of the weights, in the header."""

    def harm(folder: Path) -> None:
        draw = random.Random(seed)
        content = bytearray((folder / name).read_bytes())
        reach = min(len(content), 2000)
        for _ in range(draw.randint(1, 8)):
            place = draw.randrange(reach)
            content[place : place + draw.choice((0, 1, 1, 9))] = draw.randbytes(draw.choice((0, 1, 1, 9)))
        if name.startswith(CHECKPOINT):
            weights_of(lambda _: bytes(content), Path(name).name)(folder)
        else:
            (folder / name).write_bytes(content)

    return harm


def drawn(count: int, files: Sequence[str]) -> Iterator[tuple[str, Harm]]:
    for seed in range(count):
        name = files[seed % len(files)]
        yield f"{name}, bytes changed, {seed}", bytes_changed(name, seed)


def watched(task: str, good: Path, large: Path, names: dict[str, str]) -> dict[str, dict]:
    """What became of each folder, by the name of what harmed it; no forbidden event, no traceback, no endless work."""
    command = [sys.executable, str(WATCHED), task, str(good), str(large), *names]
    environment = {**ENVIRONMENT, "NMT_CACHE": str(good.parent / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=max(100, len(names)))
    found = [json.loads(line) for line in done.stdout.splitlines()]
    records = {names.get(record["folder"], Path(record["folder"]).name): record for record in found}
    assert len(records) == len(names) + 2, done.stderr
    for name, record in records.items():
        assert record["failed"] is None, (name, record)
        assert record["events"] == [], (name, record)
        assert record["seconds"] < 10.0, (name, record)
        if record["refused"]:
            # Several mistakes in a recipe are a line each.
            assert all(line.isprintable() for line in record["refused"].split("\n")), (name, record)
            assert record["refused"].count("\n") == 0 or "recipe.yaml" in record["refused"], (name, record)
    assert records[good.name]["refused"] is records[large.name]["refused"] is None
    return records


def test_no_hostile_folder_runs_code_writes_or_takes_memory(
    tmp_path: Path, amount: Callable[[int, int], int], promise: Callable[[str, str], None]
) -> None:
    recipe = small_recipe("search.beam=5", "search.max_length_ratio=2.0")
    model = small_model(recipe)
    make = functools.partial(write_folder, settings=recipe, model=model)
    good = make(tmp_path / "good")
    wide = small_recipe("model.encoder.hidden_size=1000", "model.decoder.hidden_size=1000")
    large = write_folder(tmp_path / "large", wide, small_model(wide))
    harms = {**HARMS, **dict(drawn(amount(6, 200), (MODEL, "tokenizer.model", "recipe.yaml")))}
    names = {}
    for index, (name, harm) in enumerate(harms.items()):
        folder = make(tmp_path / f"{index}")
        harm(folder)
        names[str(folder)] = name
    records = watched("load", good, large, names)
    assert all(records[name]["refused"] for name in HARMS)
    hostile, big = [records[name] for name in harms], records["large"]
    grown = sum(record["megabytes"] for record in hostile)
    assert grown < 100.0
    size = (large / MODEL).stat().st_size / 1e6
    assert big["megabytes"] <= 2 * size + 20.0
    refused = sum(record["refused"] is not None for record in hostile)
    promise(
        "hostile folders loaded", f"{len(hostile)}: {refused} refused in a line, {grown:.0f} MB, no forbidden event"
    )
    promise("memory of loading a model", f"{big['megabytes']:.0f} MB for {size:.0f} MB of weights")


# --- going on from a stranger's checkpoint, and averaging it

LEARNT, STATE = "training.safetensors", "state.json"


def learnt(change: Callable[[dict[str, dict[str, object]]], object]) -> Harm:
    return header_of(change, LEARNT)


def state(change: Callable[[dict[str, dict]], object]) -> Harm:
    def changed(content: bytes) -> bytes:
        whole = json.loads(content)
        given = change(whole)
        return given if isinstance(given, bytes) else json.dumps(whole).encode()

    return weights_of(changed, STATE)


def named(header: dict[str, dict[str, object]], start: str) -> str:
    """The first name in a header of a tensor that has axes."""
    return next(name for name, entry in header.items() if name.startswith(start) and len(entry["shape"]) > 0)


def renamed(start: str, to: str) -> Harm:
    return learnt(lambda header: header.update({to: header.pop(named(header, start))}))


def linked(name: str, target: str) -> Harm:
    """A link where training writes; `target` is beside the folder."""

    def harm(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(folder.parent / target)

    return harm


def no_file(name: str) -> Harm:
    def harm(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return harm


SEALED: dict[str, Harm] = {
    "moment of another shape": learnt(lambda h: h[named(h, "optimizer.exp_avg.")].update(shape=[1, 1, 1])),
    "moment turned": learnt(lambda h: h[named(h, "optimizer.exp_avg.")]["shape"].reverse()),
    "moment of 2 ** 62": learnt(lambda h: h[named(h, "optimizer.exp_avg_sq.")].update(shape=[2**62, 2])),
    "moment of an unknown parameter": renamed("optimizer.exp_avg.", "optimizer.exp_avg.encoder.x"),
    "moment of another optimiser": renamed("optimizer.exp_avg.", "optimizer.momentum_buffer.encoder.embedding.weight"),
    "moment without a parameter": renamed("optimizer.exp_avg.", "optimizer.exp_avg"),
    "moment missing": learnt(lambda h: h.pop(named(h, "optimizer.exp_avg."))),
    "moment of integers": learnt(lambda h: h[named(h, "optimizer.exp_avg.")].update(dtype="I32")),
    "moment of half the bytes": learnt(lambda h: h[named(h, "optimizer.exp_avg.")].update(dtype="F16")),
    "weights under no name": renamed("weights.", "weights"),
    "weights of nothing known": renamed("weights.", "weights.../../x"),
    "name of no kind": renamed("weights.", "a\nb\x1b[31m"),
    "no moving average": learnt(lambda h: [h.pop(name) for name in list(h) if name.startswith("weights.")]),
    "moments' header nested deeply": learnt(lambda h: b"[" * 100_000),
    "moments' header of 4 GB": weights_of(lambda content: struct.pack("<Q", 2**32) + content[8:], LEARNT),
    "moments cut": weights_of(lambda content: content[:-10], LEARNT),
    "moments empty": weights_of(lambda content: b"", LEARNT),
    "moments are a pickle": weights_of(lambda content: PICKLE, LEARNT),
    "moments are the weights": lambda folder: weights_of(lambda _: (folder / MODEL).read_bytes(), LEARNT)(folder),
    "state empty": state(lambda s: b""),
    "state a list": state(lambda s: b"[]"),
    "state a number": state(lambda s: b"1"),
    "state no text": state(lambda s: b"\xff\xfe"),
    "state nested deeply": state(lambda s: b"[" * 100_000),
    "state of many digits": state(lambda s: b'{"course": ' + b"9" * 10_000 + b"}"),
    "state of two megabytes": state(lambda s: b" " * (1 << 21) + b"{}"),
    "state a pickle": state(lambda s: PICKLE),
    "state without a course": state(lambda s: s.pop("course")),
    "state without a learning rate": state(lambda s: s.pop("learning_rate")),
    "state without a scaler": state(lambda s: s.pop("scaler")),
    "course a list": state(lambda s: s.update(course=[1])),
    "course of another update": state(lambda s: s["course"].update(update=7)),
    "course without an update": state(lambda s: s["course"].pop("update")),
    "update a text": state(lambda s: s["course"].update(update="one")),
    "update a list": state(lambda s: s["course"].update(update=[1])),
    "update huge": state(lambda s: s["course"].update(update=10**300)),
    "epoch nought": state(lambda s: s["course"].update(epoch=0)),
    "epoch negative": state(lambda s: s["course"].update(epoch=-1)),
    "epoch huge": state(lambda s: s["course"].update(epoch=10**40)),
    "step negative": state(lambda s: s["course"].update(step=-5)),
    "step broken": state(lambda s: s["course"].update(step=0.5)),
    "tokens infinite": state(lambda s: s["course"].update(tokens=float("inf"))),
    "best a number": state(lambda s: s["course"].update(best=3)),
    "best of three": state(lambda s: s["course"].update(best=[[1.0, 2, 3]])),
    "best a path": state(lambda s: s["course"].update(best=[[1.0, "../../x"]])),
    "sums missing": state(lambda s: s["course"].update(unreported=None)),
    "usual loss a text": state(lambda s: s["course"].update(usual_loss="much")),
    "end a number": state(lambda s: s["course"].update(ended=1)),
    "learning rate a list": state(lambda s: s.update(learning_rate=[])),
    "learning rate beyond all": state(lambda s: s["learning_rate"].update(reduced=1e300)),
    "learning rate not a number": state(lambda s: s["learning_rate"].update(reduced=float("nan"))),
    "learning rate negative": state(lambda s: s["learning_rate"].update(waited=-1)),
    "learning rate with more": state(lambda s: s["learning_rate"].update(more=1)),
}
"""What a manifest vouches for and no training has written."""

TAKEN: dict[str, Harm] = {
    "step beyond the epoch": state(lambda s: s["course"].update(step=2**53)),
    "moments not finite": weights_of(lambda content: content[:-4096] + b"\x00\x00\xc0\x7f" * 1024, LEARNT),
    "records of garbage": file_of("metrics.jsonl", b'\xff\x00{"update": []}\n[]\n1\n{"update": 1, "seconds": 1e999}\n'),
    "records nested deeply": file_of("metrics.jsonl", b"[" * 100_000 + b"\n"),
    "records of many digits": file_of("metrics.jsonl", b'{"update": 0, "seconds": 1' + b"0" * 400 + b"}\n"),
    "environment nested deeply": file_of("environment.json", b"[" * 100_000),
    "the best linked elsewhere": linked("best", "elsewhere"),
    "the best's place linked": linked(".best.partial", "elsewhere"),
    "the recipe's place linked": linked(".recipe.yaml.partial", "elsewhere"),
    "a checkpoint's place linked": linked(".update-00000002.partial", "besides"),
    "a checkpoint's end linked": linked(".update-00000001.removed", "besides"),
    "a later checkpoint linked": linked("update-00000002", "besides"),
}
"""What is put right or passed over, and trained on from."""

STOPPED: dict[str, Harm] = {
    "records are a pipe": no_file("metrics.jsonl"),
    "records of a terabyte": sparse("metrics.jsonl", 2**40),
    "records linked elsewhere": linked("metrics.jsonl", "elsewhere"),
    "records linked to nothing": linked("metrics.jsonl", "nothing"),
    "lock a pipe": no_file(".lock"),
    "lock linked elsewhere": linked(".lock", "elsewhere"),
    "lock linked to nothing": linked(".lock", "nothing"),
}
"""What training can't put right."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one update, to go on from; what is to come of it stands in resume.yaml beside it."""
    folder = tmp_path_factory.mktemp("runs")
    small = ("data.train.pairs=40", "data.valid.pairs=5", "train.validate_decoded=0", "train.validate_every=1")
    rest = ("train.ema=0.9", "train.threads=1", "search.beam=5", "search.max_length_ratio=2.0")
    settings = small_recipe(*small, *rest, "train.updates=1")
    train(settings, out=folder / "run")
    (folder / "resume.yaml").write_text(write_recipe(small_recipe(*small, *rest, "train.updates=2")))
    return folder / "run"


def harmed(run: Path, tmp_path: Path, harms: dict[str, Harm]) -> dict[str, str]:
    """A copy of the run for each harm: the folders, and their names. Beside them stands what links may lead to."""
    (tmp_path / "elsewhere").write_text("a stranger's\n")
    shutil.copytree(run / CHECKPOINT, tmp_path / "besides")
    names = {}
    for index, (name, harm) in enumerate(harms.items()):
        folder = shutil.copytree(run, tmp_path / f"{index}")
        harm(folder)
        names[str(folder)] = name
    return names


def test_no_hostile_run_that_is_gone_on_from_runs_code_writes_elsewhere_or_takes_memory(
    run: Path, tmp_path: Path, amount: Callable[[int, int], int], promise: Callable[[str, str], None]
) -> None:
    known = dict(list(HARMS.items() if amount(0, 1) else OF_CHECKPOINTS.items())[amount(3, 0) :: amount(4, 1)])
    known["recipe is a pipe"] = HARMS["recipe is a pipe"]  # it was waited for, once
    changed = dict(drawn(amount(2, 100), (MODEL, f"{CHECKPOINT}/{LEARNT}")))
    harms = {**known, **SEALED, **TAKEN, **STOPPED, **changed}
    good, large = shutil.copytree(run, tmp_path / "good"), shutil.copytree(run, tmp_path / "large")
    shutil.copy(run.parent / "resume.yaml", tmp_path)
    names = harmed(run, tmp_path, harms)
    damaged = {name for folder, name in names.items() if not_whole(Path(folder) / CHECKPOINT)}
    beside = contents(tmp_path / "besides")
    records = watched("resume", good, large, names)
    # Who could seal a manifest without the model could seal it with any: the weights are checked against the recipe.
    harmless = {name for name in known if name.startswith(("best", "weights not", "manifest without"))}
    must = known.keys() - damaged - harmless
    assert {name for name in (*must, *SEALED, *STOPPED) if not records[name]["refused"]} == set()
    assert {name: records[name]["refused"] for name in TAKEN if records[name]["refused"]} == {}
    assert sum(records[name]["megabytes"] for name in harms) < 100.0
    assert (tmp_path / "elsewhere").read_text() == "a stranger's\n"
    assert not (tmp_path / "nothing").exists()
    assert contents(tmp_path / "besides") == beside
    refused = sum(records[name]["refused"] is not None for name in harms)
    promise("hostile runs gone on from", f"{len(harms)}: {refused} refused in a line, no forbidden event")


def not_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint is seen to be damaged, so that training begins anew."""
    try:
        return damage(checkpoint) is not None
    except UserError:
        return False


def test_no_hostile_checkpoint_that_is_averaged_runs_code_writes_elsewhere_or_takes_memory(
    run: Path, tmp_path: Path, promise: Callable[[str, str], None]
) -> None:
    taken = {
        "an average linked elsewhere": linked("average", "besides"),
        "its place linked": linked(".average.partial", "besides"),
    }
    harms = {**OF_CHECKPOINTS, **taken, "its lock linked": linked(".average.lock", "nothing")}
    two = shutil.copytree(run, tmp_path / "two")
    files = {path.name: path.read_bytes() for path in (run / CHECKPOINT).iterdir() if path.name != "MANIFEST.json"}
    write = {file: lambda path, content=content: path.write_bytes(content) for file, content in files.items()}
    checkpoints.write(two, checkpoints.name_of(2), write)
    good, large = shutil.copytree(two, tmp_path / "good"), shutil.copytree(two, tmp_path / "large")
    records = watched("average", good, large, harmed(two, tmp_path, harms))
    assert {name for name in harms if not records[name]["refused"]} == taken.keys()
    assert sum(records[name]["megabytes"] for name in harms) < 100.0
    assert not (tmp_path / "nothing").exists()
    assert contents(tmp_path / "besides") == contents(run / CHECKPOINT)
    promise("hostile checkpoints averaged", f"{len(harms)}: {len(harms) - len(taken)} refused in a line")


def test_the_watch_sees_what_it_watches_for(tmp_path: Path) -> None:
    code = (
        "import sys, pickle, os, socket; sys.path.insert(0, sys.argv[1]); import watched;"
        "sys.addaudithook(watched.watch);"
        "watched.seen = []; pickle.loads(pickle.dumps(os.getcwd)); eval('1 + 1'); os.system('true');"
        "socket.socket().close(); open(sys.argv[2], 'w').close(); seen, watched.seen = watched.seen, None;"
        "print(sorted({event.split()[0] for event in seen}))"
    )
    command = [sys.executable, "-c", code, str(WATCHED.parent), str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    for event in ("pickle.find_class", "compile", "exec", "os.system", "socket.__new__", "open"):
        assert event in done.stdout, done.stderr


def test_a_run_on_local_data_opens_no_socket_and_starts_no_process(tmp_path: Path) -> None:
    code = (
        "import sys, torch; seen = []; forbidden = ('subprocess.', 'os.system', 'os.exec', 'os.posix_spawn', 'os.fork',"
        " 'pickle.', 'socket.__new__', 'socket.connect', 'socket.bind', 'socket.sendto', 'socket.getaddrinfo');"
        "sys.addaudithook(lambda event, _: seen.append(event) if event.startswith(forbidden) else None);"
        "import nmt; settings = ['data.train.pairs=50', 'data.valid.pairs=5', 'train.updates=2',"
        " 'train.validate_every=2', 'train.validate_decoded=2', 'train.threads=1'];"
        "folder = nmt.train(sys.argv[1], settings, out=sys.argv[2]);"
        "nmt.Translator.load(folder).translate(['1 2 3']); print(seen)"
    )
    recipe = Path(__file__).parents[2] / "recipes" / "copy.yaml"
    command = [sys.executable, "-c", code, str(recipe), str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stdout + done.stderr


@pytest.mark.parametrize(
    "content",
    [b"the nan " * 8, b"the " + b"1e999 " * 8, b"the " + b"1 " * 7, b"the " + b"x " * 8, b"1" * (1 << 21), PICKLE],
)
def test_hostile_embeddings_are_refused_in_a_line(tmp_path: Path, content: bytes) -> None:
    weight = small_model(small_recipe()).encoder.embedding.weight
    (tmp_path / "embeddings.txt").write_bytes(content)
    pieces = ["the", "cat"]
    with pytest.raises(UserError) as caught:
        load_embeddings(tmp_path / "embeddings.txt", pieces, weight)
    assert str(caught.value).isprintable()


def test_embeddings_of_a_pipe_or_of_integers_are_refused(tmp_path: Path) -> None:
    weight = small_model(small_recipe()).encoder.embedding.weight
    os.mkfifo(tmp_path / "pipe")
    save_file({"weight": weight.detach().int()}, tmp_path / "integers.safetensors")
    for name in ("pipe", "integers.safetensors"):
        with pytest.raises(UserError):
            load_embeddings(tmp_path / name, tokenizers().source.pieces(), weight)


RUNNERS = {"eval", "exec", "compile", "__import__", "torch.load", "torch.jit.load", "torch.hub.load", "yaml.load"}
RUNNERS |= {"os.system", "os.popen", "np.load", "numpy.load", "joblib.load", "runpy.run_path", "ctypes.CDLL"}
UNSAFE = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "subprocess", "ctypes", "runpy", "yaml"}


def test_no_source_of_the_package_names_what_could_run_loaded_code() -> None:
    paths = sorted(Path(nmt.__file__).parent.rglob("*.py"))
    assert len(paths) > 50
    for path in paths:
        # The kit for plugins' authors starts Python to see what they import; nmt-translate starts workers of its own;
        # what is asked of the C library is how it keeps freed memory; native.py calls what was compiled from native.c
        # beside it when nmt was installed. None of them gets anything that is loaded but numbers.
        if path.parent.name == "testing" or path.name in ("workers.py", "device.py", "native.py", "native_build.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in RUNNERS, path
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & UNSAFE, path


def test_weights_are_named_by_the_model_and_by_nothing_else(tmp_path: Path) -> None:
    model = small_model(small_recipe())
    assert all("/" not in name and "\\" not in name for name in named_weights(model))
