"""The page of benchmarks is written section by section, and its means, times and correlations are what they say."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.stats
import transformers

from benchmarks import before, cold, figures, gpu, gpu_scene, gpu_table, guard, page, run, shares, tuning
from benchmarks.measuring import Sizes
from hftransfer.runs import Run

PAGE = "# Benchmarks\n\nA head.\n\n## One\n\nold one\n\n### Inner\n\nold\n\n## Two\n\nold two\n"


def test_a_section_is_written_in_place_and_the_others_stay() -> None:
    written = page.put(PAGE, "One", "new one\n")
    assert written == "# Benchmarks\n\nA head.\n\n## One\n\nnew one\n\n## Two\n\nold two\n"
    assert page.put(written, "One", "new one") == written


def test_a_new_section_stands_last_and_a_new_page_has_a_head() -> None:
    assert page.put(PAGE, "Three", "new").endswith("## Two\n\nold two\n\n## Three\n\nnew\n")
    assert page.put("", "One", "new") == f"{page.HEAD}\n\n## One\n\nnew\n"


def test_the_page_has_the_head_and_the_sections_that_the_parts_write() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    named = {part.title: name for name, part in run.PARTS.items()}
    assert text.startswith(page.HEAD)
    for section in text.split("\n## ")[1:]:
        title, stamp = section.split("\n")[0], section.split("\n")[2]
        assert re.match(rf"`python -m benchmarks.run {named[title]}\b[^`]*`, \d{{4}}-\d\d-\d\d\. .* cores", stamp), (
            title
        )


def test_what_is_told_of_before_and_now_stands_on_the_page() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert [one for one in before.FIGURES if one.of(text) is None] == []
    one = before.Figure("One", "x", r"ratio \*\*([\d.]+)\*\*", "2", "%")
    held = "# B\n\n## One\n\n`x`, 2026-01-02. ratio **1.5**\n\n## Two\n\n`x`, 2026-01-03. ratio **9**\n"
    assert one.of(held) == ("1.5%", "2026-01-02") and one.of(held.replace("ratio **1.5**", "")) is None


def test_writing_replaces_what_was_measured_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "benchmarks.md"
    target.write_text(PAGE)
    monkeypatch.setattr(page, "PAGE", target)
    parts = {"two": run.Part("Two", 1, lambda folder, sizes: f"seeds {sizes.seeds}, in {folder.is_dir()}")}
    monkeypatch.setattr(run, "PARTS", parts)
    run.main(["two", "--seeds", "3", "--write"])
    written = target.read_text()
    assert "old one" in written and "old two" not in written
    assert "seeds 3, in True" in written and "`python -m benchmarks.run two --seeds 3`, 20" in written


def test_names_are_parts_or_groups_in_the_order_of_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.chosen([]) == [*run.ENGINE, *run.LADDER], "what takes a day is measured by name alone"
    assert run.chosen(["regret"]) == ["regret"]
    assert run.chosen(["rank", "hub", "rank"]) == ["hub", "rank"]
    assert run.chosen(["ladder"]) == list(run.LADDER)
    with pytest.raises(SystemExit):
        run.chosen(["ladders"])
    assert "ladders" in capsys.readouterr().err


def test_figures_of_few_rows_are_kept_off_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run.main(["probe", "--rows", "100", "--write"])
    assert "not for the page" in capsys.readouterr().err


def test_a_paired_difference_has_the_interval_of_a_paired_t_test() -> None:
    ours, theirs = [0.80, 0.83, 0.79, 0.85, 0.82], [0.78, 0.80, 0.80, 0.81, 0.80]
    interval = scipy.stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    said = [float(number) for number in re.findall(r"[+-]\d+\.\d", figures.paired(ours, theirs))]
    assert said == pytest.approx([2.0, 100 * interval.low, 100 * interval.high], abs=0.05)
    assert figures.paired([0.5], [0.4]) == "+10.0"


def test_a_level_is_reached_at_the_first_look_that_is_there() -> None:
    curve = [(1.0, 0.5), (2.0, 0.7), (3.0, 0.6), (4.0, 0.8)]
    assert [figures.reached(curve, level) for level in (0.5, 0.65, 0.8)] == [1.0, 2.0, 4.0]
    assert figures.reached(curve, 0.81) == float("inf")


def test_the_interval_of_a_correlation_is_wide_where_the_true_order_is_noise() -> None:
    rng = np.random.default_rng(0)
    truth = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    clear = truth[:, None] + rng.normal(0, 1e-4, (5, 500))
    noisy = truth[:, None] + rng.normal(0, 0.3, (5, 500))
    assert figures.agreement(truth, clear, truth) == pytest.approx((1.0, 1.0, 1.0))
    value, low, high = figures.agreement(truth, noisy, truth)
    assert value == pytest.approx(1.0) and low < 0.3 and high - low > 0.5
    assert figures.spearman(truth, [1, 1, 1, 1, 1]) == 0.0


def test_seconds_of_training_count_what_came_before_the_first_step_and_no_looking(tmp_path: Path) -> None:
    events = [
        {"type": "phase", "time": 10.0, "name": "features"},
        {"type": "phase", "time": 14.0, "name": "tuning"},
        {"type": "evaluation", "time": 17.0, "step": 0, "metrics": {"accuracy": 0.5}},
        {"type": "log", "time": 18.0, "step": 1, "examples_per_second": 32.0},
        {"type": "log", "time": 20.0, "step": 2, "examples_per_second": 16.0},
        {"type": "evaluation", "time": 30.0, "step": 2, "metrics": {"accuracy": 0.7}},
    ]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    result = {"cost": {"train_seconds": 7.0}, "test": {"metrics": {"accuracy": {"value": 0.6}}}}
    (tmp_path / "result.json").write_text(json.dumps(result))
    (tmp_path / "predictions").mkdir()
    pq.write_table(pa.table({"scores": [[0.4, 0.6]]}), tmp_path / "predictions" / "test.parquet")
    trained = tuning.read(Run(tmp_path))
    assert trained.fitting == 2 * tuning.BATCH / 16.0 == 4.0
    assert trained.before == 4.0 + 3.0  # the probe's head, and what the run counts beyond its steps
    assert trained.curve == [(7.0, 0.5), (11.0, 0.7)]
    assert (trained.steps, trained.accuracy, trained.scores.tolist()) == (2, 0.6, [[0.4, 0.6]])


def test_regret_is_against_what_validation_would_have_kept(tmp_path: Path) -> None:
    from benchmarks import regret
    from benchmarks.regret_table import Outcome, Settings, best_of, made, read, told, whole

    def outcome(way: str, test: float, validation: float, seconds: float, seed: int = 0) -> Outcome:
        scores = ({"accuracy": test}, {"accuracy": validation})
        return Outcome("digits", 200, seed, way, "accuracy", *scores, seconds)

    found = [outcome("auto", 0.80, 0.7, 30.0), outcome("probe", 0.78, 0.9, 1.0),
             outcome("full 1e-05", 0.90, 0.6, 10.0), outcome("full 0.001", 0.82, 0.8, 20.0),
             outcome("auto", 0.10, 0.1, 3.0, seed=1)]  # fmt: skip
    blocks = whole(found)
    assert list(blocks) == [("digits", 200, 0)], "a block that was not finished is none"
    assert best_of(blocks["digits", 200, 0]).score == 0.82, "not the one that tests best, nor the probe"
    settings = Settings(14, 7.0, "a machine", {"hftransfer": "1"}, "2026-11-30")
    page = told(found, settings)
    assert "**-2.0** points from the grid's best and **+2.0** from the probe" in page
    assert "2.0 times the seconds of one full run" in page and "digits at 200" in page
    lines = [json.dumps({"settings": asdict(settings)}), *(json.dumps(asdict(one)) for one in found)]
    (tmp_path / "runs.jsonl").write_text("\n".join(lines))
    assert read([tmp_path / "runs.jsonl"]) == (found, settings), "a file holds all that is told"
    assert not made(tmp_path / "none.jsonl")
    other = replace(settings, machine="another machine", day="2026-12-01")
    failed = replace(outcome("probe", 0.1, 0.1, 1.0, seed=1), error="no memory")
    more = [json.dumps({"settings": asdict(other)}), json.dumps(asdict(failed))]
    (tmp_path / "runs.jsonl").write_text("\n".join([*lines, *more]))
    done = made(tmp_path / "runs.jsonl")
    assert len(done) == len(found) and ("digits", 200, 1, "probe") not in done, "what failed is run again"
    both = read([tmp_path / "runs.jsonl"])[1]
    assert (both.machine, both.day) == ("a machine and another machine", "2026-12-01")
    names = [name for name, _ in regret.ways("vader-tweets", 7)]
    assert names[:2] == ["auto", "probe"] and len(names) == 16
    assert len(list(regret.ways("emoji", 7))) == 9, "a convolution takes no LoRA"
    order = [cell.block for cell in regret.cells(regret.SETS, (200, 500), range(2), 7)]
    assert [seed for _, _, seed in order] == sorted(seed for _, _, seed in order), "a stop leaves whole seeds"


def measured_on_a_gpu() -> list[dict[str, object]]:
    """Return figures as benchmarks.gpu writes them, with round numbers."""
    common = {"tokens": 1e6, "step": 0.01, "before": 2.0, "memory_mb": 4000, "waiting": 0.25, "weights": 1e8}
    versions = dict.fromkeys(gpu_table.NAMED, "1.0")
    return [
        {"figure": "machine", "day": "2026-01-02", "cores": 16, "gpu": "A card", "gpu_mib": 143360, "memory_gib": 128,
         "versions": versions},
        {"figure": "product", "type": "bfloat16", "tflops": 800.0},
        {"figure": "copy", "gbytes": 4300.0},
        {"figure": "overhead", "rows": 32, "steps": 40, "tokens_a_row": 25.0, "body": 10e6, "examples": 4000.0,
         "seconds": {"hftransfer": [1.03, 1.03], "trainer": [1.02, 1.02], "loop": [1.0, 1.0]}},
        {"figure": "pictures", "workers": 8, "examples": 1000.0, **common},
        {"figure": "chat", "model": "1B", "way": "lora", "examples": 10.0, **common},
        {"figure": "waits", "what": "text", "steps": 50, "places": {"transformers/masking_utils.py:369": 50}},
        {"figure": "failed", "part": "compiled", "why": "no compiler"},
    ]  # fmt: skip


def test_the_section_of_a_gpu_says_what_was_measured_and_what_was_not() -> None:
    text = gpu_table.section(measured_on_a_gpu())
    assert re.match(r"`python -m benchmarks.run gpu`, 2026-01-02\. A card, 140 GiB; 16 cores, 128 GiB\. ", text)
    assert "| 32 | hftransfer | 1.030, 1.030 | +3.0% |" in text
    assert "4,000 examples/s, 6 TFLOP/s, **0.8%** of the product" in text
    assert "| pictures, 8 loader processes | 1,000 pictures | 10.0 | 4,000 | 2.0 | 101 TFLOP/s, **12.6%** of" in text
    assert "| 1B, lora | 1,000,000 tokens | 10.0 | 4,000 | 2.0 | 400 TFLOP/s, **50.0%** of the product |" in text
    assert "Waits for the GPU in a step of text: transformers/masking_utils.py:369 1." in text
    assert "Not measured: compiled (no compiler)." in text and "4-bit weights" in text


def test_a_file_of_figures_becomes_the_section(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found, target = tmp_path / "gpu.jsonl", tmp_path / "benchmarks.md"
    found.write_text("".join(json.dumps(one) + "\n" for one in measured_on_a_gpu()))
    monkeypatch.setattr(page, "PAGE", target)
    gpu.main(["--table", str(found)])
    shown = capsys.readouterr().out
    gpu.main(["--table", str(found), "--write"])
    assert f"## {gpu_table.TITLE}\n\n{shown.strip()}" in target.read_text()


def test_a_part_that_fails_costs_the_others_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(bench: gpu.Bench) -> gpu.Figures:
        yield {"figure": "first"}
        raise RuntimeError("no such kernel")

    monkeypatch.setitem(gpu.PARTS, "seen", fails)
    out = tmp_path / "gpu.jsonl"
    gpu.main(["--out", str(out), "--tiny", "--parts", "seen,peaks"])
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [one["figure"] for one in lines] == ["machine", "first", "failed", "product", "product", "copy"]
    assert lines[2] == {"figure": "failed", "part": "seen", "why": "RuntimeError: no such kernel"}
    gpu.main(["--out", str(out), "--tiny", "--parts", "peaks", "--minutes", "0"])
    assert json.loads(out.read_text().splitlines()[-1])["figure"] == "left out"


def test_the_engine_is_held_against_a_trainer_and_a_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sizes that prove it runs, on the same ways that a GPU is measured with."""
    monkeypatch.setattr(gpu, "ROUNDS", 1)
    gpu.main(["--out", str(tmp_path / "gpu.jsonl"), "--tiny", "--parts", "overhead"])
    (found,) = [json.loads(line) for line in (tmp_path / "gpu.jsonl").read_text().splitlines()][1:]
    assert found["figure"] == "overhead" and set(found["seconds"]) == {"hftransfer", "trainer", "loop"}
    assert all(seconds[0] > 0 for seconds in found["seconds"].values())


