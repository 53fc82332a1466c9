"""What each key of a configuration means, in a phrase of Markdown: for the documentation and for the app."""

from __future__ import annotations

import re

KEYS: dict[str, str] = {
    "task": "a task's name: `hftransfer tasks`",
    "model": "a Hub id, a model folder, or `sample:NAME`",
    "revision": "branch, tag or commit of a Hub model",
    "allow_pickle": "read `.bin` weights, a format that can run code when it is read",
    "data.source": "a file, folder, zip, Hub id or `sample:NAME`: see [data](data.md)",
    "data.name": "configuration of a Hub data set, or sheet of a workbook",
    "data.revision": "branch, tag or commit of a Hub data set",
    "data.columns": "column of each role, where it is not found by itself: `{text: review}`",
    "data.train": "split of the source, or a file, to train on",
    "data.validation": "split or file to choose with; cut out of train when there is none",
    "data.test": "split or file to measure on, once; cut out of train when there is none",
    "data.validation_size": "share or number of rows to cut for validation",
    "data.test_size": "share or number of rows to cut for test",
    "data.max_rows": "use so many rows of the whole source, drawn with the seed",
    "data.group": "column whose equal values stay on one side of a cut; `false`: none, not the patients that "
    "[DICOM files](medical.md) name either",
    "data.streaming": "read a source that is larger than the disk from front to back",
    "data.form": "what rows to go on from are: running texts, prompts with completions, or conversations; by the rows",
    "data.problem_type": "what the labels are, where their type does not tell",
    "data.encoding": "of text files, as Python names it: found from the bytes unless given",
    "data.delimiter": "what stands between the fields of CSV files: found unless given",
    "data.quoting": "how a quote inside a quoted field is written: `double`, two of them; `backslash`, one behind it; "
    "`none`: quotes are part of the texts",
    "data.header": "whether the first line of a table names its columns; or a list of names where it does not",
    "data.key": "key of a JSON file under which the rows stand, `results.items`",
    "data.decimal": "what stands before decimals in numbers of text files: `.` or `,`",
    "data.lists": "`false`: texts such as `['a', 'b']` stay texts",
    "data.split_column": "column that says which split a row is in; `false`: none does",
    "data.sentence_column": "column that says which sentence a word is of, in tables of a word a row",
    "data.label_separator": "what stands between several labels in one string; makes the labels multi_label",
    "data.label_pattern": "where a file's path holds its class, such as `{label}.{number}.*` of cat.1.png",
    "data.label_names": "names of labels that are numbers from 0 on: of rows, of masks, of places in lists of 0 and 1",
    "data.label_colors": "of masks whose colours are classes: the colour of each of `data.label_names`, `#ff8000`",
    "data.ignore_value": "value of pixels of masks that are neither learned nor measured: found in the masks unless "
    "given; -1: none",
    "data.tile": "pixels a side of overlapping tiles that larger pictures are cut into, for training and answers: "
    "whole pictures unless given",
    "data.background_class": "class that is around the objects, left out of the mean Dice and of drawings: found in "
    "the masks unless given; `none`: every class counts alike",
    "data.bad_rows": "drop rows that cannot be used with a warning, or refuse the data",
    "data.max_length": "tokens at which a text is cut: by [the rows' own lengths](data.md#long-texts) unless given",
    "data.max_seconds": "seconds of a recording that a model is shown at once: its own limit, or 30, unless given",
    "data.max_target_length": "tokens at which a target is cut: the model's limit, at most 512, unless given",
    "data.long_targets": "cut, drop or refuse training rows whose target is longer: cut unless given, but for "
    "transcripts, which are refused where the decoder has no place for them",
    "data.stride": "tokens that two windows of a long text share; a quarter of a window unless given",
    "data.packing": "put [several rows of train](tasks/text-generation.md#packing) into one item",
    "data.history": "items of somebody's [history](tasks/recommendation.md#what-is-particular-to-it) that a model "
    "reads, the newest; 20 unless given",
    "data.cut": "what divides [interactions](tasks/recommendation.md#splits): `time` (one moment for all), `user` "
    "(people), `last` (each one's last)",
    "data.crowd": "recommend [by what people had too](tasks/recommendation.md#what-people-had), popularity and what "
    "goes together, beside what a model reads, by shares that validation rows choose",
    "data.prefix": "what stands before each input, `summarize: `; what the model's config says unless given",
    "data.entry_prefix": "what stands before each [passage](tasks/retrieval.md#what-is-particular-to-it) that is "
    "searched, `passage: `; `data.prefix` stands before a question",
    "data.source_language": "language of the inputs: a code of the tokenizer, of models that mark texts with theirs",
    "data.target_language": "language of the targets",
    "data.unlabelled": "pictures, recordings or a table, without labels: [self-training](ladder.md#few_shot)",
    "data.corrections": "CSV file of labels that people [mended](data.md#labels-that-were-mended)",
    "data.added": "file of JSON lines: [rows that people added](data.md#rows-that-were-added) to train",
    "data.label_issues": "list train rows that [may be labelled wrongly](data.md#rows-that-may-be-labelled-wrongly)",
    "data.likely_copies": "list rows that are [likely copies](data.md#likely-copies) by their features",
    "data.boxes": "what the four numbers of a [box](tasks/object-detection.md#boxes) are: left, top, width, height "
    "(`xywh`), corners (`xyxy`), or middle and size (`cxcywh`); told by the values unless given",
    "data.depth": "range of deep [pictures](data.md#pictures) that is shown as 0 to 255; by the rows unless given",
    "data.window": "`own`: a [DICOM file](medical.md) is shown by the window that it names, `same`: all by "
    "`data.depth`; by the rows unless given",
    "data.background": "`white` or `black` behind the transparent parts of pictures; white unless given",
    "data.reduced": "train on [smaller copies](data.md#pictures) of pictures that are far larger than the model takes",
    "data.augmentation": "random changes to training images and recordings; `false`: none, `true`: the defaults",
    "data.augmentation.crop": "smallest share of the area that a random crop keeps",
    "data.augmentation.flip": "mirror left and right, half of the time",
    "data.augmentation.upside_down": "turn upside down, half of the time: for pictures taken from above",
    "data.augmentation.color": "brightness, contrast and saturation vary by up to this share",
    "data.augmentation.mosaic": "share of training pictures that are put together of four; for boxes and masks",
    "data.augmentation.gain": "recordings are made louder or softer by up to so many dB",
    "data.augmentation.noise": "loudest white noise that is added, as a share of a recording's own loudness",
    "data.augmentation.time_mask": "longest stretch of a recording that is silenced, as a share of its time",
    "method.name": "a method's name; the section's other keys are [the method's own](methods.md)",
    "auto.minutes": "what `auto` may take for [fine-tuning](defaults.md#auto); no bound unless given",
    "auto.trials": "measure the learning rate",
    "train.auto": "[rules](defaults.md#rules) choose what is not set; `train: auto` says the same",
    "train.class_weights": "`balanced`, or a weight for each label name; 1 for those not named",
    "train.early_stopping_patience": "stop after so many evaluations without improvement",
    "train.early_stopping_threshold": "the least that counts as an improvement",
    "train.save_minutes": "make a checkpoint so often too, whatever `save_strategy` says; the weights stay the same",
    "evaluation.metrics": "[metrics](evaluation.md) beside the default ones",
    "evaluation.at": "[operating point](evaluation.md#operating-point): one of the three below",
    "evaluation.at.specificity": "the least share of the other rows that is left alone",
    "evaluation.at.sensitivity": "the least share of the positive rows that is found",
    "evaluation.at.cost": "least cost, in any unit",
    "evaluation.at.cost.false_positive": "cost of a row that is answered as positive and is not",
    "evaluation.at.cost.false_negative": "cost of a row that is positive and not answered so",
    "evaluation.positive": "the class of two that is looked for; by its name (`positive`, `yes`, `1`, ...), else the "
    "rarer one of train",
    "evaluation.prevalence": "share of the positive class where the model is used, for PPV and NPV; that of the test "
    "rows unless given",
    "evaluation.folds": "[cross-validation](evaluation.md#folds) over all rows in so many folds, beside the test",
    "evaluation.repeats": "times that all folds are gone through, each time with others and another seed",
    "evaluation.slices": "columns, not shown to the model, by which the test is [told apart](evaluation.md#slices)",
    "evaluation.confidence": "level of the intervals",
    "evaluation.resamples": "bootstrap resamples",
    "evaluation.max_new_tokens": "most tokens of a written answer; 1.5 times train's longest target unless given",
    "evaluation.forgetting": "measure [what was forgotten](tasks/text-generation.md#what-was-forgotten)",
    "evaluation.num_beams": "beams of the search for a written answer; what the model's own settings say unless given",
    "evaluation.calibrate": "fit a temperature on the validation rows for the Predictor's probabilities",
    "hub.repo": "`user/name` (or `name`, under your own) to [publish](hub.md) to",
    "hub.private": "only you see a repo that is made for it",
    "hub.push": "publish when the run is done; everything it needs is checked before it starts",
    "hub.checkpoints": "push checkpoints to a branch of `hub.repo`, so that another machine can resume",
    "hub.onnx": "publish the model [as ONNX](export.md) too, for onnxruntime and transformers.js",
    "hub.license": "licence of the published model as the Hub names it, in place of the base model's",
    "speed.tune": "time a few real steps with each attention kernel, precision and memory layout; take the fastest",
    "speed.attention": "attention kernel, instead of timing: `sdpa`, `eager`, ...",
    "speed.short_clips": "train a Whisper's encoder on as much of its 30 seconds as the clips of a batch fill",
    "speed.threads": "CPU threads of one process; the cores shared among the processes unless given",
    "seed": "of everything that is drawn",
    "output": "the run's folder; `runs/<time>-<task>-<model>-<method>` unless given",
}


def plain(path: str) -> str:
    """Return what a key means without Markdown; nothing for a key of a neighbour's."""
    told = re.sub(r"\[([^]]+)\]\([^)]*\)", r"\1", KEYS.get(path, "")).replace("`", "")
    return f"{told[:1].upper()}{told[1:]}." if told else ""
