"""Uploads that lie, grow, nest, point elsewhere or break their reader are refused in words; good ones come in."""

from __future__ import annotations

import gzip
import io
import json
import os
import stat
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from hftransfer.data.formats import delimited
from hftransfer.errors import UserError
from hftransfer.ui import delimited_inspection, inspection, uploads
from hftransfer.ui.inspection import Limits
from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import Visitor
from tests import tiny

LIMITS = Limits(unpacked=50 * 2**20, pixels=1_000_000, columns=500)
Build = Callable[[Path], Any]


def png(width: int = 8, height: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(buffer, "PNG")
    return buffer.getvalue()


def png_that_claims(width: int, height: int) -> bytes:
    """Return a few bytes that would decode to any number of pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\x00\x00\x00"
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def archive(**entries: bytes) -> Build:
    return packed([(name.replace("__", "/").replace("_dot_", "."), data) for name, data in entries.items()])


def packed(entries: list[tuple[str | zipfile.ZipInfo, bytes]]) -> Build:
    def build(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, data in entries:
                file.writestr(name, data)

    return build


def text(content: str | bytes) -> Build:
    return lambda path: path.write_bytes(content.encode() if isinstance(content, str) else content)


def parquet(**columns: Any) -> Build:
    return lambda path: pq.write_table(pa.table(columns), path)


def workbook(path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.append(("text", "label"))
    book.save(path)


def a_link() -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo("red/link.png")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


def encrypted(path: Path) -> None:
    packed([("red/a.png", png())])(path)
    data = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + place] |= 1
    path.write_bytes(data)


def nameless(path: Path) -> None:
    """Let a name begin with a zero, where zipfile ends it."""
    packed([("red/a.png", png())])(path)
    path.write_bytes(path.read_bytes().replace(b"red/a.png", b"\0ed/a.png"))


def with_paths(path: Path) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = pa.array([{"bytes": None, "path": "/data/users/bob/uploads/photo.png"}], kind)
    pq.write_table(pa.table({"image": rows, "label": ["a"]}), path)


def overlapping(path: Path) -> None:
    """Let many entries share the bytes of one (Fifield 2019): each claims a packed size of its own."""
    packed([("a.csv", b"text,label\n" + b"x,1\n" * 3_000_000)])(path)
    data = path.read_bytes()
    directory = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    record = data[directory:end]
    many = 10
    tail = bytearray(data[end:])
    tail[8:12] = many.to_bytes(2, "little") * 2
    tail[12:16] = (many * len(record)).to_bytes(4, "little")
    path.write_bytes(data[:directory] + record * many + bytes(tail))


def hidden(path: Path) -> None:
    repeated(path, 200_000, 2_000)


def repeated(path: Path, length: int, rows: int) -> None:
    """Write one long text once, and that every row is that text."""
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), ["x" * length])
    pq.write_table(pa.table({"text": texts, "label": ["a"] * rows}), path)


def repeated_as_text(path: Path, length: int, rows: int) -> None:
    """Write the same, without the note that says it is a dictionary."""
    repeated(path, length, rows)
    table = pq.ParquetFile(path)
    schema = pa.schema([("text", pa.string()), ("label", pa.string())])
    with pq.ParquetWriter(path.with_suffix(".plain"), schema) as writer:
        for batch in table.iter_batches(batch_size=16):
            writer.write_batch(batch.cast(schema))
    path.with_suffix(".plain").rename(path)


def tiff_that_claims(side: int) -> Build:
    """Write a TIFF of a few bytes whose header says how wide and high it is."""

    def build(path: Path) -> None:
        Image.new("L", (9, 9)).save(path, "TIFF")
        data = bytearray(path.read_bytes())
        first = int.from_bytes(data[4:8], "little")
        for at in range(first + 2, first + 2 + 12 * int.from_bytes(data[first : first + 2], "little"), 12):
            if int.from_bytes(data[at : at + 2], "little") in (256, 257):
                data[at + 2 : at + 12] = struct.pack("<HII", 4, 1, side)
        path.write_bytes(data)

    return build


def png_with_a_long_text(path: Path) -> None:
    plain, note = png(), b"zTXtwords\0\0" + zlib.compress(bytes(20 * 2**20))
    at = plain.index(b"IDAT") - 4
    chunk = (len(note) - 4).to_bytes(4, "big") + note + zlib.crc32(note).to_bytes(4, "big")
    path.write_bytes(plain[:at] + chunk + plain[at:])


def flac_that_claims_months(path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(path, [0.0] * 8000, 8000, format="FLAC")
    data = bytearray(path.read_bytes())
    data[21] |= 0x0F
    data[22:26] = b"\xff" * 4
    path.write_bytes(data)


def wav_of_rate(rate: int) -> bytes:
    form = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, rate, rate, 1, 8)
    return b"RIFF" + struct.pack("<I", 1036) + form + b"data" + struct.pack("<I", 1000) + bytes(1000)


HOSTILE: dict[str, tuple[str, Build, str]] = {
    "Parquet of 60 million empty rows": (
        "a.parquet",
        lambda path: pq.write_table(pa.table({"text": pa.nulls(60_000_000)}), path),
        "unpack",
    ),
    "TIFF that claims 3.6 gigapixels": ("a.tiff", tiff_that_claims(60_000), "megapixels"),
    "PNG with a text of 20 MB": ("a.png", png_with_a_long_text, "too large"),
    "SVG named as itself": ("a.svg", text('<svg xmlns="http://www.w3.org/2000/svg"/>'), "something else"),
    "FLAC that claims months": ("a.flac", flac_that_claims_months, "at most 3600 s"),
    "WAV of a rate that is none": ("a.wav", text(wav_of_rate(2**31 - 1)), "cannot be read"),
    "WAV that is text": ("a.wav", text("text,label\n"), "cannot be read"),
    "an empty file": ("a.csv", text(""), "empty"),
    "a program named as a table": ("a.csv", text(b"\x7fELF" + bytes(100)), "something else"),
    "a page named as a table": ("a.csv", text("<!DOCTYPE html><script>alert(1)</script>"), "something else"),
    "a zip named as a table": ("a.csv", archive(a_dot_csv=b"text,label\n"), "something else"),
    "another zip named as a workbook": ("a.xlsx", archive(a_dot_csv=b"text,label\n"), "another zip"),
    "a workbook that unpacks to much": (
        "a.xlsx",
        archive(xl__workbook_dot_xml=b"x", xl__more_dot_xml=bytes(LIMITS.unpacked + 1)),
        "may unpack",
    ),
    "a table that is read where it lies": ("a.zip", archive(a_dot_feather=b"x"), "a saved data set"),
    "zeros named as a table": ("a.csv", text(bytes(4096)), "something else"),
    "a line of 11 MB": ("a.csv", text(b"text,label\n" + b"x" * (11 * 2**20)), "longer"),
    "a million columns": ("a.csv", text(",".join(f"c{i}" for i in range(1_000_000)) + "\n1\n"), "columns"),
    "a thousand columns after semicolons": ("a.csv", text(";".join("c" * 1000) + "\n"), "columns"),
    "a tsv of a thousand columns": ("a.tsv", text("\t".join("c" * 1000) + "\n"), "columns"),
    "a thousand columns after a sign that the file names": (
        "a.csv",
        text("sep=^\n" + "^".join(f"c{i}" for i in range(1000)) + "\n" + "^".join("1" * 1000) + "\n"),
        "columns",
    ),
    "the same in UTF-16": (
        "a.csv",
        text(("sep=^\n" + "^".join(f"c{i}" for i in range(1000)) + "\n").encode("utf-16")),
        "columns",
    ),
    "a thousand columns below empty lines": (
        "a.csv",
        text("\n\r\n" + ",".join(f"c{i}" for i in range(1000)) + "\n"),
        "columns",
    ),
    "a thousand columns after a quote without an end": (
        "a.csv",
        text(",".join(['"c', *(f"c{i}" for i in range(1000))]) + "\n" + ",".join("1" * 1001) + "\n"),
        "columns",
    ),
    "a thousand columns between quotes that a later row belies": (
        "a.csv",
        text('"' + ",".join(f"c{i}" for i in range(1000)) + '"\n' + ",".join(['"1', *"1" * 999]) + "\n"),
        "columns",
    ),
    "a thousand columns after blanks": (
        "a.csv",
        text(" ".join(f"c{i}" for i in range(1000)) + "\n" + " ".join("1" * 1000) + "\n"),
        "columns",
    ),
    "JSON of 100,000 lists in lists": ("a.json", text("[" * 100_000 + "]" * 100_000), ""),
    "a line of JSON nested 500 deep": ("a.jsonl", text('{"a":' * 500 + "1" + "}" * 500), ""),
    "JSON with other fields in every row": (
        "a.jsonl",
        text("\n".join(json.dumps({f"c{i}": 1}) for i in range(2000))),
        "columns",
    ),
    "JSON with a thousand fields inside one": (
        "a.json",
        text(json.dumps([{"a": {f"c{i}": 1 for i in range(1000)}}])),
        "columns",
    ),
    "a line that is no JSON": ("a.jsonl", text('{"text": "a"}\n{"text": '), "JSON"),
    "Parquet that is none": ("a.parquet", text(b"PAR1" + b"x" * 100 + b"PAR1"), "Parquet"),
    "Parquet with a thousand columns": ("a.parquet", parquet(**{f"c{i}": [1] for i in range(1000)}), "columns"),
    "Parquet that unpacks to 400 MB": ("a.parquet", hidden, "unpack"),
    "Parquet that unpacks to 8 GB": ("a.parquet", lambda path: repeated(path, 2**23, 1024), "unpack"),
    "Parquet that unpacks to 100 MB unsaid": ("a.parquet", lambda path: repeated_as_text(path, 2**16, 1600), "unpack"),
    "Parquet with pictures elsewhere": ("a.parquet", with_paths, "paths"),
    "a zip that is none": ("a.zip", text("PK no zip"), "zip"),
    "a zip that leads outside": ("a.zip", packed([("../../evil.png", png())]), "outside"),
    "a zip that leads to the root": ("a.zip", packed([("/etc/cron.d/evil.png", png())]), "outside"),
    "a zip that leads outside on Windows": ("a.zip", packed([("..\\..\\evil.png", png())]), "outside"),
    "a zip with a drive": ("a.zip", packed([("C:\\evil.png", png())]), "outside"),
    "a zip with a link": ("a.zip", packed([(a_link(), b"/etc/passwd")]), "link"),
    "an encrypted zip": ("a.zip", encrypted, "encrypted"),
    "a zip that grows a thousandfold": ("a.zip", packed([("a.csv", b"a,b\n" + bytes(100 * 2**20))]), "proportion"),
    "a zip whose files share their bytes": ("a.zip", overlapping, ""),
    "a zip of folders": (
        "a.zip",
        packed([("a.png", png()), *((f"{i}/", b"") for i in range(4000))]),
        "files and folders",
    ),
    "a zip of folders on the way": (
        "a.zip",
        packed([(f"{i}/" + "a/" * 20 + "a.png", b"") for i in range(400)]),
        "files and folders",
    ),
    "a zip of small files": ("a.zip", packed([(f"{i}.png", b"") for i in range(4000)]), "files and folders"),
    "a packed table named as a table": ("a.csv", text(gzip.compress(b"text,label\n" * 10**6)), "something else"),
    "XML that says itself a billion times": (
        "a.csv",
        text('<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><a>&c;</a>'),
        "something else",
    ),
    "a zip with an entry of no name": ("a.zip", nameless, "no name"),
    "a zip of nothing to read": ("a.zip", archive(a_dot_exe=b"MZ"), "other files"),
    "a zip of volumes": ("a.zip", packed([("images/a.nii.gz", b"\x1f\x8b")]), "MONAI"),
    "a zip of zips": ("a.zip", archive(inner_dot_zip=b"PK\x03\x04"), "other files"),
    "a zip with a control character in a name": ("a.zip", packed([("re\x1b[31md/a.png", png())]), "plain names"),
    "a zip with a name that turns around": ("a.zip", packed([("red/gpj\u202e.png", png())]), "plain names"),
    "a zip with a name of 300 letters": ("a.zip", packed([("x" * 300 + "/a.png", png())]), "plain names"),
    "a zip with 40 folders in folders": ("a.zip", packed([("a/" * 40 + "a.png", png())]), "plain names"),
    "a saved data set, which names files": (
        "a.zip",
        archive(state_dot_json=b'{"_data_files": [{"filename": "/etc/passwd"}]}', a_dot_png=png()),
        "saved data set",
    ),
    "a zip with Arrow memory": ("a.zip", archive(data_dot_arrow=b"ARROW1"), "saved data set"),
    "a zip with metadata of others' pictures": (
        "a.zip",
        archive(a_dot_png=png(), metadata_dot_csv=b"file_name,label\n../../bob/uploads/photo.png,a\n"),
        "beside",
    ),
    "a zip with metadata of a path without suffix": (
        "a.zip",
        archive(a_dot_png=png(), metadata_dot_csv=b"label;file_name\na;/proc/self/environ\n"),
        "beside",
    ),
    "a zip with metadata divided by a sign that it names": (
        "a.zip",
        archive(a_dot_png=png(), metadata_dot_csv=b"sep=^\nfile_name^label\n../../bob/uploads/photo.png^a\n"),
        "beside",
    ),
    "a zip with metadata below an empty line": (
        "a.zip",
        archive(a_dot_png=png(), metadata_dot_csv=b"\nfile_name,label\n../../bob/uploads/photo.png,a\n"),
        "beside",
    ),
    "a zip with metadata after a quote without an end": (
        "a.zip",
        archive(a_dot_png=png(), metadata_dot_csv=b'"label,file_name\na,../../bob/uploads/photo.png\n'),
        "beside",
    ),
    "a zip with metadata that is a list": (
        "a.zip",
        archive(a_dot_png=png(), metadata_dot_json=b'[{"file_name": "../../bob/uploads/photo.png"}]'),
        "beside",
    ),
    "a zip with metadata of a URL": (
        "a.zip",
        archive(a_dot_png=png(), metadata_dot_jsonl=b'{"file_name": "http://169.254.169.254/a.png"}\n'),
        "beside",
    ),
    "a zip with a table of a million columns": ("a.zip", packed([("train.csv", b"c," * 1_000_000)]), "columns"),
    "a zip with a picture of 4 gigapixels": (
        "a.zip",
        packed([("red/a.png", png_that_claims(65535, 65535))]),
        "megapixels",
    ),
    "a zip with a program as a picture": (
        "a.zip",
        packed([("red/a.png", b"%!PS-Adobe\n(%pipe%id) (r) file")]),
        "program",
    ),
    "a zip of texts that are none": ("a.zip", packed([("pos/a.txt", b"\x7fELF\0\0")]), "something else"),
    "a zip of interactions that are none": ("a.zip", packed([("ratings.dat", b"\x7fELF\0\0")]), "something else"),
    "a text that is a page": ("a.txt", text("<script>alert(1)</script>"), "something else"),
    "a zip of broken pictures": ("a.zip", packed([("red/a.png", b"\x89PNG broken")]), "readable"),
    "a picture of 4 gigapixels": ("a.png", text(png_that_claims(65535, 65535)), "megapixels"),
    "a picture of more pixels than allowed": ("a.png", text(png(1100, 1000)), "megapixels"),
    "a picture that is cut off": ("a.png", text(png(200, 200)[:150]), "picture"),
    "PostScript named as a picture": ("a.png", text(b"%!PS-Adobe-3.0 EPSF-3.0\n"), "program"),
    "SVG named as a picture": (
        "a.png",
        text('<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'),
        "program",
    ),
    "a page named as a picture": ("a.jpg", text("<html><script>alert(1)</script>"), "program"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_is_refused_in_words(case: str, tmp_path: Path) -> None:
    name, build, words = HOSTILE[case]
    path = tmp_path / name
    build(path)

    with pytest.raises(UserError) as refused:
        inspection.inspect(path, path.suffix, LIMITS)

    assert words in str(refused.value)
    assert len(str(refused.value)) < 600


GOOD: dict[str, tuple[str, Build]] = {
    "csv": ("rows.csv", lambda path: tiny.text_csv(path, 30)),
    "MovieLens": (
        "ml.zip",
        packed(
            [
                ("ml/ratings.dat", b"1::2::5::978300760\n"),
                ("ml/movies.dat", "2::Été (1995)::Drama\n".encode("latin-1")),
            ]
        ),
    ),
    "RecBole": (
        "ml.zip",
        packed(
            [
                ("ml.inter", b"user_id:token\titem_id:token\n1\t2\n"),
                ("ml.item", b"item_id:token\ttitle:token_seq\n2\ta\n"),
            ]
        ),
    ),
    "pictures beside a cache": ("a.zip", packed([("a/b.png", png()), ("cache.dat", b"\x7fELF\0\0")])),
    "csv in UTF-16": ("rows.csv", text("text;label\nä,b;1\n".encode("utf-16"))),
    "csv of tags and quotes": ("rows.csv", text('text,label\n"<script>alert(1)</script>\n, more",<b>good</b>\n')),
    "jsonl": ("rows.jsonl", lambda path: tiny.token_jsonl(path, 30)),
    "json": ("rows.json", text(json.dumps([{"text": "a", "label": "b"}] * 9))),
    "jsonl named json": ("rows.json", text('{"text": "a"}\n{"text": "b"}\n')),
    "parquet": ("rows.parquet", parquet(text=["a", "b"], label=["x", "y"])),
    "zip of pictures": ("photos.zip", archive(red__1_dot_png=png(), blue__2_dot_png=png())),
    "zip of tables": ("rows.zip", archive(train_dot_csv=b"text,label\na,b\n", test_dot_csv=b"text,label\na,b\n")),
    "zip with metadata": ("photos.zip", archive(a_dot_png=png(), metadata_dot_csv=b"file_name,label\na.png,red\n")),
    "zip of texts": ("texts.zip", archive(pos__1_dot_txt=b"good", neg__1_dot_txt=b"bad")),
    "zip of rarer suffixes": ("photos.zip", archive(a__1_dot_jfif=png(), b__1_dot_jp2=png(), b__2_dot_heic=b"x")),
    "workbook": ("rows.xlsx", workbook),
    "sentences": ("rows.conll", text("Anna B-PER\nlives O\n\n")),
    "translation memory": ("memory.tmx", text('<?xml version="1.0"?><tmx version="1.4"><body></body></tmx>')),
    "a text of a thousand commas": ("a.csv", text("text,label\n" + '"' + "a, " * 1000 + '",1\n')),
    "a first text of a thousand commas": ("a.csv", text('"' + "a, " * 1000 + '",1\n"b, c",0\n')),
    "a table that says what divides it": ("a.csv", text("sep=^\ntext^label\na, b; c^1\n")),
    "metadata with quotes and commas": (
        "a.zip",
        archive(a_dot_png=png(), metadata_dot_csv=b'caption,file_name\n"a cat, at 10:30",a.png\n'),
    ),
    "columns of pandas": ("rows.json", text(json.dumps({"text": {str(i): "a" for i in range(5000)}}))),
    "csv in UTF-16 without its mark": ("rows.csv", text("text;label\nab;1\n".encode("utf-16-le"))),
    "texts": ("ask.txt", text("one\ntwo\n")),
    "zip from a Mac": ("photos.zip", packed([("red/a.png", png()), ("__MACOSX/._a.png", b"\0\1")])),
    "png": ("a.png", text(png())),
}


@pytest.mark.parametrize("case", GOOD)
def test_a_good_file_is_found_to_be_one(case: str, tmp_path: Path) -> None:
    name, build = GOOD[case]
    build(tmp_path / name)

    assert inspection.inspect(tmp_path / name, (tmp_path / name).suffix, LIMITS)


def test_a_look_divides_by_the_rules_of_the_reader() -> None:
    assert delimited_inspection.SIGNS == delimited.DELIMITERS
    assert delimited_inspection.OTHERS == delimited.OTHERS
    assert delimited_inspection.STATED == delimited.EXCEL


def test_a_link_or_a_device_is_no_upload(tmp_path: Path) -> None:
    (tmp_path / "a.csv").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "b.csv")

    for name in ("a.csv", "b.csv"):
        with pytest.raises(UserError, match="link or a device"):
            inspection.inspect(tmp_path / name, ".csv", LIMITS)


# --- coming in ---


def bring(received: Path, name: str, build: Build | None = None) -> Path:
    path = received / "0123abcd" / name
    path.parent.mkdir(exist_ok=True)
    (build or text("text,label\nfine,good\n"))(path)
    return path


def test_a_table_comes_into_the_visitors_own_folder(space: Settings, alice: Visitor, received: Path) -> None:
    kept = uploads.accept(alice, bring(received, "Meine Daten (2).CSV"), space)

    assert kept == alice.uploads / "Meine_Daten_2.csv"
    assert kept.read_text() == "text,label\nfine,good\n"
    assert uploads.listing(alice) == [kept]
    assert not list(alice.temporary.iterdir())


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd.csv", "passwd.csv"),
        ("..\\..\\evil.csv", "evil.csv"),
        (".hidden.csv", "hidden.csv"),
        ('<img src=x onerror="alert(1)">.csv', "img_src_x_onerror_alert_1.csv"),
        ("a\x00b\x1b[31m\n.csv", "ab_31m.csv"),
        ("a; rm -rf $(HOME) `id`.csv", "a_rm_-rf_HOME_id.csv"),
        ("x" * 300 + ".csv", "x" * 80 + ".csv"),
        ("データ.csv", "データ.csv"),
        ("--config=evil.csv", "config_evil.csv"),
    ],
)
def test_names_are_made_safe(given: str, kept: str) -> None:
    assert uploads.safe_name(given) == kept


def test_a_name_of_nothing_gets_one() -> None:
    assert uploads.safe_name("???.csv").startswith("upload-")


def test_a_second_file_of_a_name_does_not_replace_the_first(space: Settings, alice: Visitor, received: Path) -> None:
    first = uploads.accept(alice, bring(received, "rows.csv"), space)
    second = uploads.accept(alice, bring(received, "rows.csv", text("text,label\nother,bad\n")), space)

    assert (first.name, second.name) == ("rows.csv", "rows-2.csv")
    assert "fine" in first.read_text()


def test_paths_of_the_machine_are_no_uploads(space: Settings, alice: Visitor, received: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "secrets.csv"
    elsewhere.write_text("text,label\nsecret,1\n")
    link = received / "link.csv"
    link.symlink_to(elsewhere)
    given = [elsewhere, link, received / ".." / "secrets.csv", received, "/etc/passwd", "/dev/zero", "no\0name.csv"]

    for path in given:
        with pytest.raises(UserError):
            uploads.accept(alice, path, space, kinds=(".csv", ""))
    assert uploads.listing(alice) == []


def test_what_is_too_large_or_too_much_is_refused(space: Settings, alice: Visitor, received: Path) -> None:
    large = bring(received, "large.csv", text(b"text,label\n" + b"a,b\n" * 600_000))
    with pytest.raises(UserError, match="at most 1 MB"):
        uploads.accept(alice, large, replace(space, upload_mb=1))
    with pytest.raises(UserError, match="may be kept"):
        uploads.accept(alice, large, replace(space, disk_mb=1))
    with pytest.raises(UserError, match="ending in"):
        uploads.accept(alice, bring(received, "model.pkl"), space)


def test_a_guest_uploads_nothing(space: Settings, guest: Visitor, received: Path) -> None:
    with pytest.raises(UserError, match="Sign in"):
        uploads.accept(guest, bring(received, "rows.csv"), space)
    assert not guest.folder.exists()


def test_nobody_removes_what_is_not_theirs(space: Settings, alice: Visitor, bob: Visitor, received: Path) -> None:
    theirs = uploads.accept(bob, bring(received, "rows.csv"), space)

    for path in (theirs, f"../../{bob.folder.name}/uploads/rows.csv", "..", "", "rows.csv"):
        with pytest.raises(UserError):
            uploads.remove(alice, path)
    uploads.remove(bob, theirs)
    assert uploads.listing(bob) == []


def test_a_refusal_reaches_the_visitor_and_leaves_nothing(space: Settings, alice: Visitor, received: Path) -> None:
    with pytest.raises(UserError, match="megapixels"):
        uploads.accept(
            alice, bring(received, "bomb.png", text(png_that_claims(65535, 65535))), space, uploads.PICTURES
        )
    assert uploads.listing(alice) == []
    assert not list(alice.temporary.iterdir())


@pytest.mark.parametrize("harm", ["raise SystemExit(9)", "import os; os.kill(os.getpid(), 9)", "print('not json')"])
def test_a_reader_that_breaks_is_a_refusal(
    harm: str, space: Settings, alice: Visitor, received: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = subprocess.run

    def broken(command: list[str], **options: Any) -> Any:
        return run([sys.executable, "-c", harm], **options)

    monkeypatch.setattr(uploads.subprocess, "run", broken)
    with pytest.raises(UserError, match="broke its reader"):
        uploads.accept(alice, bring(received, "rows.csv"), space)


def test_the_reader_is_ended_by_its_own_limit_of_memory(
    space: Settings, alice: Visitor, received: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = bring(received, "rows.json", text(json.dumps([{"text": "x" * 50}] * 2_000_000)))
    assert path.stat().st_size < space.upload_mb * 2**20
    run = subprocess.run

    def small(command: list[str], **options: Any) -> Any:
        code = (
            "import sys; from hftransfer.ui import inspection; inspection.MEMORY = 2**28; sys.exit(inspection.main())"
        )
        return run([sys.executable, "-c", code, command[-1]], **options)

    monkeypatch.setattr(uploads.subprocess, "run", small)
    with pytest.raises(UserError, match="too much memory"):
        uploads.accept(alice, path, space)


def test_the_reader_holds_no_token(
    space: Settings, alice: Visitor, received: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, str]] = []
    run = subprocess.run

    def watched(command: list[str], **options: Any) -> Any:
        seen.append(options["env"])
        return run(command, **options)

    monkeypatch.setattr(uploads.subprocess, "run", watched)
    uploads.accept(alice, bring(received, "rows.csv"), space)
    assert not [value for value in seen[0].values() if "SecretToken" in value]
