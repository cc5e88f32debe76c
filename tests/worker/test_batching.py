"""Batches of merged requests: no larger than asked for, of one kind, and fair to every order in them."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from torch import zeros

from models.spec import SamplerSpec
from service.records.checkpoints import Stored
from worker.batching import Order, next_batch

SAMPLERS = [None, SamplerSpec.model_validate({"kind": "ddim", "steps": 5})]


WAYS: list[dict[str, Any]] = [{}, {"truncation": 0.5}, {"strength": 0.5}, {"strength": 0.6}]


def order(count: int, made: int, checkpoint: int, sampler: int, way: int = 0) -> Order:
    request: dict[str, Any] = {"seeds": list(range(count)), **WAYS[way]}
    made_images = [zeros(1)] * min(made, count - 1)
    stored = Stored("ckpt_", "job_", "weights", str(checkpoint))
    return Order("img_", 1, request, stored, sampler=SAMPLERS[sampler], made=made_images)


BIT = st.integers(0, 1)
orders = st.lists(
    st.builds(order, st.integers(1, 50), st.integers(0, 49), BIT, BIT, st.integers(0, len(WAYS) - 1)),
    min_size=1,
    max_size=20,
)


@given(orders, st.integers(1, 40))
def test_a_batch_is_full_of_one_kind_and_its_orders_get_equal_shares(held: list[Order], size: int) -> None:
    """Breaks when a batch outgrows its bound, mixes networks, leaves room, or starves an order."""
    batch = next_batch(held, size)
    alike = [one for one in held if one.kind == held[0].kind]
    counts = {share.order: share.stop - share.start for share in batch}
    assert all(one.kind == held[0].kind for one in counts)
    settings = {(one.truncation, one.strength, one.sampler, one.checkpoint.sha256) for one in counts}
    assert len(settings) == 1
    assert len(counts) == len(batch)
    assert sum(counts.values()) == min(size, sum(one.left for one in alike))
    for share in batch:
        assert share.start == len(share.order.made)
        assert 0 < counts[share.order] <= share.order.left
    most = max(counts.values())
    for one in alike:
        assert counts.get(one, 0) >= min(one.left, most - 1)


def test_who_asks_for_one_gets_it_beside_who_asks_for_many() -> None:
    many, one = order(1000, 0, 0, 0), order(1, 0, 0, 0)
    assert {share.order: share.stop for share in next_batch([many, one], 32)} == {many: 31, one: 1}
