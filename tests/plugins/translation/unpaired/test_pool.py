"""The pool returns earlier images half of the time, once it is full, and is part of the state."""

from __future__ import annotations

import torch
from torch import Tensor

from visiongraft.plugins.translation.unpaired.pool import ImagePool


def numbered(*numbers: int) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float32).reshape(-1, 1, 1, 1).expand(-1, 3, 2, 4)


def numbers(images: Tensor) -> list[int]:
    return [int(number) for number in images[:, 0, 0, 0]]


def test_images_come_back_until_the_pool_is_full() -> None:
    pool = ImagePool((2, 4), capacity=5)
    assert numbers(pool(numbered(1, 2, 3))) == [1, 2, 3]
    assert numbers(pool(numbered(4, 5))) == [4, 5]
    assert numbers(pool.images) == [1, 2, 3, 4, 5]


def test_a_full_pool_exchanges_half_of_the_images_and_loses_none() -> None:
    torch.manual_seed(0)
    pool = ImagePool((2, 4), capacity=20)
    pool(numbered(*range(20)))
    given = list(range(20, 220))
    returned = numbers(pool(numbered(*given)))
    earlier = sum(one != other for one, other in zip(returned, given, strict=True))
    assert 70 < earlier < 130
    assert sorted([*returned, *numbers(pool.images)]) == list(range(220))


def test_state_and_random_numbers_determine_what_comes_next() -> None:
    torch.manual_seed(0)
    pool, other = ImagePool((2, 4), capacity=3), ImagePool((2, 4), capacity=3)
    pool(numbered(*range(8)))
    other.load_state_dict(pool.state_dict())
    found = []
    for each in (pool, other):
        torch.manual_seed(1)
        found.append(numbers(each(numbered(*range(8, 20)))))
    assert found[0] == found[1] != list(range(8, 20))


def test_nothing_is_kept_or_exchanged_in_evaluation_mode() -> None:
    pool = ImagePool((2, 4), capacity=1).eval()
    pool(numbered(1))
    assert numbers(pool(numbered(2))) == [2]
    assert int(pool.held) == 0


def test_no_gradient_passes() -> None:
    made = numbered(1, 2).clone().requires_grad_()
    assert not ImagePool((2, 4))(made).requires_grad