@pytest.mark.long
def test_every_figure_of_a_gpu_is_measured(tmp_path: Path) -> None:
    out = tmp_path / "gpu.jsonl"
    script = page.ROOT / "benchmarks" / "gpu.sh"
    subprocess.run([str(script), str(out), "--tiny"], check=True, env={**os.environ, "PYTHON": sys.executable})
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert {one["figure"] for one in lines} >= {"product", "copy", "overhead", "timed", "chat", "pictures", "compile"}
    assert not [one for one in lines if one["figure"] == "failed"]


def test_the_parts_of_a_run_are_between_its_events() -> None:
    events = [
        {"type": "launched", "time": 10.0}, {"type": "process", "time": 11.0},
        *({"type": "phase", "name": name, "time": at} for name, at in (("data", 12.0), ("training", 15.0))),
        {"type": "step", "time": 16.0}, {"type": "phase", "name": "data", "time": 20.0},
        {"type": "done", "time": 21.0},
    ]  # fmt: skip
    assert shares.phases(events) == {"start": 2.0, "data": 4.0, "training": 5.0}


def test_kernels_are_counted_by_kind_and_the_rest_is_python() -> None:
    kernels = [
        ("aten::addmm", 3.0), ("aten::mm", 1.0), ("aten::_scaled_dot_product_flash_attention", 1.0),
        ("aten::gelu", 0.5),
        ("aten::native_layer_norm", 0.5), ("aten::native_dropout", 0.5), ("aten::embedding_dense_backward", 0.25),
        ("aten::_fused_adamw_", 0.5), ("aten::copy_", 0.25), ("aten::add_", 0.5),
    ]  # fmt: skip
    found = shares.by_kind(kernels, 10.0)
    assert next(iter(found)) == "matrix products" and found["matrix products"] == 4.0
    assert found[shares.CALLS] == pytest.approx(2.0) and found[shares.REST] == 0.5
    assert sum(found.values()) == pytest.approx(10.0)
    assert "| matrix products | 4.00 | 40% |" in shares.told(found)


