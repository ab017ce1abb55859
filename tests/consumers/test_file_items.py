"""Catalogues from files: fields, attributes, and MovieLens' own formats."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from consumers.files import read_items
from stream_rec.errors import InputFileError
from stream_rec.records import Item, Rejected
from tests.consumers.written_files import (
    parquet_file,
    text_file,
)


def test_movielens_catalogues_are_recognised(tmp_path: Path) -> None:
    movies = text_file(
        tmp_path / "movies.csv",
        'movieId,title,genres\n1,"Toy Story, The (1995)",Animation|Comedy\n2,Odd (2001),(no genres listed)\n',
    )
    assert list(read_items(movies)) == [
        Item("1", "Toy Story, The (1995)", ["Animation", "Comedy"]),
        Item("2", "Odd (2001)"),
    ]
    flags = "|".join("1" if place in (3, 5) else "0" for place in range(19))
    line = f'543|Misérables, "Les" (1995)|01-Jan-1995||http://x|{flags}\n'
    assert list(read_items(text_file(tmp_path / "u.item", line.encode("latin-1")))) == [
        Item("543", 'Misérables, "Les" (1995)', ["Animation", "Comedy"], attributes={"year": 1995.0})
    ]


def test_a_catalogue_reads_fields_and_attributes(tmp_path: Path) -> None:
    expected = [
        Item("1", "Lamp", ["home", "light"], 9.5, ["new"], False, {"colour": "red", "watts": 40.0}),
        Item("2", None, [], None, [], True, {"watts": 60.0}),
    ]
    csv = text_file(
        tmp_path / "items.csv",
        "item_id,title,categories,price,tags,available,colour,watts\n1,Lamp,home|light,9.5,new,FALSE,red,40\n2,,,,,,,60\n",
    )
    parquet = parquet_file(
        tmp_path / "items.parquet",
        {
            "item_id": [1, 2],
            "title": ["Lamp", None],
            "categories": [["home", "light"], None],
            "price": [9.5, None],
            "tags": [["new"], []],
            "available": [False, None],
            "colour": ["red", None],
            "watts": [40, 60],
        },
    )
    wire = text_file(tmp_path / "items.jsonl", b"\n".join(map(msgspec.json.encode, expected)))
    for path in (csv, parquet, wire):
        assert list(read_items(path)) == expected


def test_a_bad_row_of_a_catalogue_is_reported_or_raised(tmp_path: Path) -> None:
    path = text_file(tmp_path / "items.csv", "sku,price,available\na,1,yes\n,1,\nc,cheap,\nd,1,perhaps\ne,2,no\n")
    rejected: list[Rejected] = []
    items = list(read_items(path, {"item_id": "sku"}, on_rejected=rejected.append))
    assert [(item.item_id, item.available) for item in items] == [("a", True), ("e", False)]
    assert [(row.reason, row.origin.offset) for row in rejected] == [("wrong_shape", row) for row in (1, 2, 3)]
    with pytest.raises(InputFileError, match="row 2: wrong_shape: item_id is null"):
        list(read_items(path, {"item_id": "sku"}))
    with pytest.raises(InputFileError, match="--map item_id=COLUMN"):
        read_items(path)


@pytest.mark.logs
def test_real_catalogues_are_read_whole(event_logs: Path) -> None:
    items = list(read_items(event_logs / "ml100k.items.parquet"))
    assert len(items) == 1_682
    stupids = next(item for item in items if item.item_id == "1001")
    assert stupids == Item("1001", "Stupids, The", ["Comedy"], attributes={"year": 1996.0})
