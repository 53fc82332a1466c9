"""Every shipped configuration builds, names only what exists, and begins with the command that runs it."""

import re
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser

from hftransfer import catalog, config, samples
from hftransfer.samples import table
from hftransfer.upstream.options import training_options

ROOT = Path(__file__).parents[2]
FILES = sorted(path.relative_to(ROOT) for path in (ROOT / "configs").rglob("*.yaml"))
ACCELERATE = [path for path in FILES if path.parent.name == "accelerate"]
RUNS = [path for path in FILES if path not in ACCELERATE]


def test_every_task_has_configurations():
    for task in catalog.tasks():
        assert len([path for path in RUNS if path.parent.name == task]) > 0
    assert {path.stem for path in ACCELERATE} == {"single", "multi_cpu", "ddp", "fsdp2", "deepspeed", "multi_node"}


@pytest.mark.parametrize("path", FILES, ids=str)
def test_first_line_is_the_command_that_runs_it(path):
    first = (ROOT / path).read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith(("# hftransfer train ", "# accelerate launch ")) and path.as_posix() in first.split()


@pytest.mark.parametrize("path", RUNS, ids=str)
def test_run_configuration_builds_and_names_what_exists(path):
    built = config.build(config.read_tree(ROOT / path))
    assert built == catalog.read_config(ROOT / path)  # the names of tasks, methods and their options too
    assert built.task in catalog.tasks() and path.parent.name in (built.task, "configs")
    assert set(built.train.options) or built.method.name == catalog.USUAL
    assert set(built.train.options) <= set(training_options())
    for text, kind in ((built.model, "model"), (built.data.source, "data")):
        name = text.removeprefix(samples.PREFIX)
        assert name == text or samples.SAMPLES[name].is_model == (kind == "model")


@pytest.mark.parametrize("path", RUNS, ids=str)
def test_what_it_says_to_fetch_is_all_that_it_names(path):
    text = (ROOT / path).read_text(encoding="utf-8")
    asked = re.findall(r"hftransfer samples ((?:[a-z0-9-]+ ?)+)", text.replace("\n# ", " "))
    known = {name for part in asked for name in part.split() if name in {*table.SAMPLES, *table.GROUPS}}
    fetched = {one for name in known for one in table.GROUPS.get(name, (name,))}
    built = config.build(config.read_tree(ROOT / path))
    wanted = {
        name.removeprefix(samples.PREFIX)
        for name in (built.model, built.data.source)
        if name.startswith(samples.PREFIX)
    }
    assert wanted <= fetched


@pytest.mark.parametrize("path", ACCELERATE, ids=str)
def test_accelerate_knows_every_name(path):
    loaded = load_config_from_file(str(ROOT / path))  # refuses unknown names at the top
    arguments = vars(launch_command_parser().parse_args(["--config_file", str(path), "train.py"]))
    assert set(loaded.fsdp_config) | set(loaded.deepspeed_config) <= set(arguments)
    assert loaded.num_processes >= 1 and loaded.use_cpu is False  # use_cpu would start one process whatever is asked