def test_the_shares_of_real_steps_make_up_their_time(tmp_path: Path) -> None:
    bench = gpu.Bench(tmp_path, gpu.TINY)
    with bench.scene(bench.text()) as (setup, model):
        found = shares.steps(setup, model, 1e-4, warm=1)
    used = {name for name, seconds in found.items() if seconds > 0}
    assert {"matrix products", "norms", "optimizer and clipping", shares.CALLS} <= used


def test_a_first_answer_is_imports_loading_and_asking(tmp_path: Path) -> None:
    settings = transformers.BertConfig(**gpu_scene.TINY.text)
    transformers.BertForSequenceClassification(settings).save_pretrained(tmp_path)
    gpu_scene.reader("[CLS] $A [SEP]").save_pretrained(tmp_path)
    for found in (cold.ours(str(tmp_path), "w1 w2"), cold.theirs(str(tmp_path), "w1 w2")):
        assert list(found) == ["imports", "loading", "answering"] and min(found["loading"], found["answering"]) > 0


def test_the_first_step_is_told_with_and_without_imports() -> None:
    events = [{"type": "launched", "time": 10.0}, {"type": "phase", "name": "imports", "time": 11.0},
              {"type": "phase", "name": "data", "time": 15.0}]  # fmt: skip
    assert shares.until_first_step(events) == ""
    said = shares.until_first_step([*events, {"type": "step", "time": 22.0}, {"type": "step", "time": 30.0}])
    assert "after **12.0 s**, 8.0 s of them after the imports" in said


