"""tools/ablate.py: its table, its measures, and the whole of it on a tiny rendered street."""

from __future__ import annotations

import json
import shlex
import xml.etree.ElementTree as ET
from pathlib import Path

import msgspec
import numpy as np
import pytest
from ablate import Study, main
from ablation_commands import recipe_text, row_command
from ablation_page import write_page
from ablation_scores import Result, Results, Score, harmonic, phase_energy, read_results, write_results
from ablation_table import Table, match_widths, plan_jobs, read_table
from ablation_verdict import BETTER, NOT_RUN, WORSE, Findings, Noise

from edgeseg.cli.ui import parse_size
from edgeseg.core.config import load_config
from edgeseg.core.errors import RequestError, VerifyError
from edgeseg.data import open_dataset, pack
from edgeseg.measure import evaluate_runner
from edgeseg.model import describe, open_run, preset
from edgeseg.train.config import DataConfig, RecipeConfig
from edgeseg.train.overrides import parse_overrides

ROOT = Path(__file__).parents[2]
DATA = "street:seed=6,frames=8,size=64x96,step_m=23"
HEAD = """
title = "Tiny"
model = "edge-s"
split = "train"
score = ["val"]
noise = "seeds"
[budget]
epochs = 1
batch = 2
crop = [32, 64]
network_size = [64, 96]
set = ["train.warmup_epochs=0.0", "loss.label_smoothing=0.05", "model.widths=[4, 4, 4, 4, 4]",
  "model.decoder_widths=[4, 4, 4, 4]", "model.depths=[0, 1, 1, 1, 1]"]
[[group]]
name = "seeds"
title = "Seeds"
rows = [{ name = "one" }, { name = "two", seed = 2 }]
"""


def table(tmp_path: Path, text: str = "") -> Table:
    file = tmp_path / "table.toml"
    file.write_text(HEAD + text, encoding="utf-8")
    return read_table(file)


def group(rows: str, name: str = "loss", more: str = "") -> str:
    return f'[[group]]\nname = "{name}"\ntitle = "Loss"\n{more}\nrows = [{rows}]\n'


def scored(miou: float, **more: object) -> Result:
    score = Score(miou=miou, boundary_iou=miou / 2, pixel_accuracy=0.9, iou={})
    return Result(command="", seed=1, parameters=10**6, multiply_adds=10**8, scores={"val": score}, **more)  # type: ignore[arg-type]


def test_rows_that_ask_for_the_same_share_a_run_and_others_do_not(tmp_path: Path) -> None:
    rows = '{ name = "same", set = ["loss.label_smoothing=0.05"] }, { name = "other", set = ["loss.dice=0.5"] }'
    jobs = plan_jobs(table(tmp_path, group(rows)), DATA)
    assert jobs["loss/same"].key == jobs["seeds/one"].key
    assert len({jobs[name].key for name in ("seeds/one", "seeds/two", "loss/other")}) == 3


def test_the_keys_do_not_hang_on_where_the_data_lie(tmp_path: Path, street_folder: Path) -> None:
    rows = table(tmp_path)
    moved = tmp_path / "moved"
    moved.symlink_to(street_folder)
    keys = [{job.key for job in plan_jobs(rows, f"folder:{root}").values()} for root in (street_folder, moved)]
    assert keys[0] == keys[1]


