"""Damaged files end in one clear line, by every reader; and what would not is found."""

from __future__ import annotations

import os

import pytest

from benchmarks.common.damage import KINDS, damaged
from benchmarks.common.damaged_readers import READERS
from benchmarks.damaged_files import ACCEPTED, BAD, REFUSED, Case, Limits, read_damaged, table


def test_no_reader_does_anything_but_accept_or_refuse_in_one_line():
    results = read_damaged([Case(name, number) for name in READERS for number in range(6)], seed=1)
    assert len(results) == 6 * len(READERS)
    assert not [result for result in results if result.outcome == BAD], table(results)
    refused = [result.said for result in results if result.outcome == REFUSED]
    assert len(refused) > len(results) / 2 and all(
        text.isprintable() and len(text) <= 500 for text in refused
    )


@pytest.mark.slow
def test_no_reader_does_so_with_many_files():
    results = read_damaged(
        [Case(name, number) for name in READERS for number in range(100)], seed=2
    )
    assert not [result for result in results if result.outcome == BAD], table(results)


@pytest.mark.skipif(os.name != "posix", reason="a crash by a signal")
def test_what_is_bad_is_found_and_the_next_files_are_read():
    names = ("refuses", "fails", "crashes", "accepts", "hangs", "leaks", "refuses")
    limits = Limits(megabytes=100, seconds=1)
    results = read_damaged(
        [Case(name, 0) for name in names], limits=limits, module="tests.bad_readers"
    )
    assert [result.outcome for result in results] == [
        REFUSED,
        BAD,
        BAD,
        ACCEPTED,
        BAD,
        BAD,
        REFUSED,
    ]
    said = [result.said for result in results if result.outcome == BAD]
    for text, words in zip(
        said, ("KeyError: \"'frames'\"", "ended with -6", "no end after", " MB")
    ):
        assert words in text
    assert "bad: crashes, number 0: the process ended with -6" in table(results)


@pytest.mark.parametrize("kind", ["bytes", "json", "yaml", "text"])
def test_damage_is_the_same_each_time_and_of_many_ways(kind):
    whole = b'{"a": [1, 2.5, "x"], "b": {"c": true}}'
    found = [damaged(whole, kind, f"seed {number}") for number in range(40)]
    assert found == [damaged(whole, kind, f"seed {number}") for number in range(40)]
    assert len(set(found)) > 25 and set(KINDS) >= {kind}
