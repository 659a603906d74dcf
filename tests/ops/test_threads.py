"""Which tensors go to kernels, and how rows are shared out."""

import pytest
import torch

from likeness.ops.threads import run_rows, suit_kernels


def test_only_the_cpu_in_single_precision_suits():
    assert suit_kernels(torch.zeros(1)) and not suit_kernels(
        torch.zeros(1), torch.zeros(1, dtype=torch.float64)
    )
    assert not suit_kernels(torch.zeros(1, device="meta"))


@pytest.mark.parametrize("count", [0, 1, 2, 7, 100])
def test_every_row_is_taken_once_and_no_share_is_too_small(count):
    before, parts = torch.get_num_threads(), []
    torch.set_num_threads(3)
    try:
        run_rows(lambda first, last: parts.append((first, last)), count, least=5)
    finally:
        torch.set_num_threads(before)
    parts.sort()
    assert [first for first, _ in parts] == [0, *(last for _, last in parts[:-1])] and parts[-1][
        1
    ] == count
    assert len(parts) == max(1, min(3, count // 5)) and all(
        last - first >= min(count, 5) for first, last in parts
    )


def test_what_a_share_raises_reaches_the_caller():
    before = torch.get_num_threads()
    torch.set_num_threads(2)

    def fail_late(first, last):
        if last == 10:
            raise ZeroDivisionError

    try:
        with pytest.raises(ZeroDivisionError):
            run_rows(fail_late, 10)
    finally:
        torch.set_num_threads(before)
