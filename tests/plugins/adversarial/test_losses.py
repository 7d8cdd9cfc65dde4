"""Adversarial losses have the values of their papers, and gradients that pull the right way."""

from __future__ import annotations

from math import log

import pytest
import torch

from visiongraft.plugins.adversarial.losses import ADVERSARIAL_LOSSES, gradient_penalty

SCORES = torch.tensor([0.0, 2.0, -2.0])


def test_the_hinge_is_zero_beyond_its_margin() -> None:
    hinge = ADVERSARIAL_LOSSES["hinge"]
    assert hinge.real(SCORES) == pytest.approx((1 + 0 + 3) / 3)
    assert hinge.fake(SCORES) == pytest.approx((1 + 3 + 0) / 3)
    assert hinge.generator(SCORES) == 0


def test_an_undecided_critic_costs_the_logarithm_of_two() -> None:
    loss = ADVERSARIAL_LOSSES["non_saturating"]
    undecided = torch.zeros(4)
    assert {round(float(part(undecided)), 6) for part in loss} == {round(log(2), 6)}


def test_least_squares_pulls_real_scores_to_one_and_others_to_zero() -> None:
    loss = ADVERSARIAL_LOSSES["least_squares"]
    assert loss.real(torch.ones(2)) == loss.fake(torch.zeros(2)) == 0
    assert loss.fake(SCORES) == pytest.approx(8 / 6)


@pytest.mark.parametrize("name", ADVERSARIAL_LOSSES)
def test_critic_and_generator_pull_scores_of_generated_images_apart(name: str) -> None:
    loss = ADVERSARIAL_LOSSES[name]
    scores = torch.full((3,), 0.5, requires_grad=True)
    (critic,) = torch.autograd.grad(loss.fake(scores), scores)
    (generator,) = torch.autograd.grad(loss.generator(scores), scores)
    assert (critic > 0).all() and (generator < 0).all()


def test_the_penalty_is_half_the_squared_gradient_of_each_image() -> None:
    images = torch.ones(2, 1, 2, 2, requires_grad=True)
    weight = torch.tensor([[1.0], [3.0]], requires_grad=True)
    penalty = gradient_penalty((images.flatten(1).sum(1, keepdim=True) * weight), images)
    assert penalty.item() == pytest.approx((0.5 * 4 * 1 + 0.5 * 4 * 9) / 2)
    penalty.backward()
    assert weight.grad is not None and weight.grad.tolist() == [[2.0], [6.0]]