def test_the_keys_of_a_packed_file_are_those_of_what_was_packed(tmp_path: Path, street_folder: Path) -> None:
    rows, spec, out = table(tmp_path), f"folder:{street_folder}", tmp_path / "street.packed"
    pack(out, {split: open_dataset(spec, split) for split in ("train", "val")})
    packed = plan_jobs(rows, f"packed:{out}")
    assert {job.key for job in packed.values()} == {job.key for job in plan_jobs(rows, spec).values()}
    fewer = plan_jobs(rows, "street:seed=6,frames=4,size=72x96")
    assert not {job.key for job in fewer.values()} & {job.key for job in packed.values()}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ('{ name = "x", set = ["loss.dise=0.5"] }', "dise"),
        ('{ name = "x", set = ["loss.dice=-1.0"] }', "loss.dice is -1.0"),
        ('{ name = "x", set = ["model.upsample=max_unpool"] }', "max_unpool"),
        ('{ name = "x", model = "edge-xl" }', "edge-xl"),
        ('{ name = "x", init = "loss/y" }', "loss/y"),
        ('{ name = "x", against = "seeds/three" }', "seeds/three"),
    ],
)
def test_a_row_that_cannot_be_is_refused_before_anything_is_trained(tmp_path: Path, rows: str, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        plan_jobs(table(tmp_path, group(rows)), DATA)


def test_the_table_in_docs_is_sound(camvid_dir: Path) -> None:
    jobs = plan_jobs(read_table(ROOT / "docs" / "ablations.toml"), f"camvid:{camvid_dir}")
    target = describe(jobs["seeds/seed 1"].config, 11, (360, 480)).multiply_adds
    for job in jobs.values():
        if job.row.match:
            assert describe(job.config, 11, (360, 480)).multiply_adds == pytest.approx(target, rel=0.02)
            assert f"widths={list(job.config.widths)}" in job.text("camvid:PATH")
    assert {job.key for job in jobs.values() if "(baseline)" in job.row.name} == {jobs["seeds/seed 1"].key}


def test_widths_are_scaled_to_the_multiply_adds(tmp_path: Path) -> None:
    target = describe(preset("edge-s"), 11, (96, 128)).multiply_adds
    found = match_widths(preset("edge-m"), target, 11, (96, 128))
    assert describe(found, 11, (96, 128)).multiply_adds == pytest.approx(target, rel=0.02)
    assert found.depths == preset("edge-m").depths
    with pytest.raises(RequestError, match="full-resolution"):  # one width of ten: a step of it is too wide
        match_widths(preset("full-resolution"), target, 11, (96, 128))


def test_a_share_of_the_labels_takes_as_many_steps(tmp_path: Path) -> None:
    rows = '{ name = "half", same_steps = true, set = ["data.limit=0.5", "train.warmup_epochs=0.5"] }'
    job = plan_jobs(table(tmp_path, group(rows)), DATA)["loss/half"]
    assert job.epochs == 2  # 4 steps of two frames, twice 2
    assert "train.warmup_epochs=1.0" in job.options


def test_a_row_names_the_run_that_it_starts_from(tmp_path: Path) -> None:
    rows = '{ name = "pre", kind = "pretrain" }, { name = "x", init = "loss/pre", teacher = "seeds/two" }'
    jobs = plan_jobs(table(tmp_path, group(rows)), DATA)
    command = jobs["loss/x"].text(DATA)
    assert f"--init runs/{jobs['loss/pre'].key} --teacher runs/{jobs['seeds/two'].key}" in command
    assert jobs["loss/pre"].text(DATA).startswith(f"edgeseg pretrain --frames {DATA} ")


def test_a_lattice_is_found_and_a_picture_has_none() -> None:
    noise = np.random.default_rng(0).normal(size=(3, 64, 64)).astype(np.float32)
    enlarged = noise.repeat(2, axis=1).repeat(2, axis=2)
    wider = noise.repeat(4, axis=1).repeat(4, axis=2)
    for axis in (-2, -1):
        assert harmonic(phase_energy(noise, 2, axis)) < 0.05
        assert harmonic(phase_energy(noise, 4, axis)) < 0.05
        assert harmonic(phase_energy(enlarged, 2, axis)) == pytest.approx(1)
        assert harmonic(phase_energy(enlarged, 4, axis)) < 0.05
        assert harmonic(phase_energy(wider, 4, axis)) == pytest.approx(1)
    assert harmonic(np.zeros(2)) == 0


def test_the_noise_is_the_prediction_interval_of_the_seeds() -> None:
    noise = Noise([0.30, 0.32, 0.34])
    assert noise.deviation == pytest.approx(0.02)
    assert noise.bound(3) == pytest.approx(4.30 * 0.02 * (4 / 3) ** 0.5)
    assert noise.bound(1) == pytest.approx(4.30 * 0.02 * 2**0.5)
    assert Noise([0.3]).bound(1) is None


def test_only_what_leaves_the_noise_is_called_better_or_worse(tmp_path: Path) -> None:
    rows = ", ".join(f'{{ name = "{name}", set = ["loss.dice={i}.0"] }}' for i, name in enumerate("abcd", 1))
    last = '{ name = "e", set = ["loss.dice=9.0"], against = "loss/a" }'
    plan = table(tmp_path, group(f"{rows}, {last}"))
    jobs = plan_jobs(plan, DATA)
    values = {"seeds/one": 0.30, "seeds/two": 0.31, "loss/a": 0.9, "loss/b": 0.31, "loss/c": 0.05, "loss/e": 0.89}
    findings = Findings(plan, jobs, Results(rows={jobs[name].key: scored(value) for name, value in values.items()}))
    found = {name: findings.verdict(job) for name, job in jobs.items()}
    assert found["seeds/one"] == "reference"
    assert (found["loss/a"], found["loss/b"], found["loss/c"]) == (BETTER, "inside the noise", WORSE)
    assert found["loss/d"] == NOT_RUN
    assert found["loss/e"] == "inside the noise"  # against row a, not against the seeds


def test_a_page_without_results_invents_none(tmp_path: Path) -> None:
    plan = table(tmp_path, group('{ name = "x", set = ["loss.dice=0.5"], note = "a word" }'))
    jobs = plan_jobs(plan, DATA)
    files = write_page(tmp_path / "page.md", plan, jobs, Results(), DATA)
    page = files[0].read_text(encoding="utf-8")
    assert files == [tmp_path / "page.md", tmp_path / "page-recipe.toml"]  # no plot of nothing
    assert "0 of 3 runs are there" in page
    assert "- **Seeds** (`--only seeds`): one; two." in page
    assert "- **Loss** (`--only loss`): x." in page
    assert "fewer than two seeds" in page
    assert "|" not in page  # and no table


def test_a_group_shows_what_was_run_and_says_the_rest_in_a_line(tmp_path: Path) -> None:
    rows = '{ name = "x", set = ["loss.dice=0.5"], note = "a word" }, { name = "y", set = ["loss.dice=0.6"] }'
    base = '{ name = "same" }, { name = "z", set = ["loss.dice=0.7"] }'
    plan = table(tmp_path, group(rows, more='conclusion = "It helps."') + group(base, name="other"))
    jobs = plan_jobs(plan, DATA)
    results = {jobs[name].key: scored(0.3) for name in ("seeds/one", "seeds/two", "loss/x")}
    files = write_page(tmp_path / "page.md", plan, jobs, Results(rows=results), DATA)
    page = files[0].read_text(encoding="utf-8")
    assert "3 of 5 runs are there" in page
    assert "| x | +0.00 | inside the noise | 30.00 |" in page
    assert "| y |" not in page
    assert "- x: a word\n\nNot trained yet: y.\n\nIt helps.\n" in page
    assert "## Loss\n" in page
    assert page.count("## Loss\n") == 1  # the other group has the shared baseline alone
    assert "- **Loss** (`--only other`): z." in page
    assert [file.name for file in files] == ["page.md", "page-recipe.toml", "page-seeds.svg", "page-loss.svg"]


def test_a_row_from_another_machine_says_so(tmp_path: Path) -> None:
    plan = table(tmp_path, group('{ name = "x", set = ["loss.dice=0.5"] }'))
    jobs = plan_jobs(plan, DATA)
    places = {"seeds/one": "a GPU", "seeds/two": "a GPU", "loss/x": "a CPU"}
    results = Results(rows={jobs[name].key: scored(0.3, device=device) for name, device in places.items()})
    page = write_page(tmp_path / "page.md", plan, jobs, results, DATA)[0].read_text(encoding="utf-8")
    assert "Trained and scored on a GPU; rows from elsewhere say so." in page
    assert "- x: trained and scored on a CPU, unlike most rows." in page
    assert page.count("a CPU") == 1


def test_the_short_command_asks_for_what_was_run(tmp_path: Path, camvid_dir: Path) -> None:
    data = f"camvid:{camvid_dir}"
    plan = read_table(ROOT / "docs" / "ablations.toml")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(recipe_text(plan), encoding="utf-8")
    for job in plan_jobs(plan, data).values():
        asked = [read_command(words) for words in (job.text(data), row_command(job, plan, data, str(recipe)))]
        if job.row.kind == "pretrain":  # which scores no split, and reads none
            asked = [(*one, msgspec.structs.replace(found, data=DataConfig())) for *one, found in asked]
        assert asked[0] == asked[1]


def read_command(text: str) -> tuple[object, ...]:
    """What a command line of edgeseg asks for: the words beside the recipe, and the recipe as it is resolved."""
    kind, *words = shlex.split(text)[1:]
    options: dict[str, list[str]] = {}
    for option, value in zip(words[::2], words[1::2], strict=True):
        options.setdefault(option, []).append(value)
    named = {"train.epochs": "--epochs", "train.batch": "--batch", "train.seed": "--seed"}
    values: dict[str, object] = {name: int(options.pop(word)[0]) for name, word in named.items() if word in options}
    if "--crop" in options:
        values["augment.crop"] = list(parse_size(options.pop("--crop")[0]))
    config = options.pop("--config", None)
    overrides = parse_overrides(options.pop("--set", []), values)
    return kind, options, load_config(Path(config[0]) if config else None, RecipeConfig, overrides)


def test_the_plots_are_pictures_of_what_was_measured(tmp_path: Path) -> None:
    rows = ", ".join(
        f'{{ name = "{share} & {init}", share = {share}, set = ["data.limit={share / 100}"], init = "{init}" }}'
        for share in (10, 100)
        for init in ("", "seeds/two")
    )
    plan = table(tmp_path, group(rows, more="checkerboard = true"))
    jobs = plan_jobs(plan, DATA)
    shares = {"2": 0.25, "4": 0.125}
    results = {job.key: scored(0.3 + i / 100, checkerboard=shares) for i, job in enumerate(jobs.values())}
    files = write_page(tmp_path / "page.md", plan, jobs, Results(rows=results), DATA)
    names = [file.name for file in files[1:]]
    plots = ["page-seeds.svg", "page-loss.svg", "page-loss-checkerboard.svg", "page-loss-shares.svg"]
    assert names == ["page-recipe.toml", *plots]
    page = files[0].read_text(encoding="utf-8")
    for file in files[2:]:
        assert f"]({file.name})" in page
        assert ET.parse(file).getroot().tag.endswith("svg")
    assert files[4].read_text(encoding="utf-8").count("<circle") == 8
    assert "| 0.250 | 0.125 |" in page


def test_results_are_read_back_and_foreign_ones_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    assert read_results(file) == Results()
    written = Results(rows={"a": scored(0.5), "b": scored(0.25)})
    write_results(file, written)
    assert read_results(file) == written
    assert json.loads(file.read_text())["rows"].keys() == {"a", "b"}
    file.write_text('{"rows": 3}')
    with pytest.raises(VerifyError, match="results"):
        read_results(file)


def ablate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """The script in this process; its trainings are processes of their own."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("EDGESEG_CACHE", str(tmp_path / "cache"))
    files = ["--table", str(tmp_path / "table.toml"), "--runs", str(tmp_path / "runs")]
    monkeypatch.setattr("sys.argv", ["ablate.py", "--data", DATA, *files, *words])
    return main()


@pytest.mark.timeout(400)
def test_a_table_is_trained_once_goes_on_where_it_broke_and_becomes_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = table(tmp_path, group('{ name = "dice", set = ["loss.dice=0.5"] }'))
    jobs = plan_jobs(plan, DATA)
    runs, measured = tmp_path / "runs", tmp_path / "table.json"
    broken, job = runs / jobs["seeds/one"].key, jobs["seeds/two"]
    broken.mkdir(parents=True)
    (broken / "config.toml").write_text("no config")

    # a row that fails is named, the next one is trained, the third is not asked for
    assert ablate(tmp_path, monkeypatch, "--only", "seeds") == 1
    said = capsys.readouterr().err
    assert "seeds/one: failed with exit code 2" in said
    assert said.rstrip().endswith("1 rows failed (seeds/one)")
    page = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert row_command(job, plan, DATA, "table-recipe.toml") in page
    assert (tmp_path / "table-recipe.toml").read_text(encoding="utf-8") == recipe_text(plan)
    assert "1 of 3 runs are there" in page
    assert "Not trained yet: one." in page
    assert read_results(measured).rows.keys() == {job.key}
    result = read_results(measured).rows[job.key]
    assert result.seed == 2
    score = json.loads((runs / job.key / "done.json").read_text())["scores"]["val"]
    assert result.scores["val"].miou == pytest.approx(score["miou"], abs=2e-4)
    assert 0 <= result.checkerboard["2"] <= 1
    again = evaluate_runner(open_run(runs / job.key), open_dataset(DATA, "val"))
    assert result.scores["val"].boundary_iou == pytest.approx(again.boundary_iou, abs=1e-3)
    assert f"Trained and scored on {result.device}" in page

    # what is trained is not trained again, whether it has been scored and written down or not
    trained_ns = (runs / job.key / "done.json").stat().st_mtime_ns
    for lost in ([], [measured], [measured, runs / f"{job.key}.result.json"]):
        for file in lost:
            file.unlink()
        assert ablate(tmp_path, monkeypatch, "--rows", "seeds/two", "--no-page") == 0
        assert (runs / job.key / "done.json").stat().st_mtime_ns == trained_ns
        assert read_results(measured).rows[job.key].scores == result.scores
    measured.unlink()
    assert ablate(tmp_path, monkeypatch, "--page") == 0  # of runs that were brought from elsewhere
    assert read_results(measured).rows[job.key].scores == result.scores
    measured.unlink()

    # what broke goes on from its checkpoint: here its last step had been taken
    (runs / job.key / "done.json").unlink()
    (runs / f"{job.key}.log").unlink()
    assert ablate(tmp_path, monkeypatch, "--rows", "seeds/two") == 0
    assert read_results(measured).rows[job.key].scores == result.scores
    assert "loss" not in (runs / f"{job.key}.log").read_text(encoding="utf-8")


def test_rows_are_trained_in_the_order_given_and_what_they_need_before_them(tmp_path: Path) -> None:
    rows = '{ name = "x", teacher = "loss/large" }, { name = "large", model = "edge-m" }, { name = "same" }'
    study = Study(table(tmp_path, group(rows)), DATA, tmp_path / "runs", tmp_path / "page.md")
    assert [job.id for job in study.select([], ["loss/x", "seeds/two", "loss/large"])] == [
        "loss/large",
        "loss/x",
        "seeds/two",
    ]
    assert [job.id for job in study.select(["loss"], ["seeds/one"])] == ["seeds/one", "loss/large", "loss/x"]
    assert [job.id for job in study.select([], [])] == ["seeds/one", "seeds/two", "loss/large", "loss/x"]


def test_a_teacher_that_was_measured_elsewhere_is_trained_again_only_where_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = '{ name = "x", teacher = "loss/large" }, { name = "large", model = "edge-m" }'
    study = Study(table(tmp_path, group(rows)), DATA, tmp_path / "runs", tmp_path / "page.md")
    jobs = study.select(["loss"], [])
    large, taught = jobs
    begun: list[str] = []
    monkeypatch.setattr("ablate.Pool.run", lambda _pool, missing: begun.extend(job.id for job in missing))

    def missing(**measured: Result) -> list[str]:
        begun.clear()
        write_results(tmp_path / "page.json", msgspec.structs.replace(study.results(), rows=measured))
        study.train(jobs, 1)
        return list(begun)

    assert missing() == ["loss/large", "loss/x"]
    assert missing(**{large.key: scored(0.5)}) == ["loss/large", "loss/x"]  # it was measured, its weights are not here
    assert missing(**{large.key: scored(0.5), taught.key: scored(0.4)}) == []
    (tmp_path / "runs" / large.key).mkdir(parents=True)
    (tmp_path / "runs" / large.key / "done.json").touch()
    assert missing(**{large.key: scored(0.5)}) == ["loss/x"]


def test_what_does_not_exist_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table(tmp_path)
    for words, said in (
        (("--only", "sedes"), "did you mean seeds"),
        (("--latency",), "no row of these groups is timed"),
    ):
        assert ablate(tmp_path, monkeypatch, *words) == 2
        assert said in capsys.readouterr().err


def test_rows_are_timed_in_one_run_trained_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = table(tmp_path, group('{ name = "gelu", set = ["model.activation=gelu"] }', more="latency = true"))
    assert ablate(tmp_path, monkeypatch, "--latency", "--size", "64x96", "--duration", "0.1", "--machine", "busy") == 0
    key = plan_jobs(plan, DATA)["loss/gelu"].key
    timed = read_results(tmp_path / "table.json").latency
    assert timed is not None
    assert timed.rows.keys() == {key}
    assert timed.rows[key]["fp32"].ratio == timed.rows[key]["bf16"].ratio == 1  # to itself
    page = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "networks with their first weights (`tools/ablate.py --latency`" in page
    assert "; busy. In brackets the ratio to *gelu*" in page
