"""The probability of augmentations goes up while D overfits and down while it does not, as the paper says."""

import pytest
import torch

from models.spec.augmentation import DiscriminatorAugmentationSpec
from models.training.ada import Ada

BATCH = 10
KNOWING, UNKNOWING = torch.full((BATCH,), 3.0), torch.full((BATCH,), -3.0)


def ada(target: float = 0.6, adjustment_images: int = 400) -> Ada:
    spec = DiscriminatorAugmentationSpec(kind="ada", target=target, adjustment_images=adjustment_images)
    return Ada(spec, BATCH, "cpu")


def after(controller: Ada, *outputs: torch.Tensor) -> float:
    for real_outputs_B in outputs:
        controller.observe(real_outputs_B)
        controller.adjust()
    return float(controller.probability)


def test_it_moves_at_every_fourth_step_by_the_images_since_then() -> None:
    """40 images of the 400 over which it can go from 0 to 1."""
    controller = ada()
    expected = [0, 0, 0, 0.1, 0.1, 0.1, 0.1, 0.2, 0.2]
    assert [after(controller, KNOWING) for _ in expected] == pytest.approx(expected)


def test_it_goes_down_again_and_stays_between_0_and_1() -> None:
    controller = ada()
    assert after(controller, *[UNKNOWING] * 8) == 0
    assert after(controller, *[KNOWING] * 40) == pytest.approx(1)
    assert after(controller, *[KNOWING] * 8) == 1
    assert after(controller, *[UNKNOWING] * 4) == pytest.approx(0.9)


@pytest.mark.parametrize(("positive", "moves"), [(7, -1), (8, 0), (9, 1)])
def test_it_compares_the_mean_sign_with_the_target(positive: int, moves: int) -> None:
    """8 of 10 outputs above 0 have the mean sign 0.6, the target, whatever their size."""
    outputs = torch.tensor([0.01] * positive + [-100.0] * (BATCH - positive))
    controller = ada(target=0.6)
    controller.probability.fill_(0.5)
    assert after(controller, *[outputs] * 4) == pytest.approx(0.5 + 0.1 * moves)


def test_the_sign_is_taken_over_all_four_steps() -> None:
    """Two knowing batches of four have the mean sign 0, far below 0.6, though the last one is knowing."""
    controller = ada()
    controller.probability.fill_(0.5)
    assert after(controller, UNKNOWING, KNOWING, UNKNOWING, KNOWING) == pytest.approx(0.4)


def test_parts_of_a_batch_count_as_the_batch() -> None:
    controller = ada()
    for _ in range(4):
        for part in KNOWING.chunk(5):
            controller.observe(part)
        controller.adjust()
    assert float(controller.probability) == pytest.approx(0.1)


def test_an_output_that_is_no_number_does_not_spoil_it() -> None:
    controller = ada()
    assert after(controller, KNOWING, KNOWING, KNOWING, torch.full((BATCH,), torch.nan)) == pytest.approx(0.1)


@pytest.mark.parametrize("steps", range(6))
def test_it_goes_on_from_a_stored_state(steps: int) -> None:
    outputs = [KNOWING, UNKNOWING, KNOWING, KNOWING, KNOWING, KNOWING, KNOWING, UNKNOWING, KNOWING, KNOWING]
    whole, resumed = ada(), ada()
    after(whole, *outputs[:steps])
    for name, tensor in resumed.state().items():
        tensor.copy_(whole.state()[name])
    for output in outputs[steps:]:
        assert after(resumed, output) == after(whole, output)


def test_its_tensors_stay_the_same_ones_and_take_no_gradient() -> None:
    controller = ada()
    before = {name: id(tensor) for name, tensor in controller.state().items()}
    after(controller, *[KNOWING.clone().requires_grad_()] * 8)
    assert {name: id(tensor) for name, tensor in controller.state().items()} == before
    assert not any(tensor.requires_grad for tensor in controller.state().values())


def test_an_open_spec_is_refused() -> None:
    with pytest.raises(ValueError, match="resolve"):
        Ada(DiscriminatorAugmentationSpec(kind="ada"), BATCH, "cpu")
