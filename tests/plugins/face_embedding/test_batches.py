"""Batches of several identities with several images each."""

from __future__ import annotations

from collections import Counter

import pytest

from visiongraft.plugins.face_embedding.batches import balanced_batches

EVEN = [i // 10 for i in range(300)]
UNEVEN = [0] * 200 + [i for i in range(1, 21) for _ in range(5)] + [21, 22, 23]


def flat(batches: list[list[list[int]]]) -> list[int]:
    return [i for batch in batches for part in batch for i in part]


def test_batches_hold_p_identities_with_k_images() -> None:
    batches = balanced_batches([i // 8 for i in range(240)], 32, 4)
    assert len(batches) >= 7
    for (batch,) in batches[:-1]:
        counts = Counter(i // 8 for i in batch)
        assert set(counts.values()) == {4}
        assert len(counts) == 8


def test_an_epoch_sees_each_image_once_if_identities_are_alike() -> None:
    positions = flat(balanced_batches(EVEN, 32, 4))
    assert len(positions) == len(set(positions))
    assert len(positions) >= 0.95 * 300


def test_no_identity_is_in_a_batch_twice() -> None:
    for labels in (EVEN, UNEVEN):
        for (batch,) in balanced_batches(labels, 16, 4):
            assert max(Counter(labels[i] for i in batch).values()) <= 4
            assert len({labels[i] for i in batch}) > 1


def test_an_identity_with_far_more_images_waits_for_other_epochs() -> None:
    seen: set[int] = set()
    for epoch in range(30):
        positions = flat(balanced_batches(UNEVEN, 16, 4, epoch=epoch))
        assert len(positions) == len(set(positions))
        assert Counter(UNEVEN[i] for i in positions)[0] < 200
        seen.update(positions)
    assert seen == set(range(len(UNEVEN)))  # everything gets its turn


def test_seed_and_epoch_decide_and_nothing_else() -> None:
    def batches_of(seed: int, epoch: int) -> list[list[list[int]]]:
        return balanced_batches(UNEVEN, 16, 4, seed=seed, epoch=epoch)

    assert batches_of(0, 3) == batches_of(0, 3)
    assert batches_of(0, 3) != batches_of(0, 4)
    assert batches_of(0, 3) != batches_of(1, 3)


@pytest.mark.parametrize("processes", [2, 3])
def test_each_process_has_pairs_of_its_own(processes: int) -> None:
    batches = balanced_batches(EVEN, 16, 4, processes)
    for batch in batches[:-1]:
        assert len(batch) == processes
        owners = [{EVEN[i] for i in part} for part in batch]
        for part, own in zip(batch, owners, strict=True):
            assert len(part) <= 16
            assert len(own) == 4
            assert max(Counter(EVEN[i] for i in part).values()) > 1
        assert sum(map(len, owners)) == len(set().union(*owners))  # an identity stays together


def test_a_small_batch_still_holds_two_identities() -> None:
    for (batch,) in balanced_batches(EVEN, 4, 4):
        assert len({EVEN[i] for i in batch}) == 2
    for (batch,) in balanced_batches(EVEN, 1, 4):
        assert len(batch) == 1 or len({EVEN[i] for i in batch}) > 1


def test_identities_with_a_single_image_come_along() -> None:
    batches = balanced_batches(list(range(10)), 4, 2)
    assert sorted(flat(batches)) == list(range(10))


def test_a_plain_shuffle_would_not_pass() -> None:
    from visiongraft.data.loader import shuffled_batches

    batch = shuffled_batches(300, 32, seed=0, epoch=0)[0]
    assert max(Counter(EVEN[i] for i in batch).values()) < 4 or len({EVEN[i] for i in batch}) > 8