def test_scores_and_plots_of_made_up_answers_are_timed() -> None:
    assert all(seconds > 0 for seconds in shares.measuring(200).values())


def test_others_work_is_told_and_ones_own_is_not() -> None:
    watch = page.Others()
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    mine = watch.cores()
    theirs = page.Others()
    theirs.began = theirs.began[0] - 1.0, theirs.began[1] - 30.0  # 30 seconds of others within one
    assert theirs.cores() > mine + 5
    assert page.busy(0.0) == "" and "The machine was busy" in page.busy(float(os.cpu_count() or 1))


def test_the_guard_ends_with_an_error_beyond_the_noise_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"hftransfer": [1.00, 1.02, 0.99, 1.01], "trainer": [1.0] * 4, "loop": [0.99, 1.0, 1.0, 1.0]}
    monkeypatch.setattr(guard, "module", lambda *words: {"seconds": seconds})
    sizes = Sizes(2, 1, None, 1, 0)
    assert "slower" not in guard.measure(tmp_path, sizes)
    seconds["loop"] = [0.90, 0.92, 0.91, 0.90]
    with pytest.raises(SystemExit) as ended:
        guard.measure(tmp_path, sizes)
    assert "beyond the noise: loop" in str(ended.value)
    seconds["loop"] = [0.5, 1.5, 0.6, 1.4]  # as far off on the whole, and noise
    found = guard.measure(tmp_path, sizes)
    assert "slower" not in found and "cannot be told" in found and "Not compared with an earlier" in found
    verdicts = [guard.verdict([0.01, 0.012, 0.011], limit) for limit in (0.005, 0.011, 0.05)]
    assert verdicts == ["slower", "cannot be told by these rounds", "holds"]
    monkeypatch.setattr(guard, "rates", lambda *given: ([90.0, 91.0, 90.0, 90.5], [100.0] * 4))
    with pytest.raises(SystemExit, match="hftransfer of /old/bin/python"):
        guard.measure(tmp_path, dataclasses.replace(sizes, against="/old/bin/python"))
