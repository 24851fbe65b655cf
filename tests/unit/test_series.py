"""Columns of series: their pieces, and PostgreSQL's binary format whatever way it is cut."""

import math
import random
import struct
from collections.abc import Sequence

import pytest

from kubetune.storage import copying, series


def points(piece: series.Piece) -> dict[int, list[tuple[int, float]]]:
    return {number: list(zip(steps.tolist(), values.tolist(), strict=True)) for number, steps, values in piece.each()}


def test_a_piece_gives_back_what_it_was_made_of() -> None:
    given = {7: [(0, 0.5), (2**40, -1.0)], 3: [], 9: [(-5, math.inf)]}
    assert points(series.piece(given)) == given
    assert points(series.piece({})) == {}


def test_by_step() -> None:
    piece = series.piece({0: [(0, 1.0), (5, 2.0)], 1: [(5, 3.0)], 2: [(-1, 4.0), (0, 5.0)]})
    assert [(step, values.tolist()) for step, values in piece.by_step()] == [
        (-1, [4.0]),
        (0, [1.0, 5.0]),
        (5, [2.0, 3.0]),
    ]
    assert list(series.piece({1: []}).by_step()) == []


def array(values: Sequence[float], code: str) -> bytes:
    """A field as `COPY … (FORMAT binary)` has it (PostgreSQL's array_send)."""
    if not values:
        return struct.pack(">iiii", 12, 0, 0, 20)
    elements = b"".join(struct.pack(f">i{code}", 8, value) for value in values)
    return struct.pack(">iiiiii", 20 + len(elements), 1, 0, 20, len(values), 1) + elements


def table(rows: Sequence[tuple[int, Sequence[int], Sequence[float]]]) -> bytes:
    head = b"PGCOPY\n\xff\r\n\0" + bytes(8)
    body = b"".join(
        struct.pack(">hii", 3, 4, number) + array(steps, "q") + array(values, "d") for number, steps, values in rows
    )
    return head + body + struct.pack(">h", -1)


@pytest.mark.parametrize("seed", range(20))
def test_the_binary_format_cut_anywhere(seed: int) -> None:
    draw = random.Random(seed)
    rows = [(1, [3], [0.5, 0.25, 0.125]), (2, [], []), (5, [8], [1.0]), (6, [1, 9], [math.inf, -2.0])]
    draw.shuffle(rows)
    sent = table(rows)
    found: list[series.Piece] = []
    sink = copying.Sink(found.append)
    while sent:
        cut = draw.randint(1, 40)
        sink.write(sent[:cut])
        sent = sent[cut:]
        if draw.random() < 0.5:
            sink.flush()
    sink.flush()
    everything = {number: those for piece in found for number, those in points(piece).items()}
    assert everything == {
        1: [(3, 0.5), (4, 0.25), (5, 0.125)],  # one step, several values: consecutive ones
        2: [],
        5: [(8, 1.0)],
        6: [(1, math.inf), (9, -2.0)],
    }
