"""What files of rows are called, by their suffix; importing it imports nothing that reads them."""

from __future__ import annotations

BUILDERS = {  # the module of `formats` that reads a table file
    ".csv": "delimited", ".tsv": "delimited", ".json": "json_rows", ".jsonl": "json_rows", ".ndjson": "json_rows",
    ".parquet": "arrow", ".pq": "arrow", ".arrow": "arrow", ".feather": "arrow", ".xlsx": "excel", ".xlsm": "excel",
    ".tmx": "tmx", ".conll": "conll", ".conllu": "conll", ".bio": "conll", ".iob": "conll", ".iob2": "conll",
}  # fmt: skip
TEXTS = frozenset({".txt", ".text"})  # files that hold one text, or one a line
OF_PEOPLE = (".dat", ".inter", ".item", ".data", ".user")  # MovieLens' and RecBole's: who had what, and items
