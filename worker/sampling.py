"""Makes the queued images in merged batches: one thread takes them in turn, whoever rang for them."""

import logging
import threading
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from models.checkpoints import LoadedCheckpoint, load
from models.out_of_memory import is_out_of_memory
from models.sampling import generate, labels_of
from service.errors import AtelierError
from service.queue import images_channel
from service.records import checkpoints, images
from worker.batching import (
    Interrupted,
    Order,
    Share,
    Superseded,
    Turns,
    effective_sampler,
    init_images,
    next_batch,
)
from worker.devices import open_device
from worker.failures import CHECKPOINT_DELETED, failure
from worker.image_files import init_image, store_images
from worker.renewal import Renewal
from worker.resources import Resources
from worker.stored_weights import weights
from worker.supervisor import worker_name
from worker.warm import WarmCheckpoints

logger = logging.getLogger(__name__)

BATCH = 32  # images made at a time: what comes meanwhile waits no longer than they take
WINDOW = 0.003  # seconds in which the next requests gather, once some have come together
CLAIMED = 16  # requests claimed at a time, so that another worker finds some as well
HELD = 64  # requests in the making
LET_BY_AFTER = 0.05  # seconds that a batch has been in the making before others are let by
STORED_AT_ONCE = 8
LOOK_EVERY = 1.0  # seconds between two looks at whether to stop
MEMORY_HINT = "Ask for fewer images at a time, or give the sampling worker more memory."


class Sampler:
    """Any thread may `hear` a doorbell; the one of `serve` makes what is queued."""

    def __init__(self, resources: Resources, stopping: threading.Event) -> None:
        self._resources = resources
        self._stopping = stopping
        self._device = open_device(resources.settings.device, resources.settings.sample_gpu_memory)
        self.warm = WarmCheckpoints(resources.settings.warm_bytes)
        self._size = BATCH
        self._storing = ThreadPoolExecutor(STORED_AT_ONCE, thread_name_prefix="storing")
        self._rung = threading.Event()
        self._orders: list[Order] = []
        self._turns = Turns()
        self._left_some = False
        self._crowded = False

    def hear(self) -> None:
        """Note that images are asked for, for the thread of `serve` to answer."""
        self._rung.set()

    def serve(self) -> threading.Thread:
        """Answer what is heard in a thread of its own until `stopping` is set; the process waits for it."""
        thread = threading.Thread(target=self._serve, name="sampler")
        thread.start()
        return thread

    def _serve(self) -> None:
        with Renewal("images", self._renew):
            self._answer_rings()

    def _answer_rings(self) -> None:
        while not self._stopping.is_set():
            if not self._rung.wait(LOOK_EVERY):
                continue
            try:
                self._make_wanted()
            except AtelierError as error:
                logger.warning("a ring was not answered: %s", error)
            except Exception:
                logger.exception("a ring was not answered")
            else:
                continue
            # What was claimed comes back when its lease runs out; what still waits is looked for again.
            self._rung.set()
            self._stopping.wait(LOOK_EVERY)

    def ring(self) -> None:
        """Make all that is queued, and what is asked for meanwhile; on one thread at a time."""
        self._rung.set()
        with Renewal("images", self._renew):
            self._make_wanted()

    def _make_wanted(self) -> None:
        while self._wanted():
            self._make_all()

    def _wanted(self) -> bool:
        return self._rung.is_set() and not self._stopping.is_set()

    def _make_all(self) -> None:
        """Batch by batch, each kind in its turn."""
        self._orders, self._turns = [], Turns()
        while not self._stopping.is_set():
            self._admit(self._orders)
            if not self._orders:
                return
            self._take_turn(self._orders)
        self._give_back(self._orders)

    def _take_turn(self, orders: list[Order]) -> None:
        """Make the next batch, and deliver what is whole with it."""
        batch = next_batch(self._turns.free(orders), self._size)
        self._crowded = len(batch) > 1
        with self._turns.taken_by(batch):
            self._make(batch)
        self._deliver([order for order, *_ in batch if not order.left and not order.lost])
        orders[:] = [order for order in orders if order.left and not order.lost]

    def _let_others_by(self) -> None:
        """While a batch is in the making, between two evaluations of its network: one of another kind."""
        if self._wanted():
            self._claim_heard(self._orders)
        if self._turns.free(self._orders):
            self._take_turn(self._orders)

    def _give_back(self, orders: list[Order]) -> None:
        """This worker is told to stop: what it has begun is another's, from the start."""
        if not orders:
            return
        with self._resources.database.transaction() as session:
            released = images.release(session, {order.image_id: order.attempt for order in orders})
        for image_id in released:
            self._resources.publisher.send("atelier.sample", image_id)

    def _admit(self, orders: list[Order]) -> None:
        """Take what waits; where requests come together, the first ones wait a moment for the others.

        A lone client's do not: what comes while its image is made is the next batch.
        """
        if not orders:
            self._claim_heard(orders)
            if orders and self._crowded:
                time.sleep(WINDOW)
        self._claim_heard(orders)

    def _claim_heard(self, orders: list[Order]) -> None:
        """Nothing is looked for that nobody has rung for, unless the last look has left some."""
        while len(orders) < HELD and (self._left_some or self._wanted()):
            self._rung.clear()
            self._left_some = self._claim(orders) == CLAIMED

    def _claim(self, orders: list[Order]) -> int:
        # Not durable, as is the end: what a power cut takes back is made again, with the same pixels.
        with self._resources.database.transaction(durable=False) as session:
            rows = images.claim(session, worker_name(), CLAIMED)
            found = checkpoints.living(session, {row.checkpoint_id for row in rows})
            gone = [row for row in rows if row.checkpoint_id not in found]
            for row in gone:
                images.fail(session, row.id, row.attempt, CHECKPOINT_DELETED)
        self._announce([row.id for row in gone])
        claimed = [
            Order(row.id, row.attempt, row.request, found[row.checkpoint_id])
            for row in rows
            if row.checkpoint_id in found
        ]
        orders.extend(order for order in claimed if self._is_ready(order))
        return len(rows)

    def _is_ready(self, order: Order) -> bool:
        """Whether its network is loaded; where that fails, so does the order."""
        try:
            loaded = self._load(order)
            order.sampler = effective_sampler(loaded.spec, order.request.get("sampler"))
            order.labels = order.request.get("labels") or labels_of(loaded.spec, order.origins)
            order.init = init_image(order.request)
        except Exception as error:
            logger.exception("images %s cannot be made", order.image_id)
            self._fail([order], error)
            return False
        return True

    def _make(self, batch: list[Share]) -> None:
        """Make the images of one batch; an error fails all of its orders."""
        orders = [share.order for share in batch]
        began, given = time.monotonic(), 0.0

        def progress(done: int, total: int) -> None:
            nonlocal given
            if all(order.lost for order in orders):
                raise Superseded
            now = time.monotonic()
            # Half of the time is this batch's; one that is soon made is made first, however long others are.
            if done < total and now - began >= LET_BY_AFTER and given <= (now - began) / 2:
                try:
                    self._let_others_by()
                except Exception as error:
                    raise Interrupted from error
                given += time.monotonic() - now

        try:
            loaded = self._load(orders[0])
            labels = [label for order, start, stop in batch for label in (order.labels or [])[start:stop]]
            made = generate(
                loaded.networks,
                loaded.spec,
                [origin for order, start, stop in batch for origin in order.origins[start:stop]],
                sampler=orders[0].sampler,
                truncation=orders[0].truncation,
                labels=labels or None,
                init=init_images(batch),
                progress=progress,
            )
        except Superseded:
            return
        except Interrupted as others:
            raise others.__cause__ or others from None
        except Exception as error:
            images_in_it = sum(share.stop - share.start for share in batch)
            if is_out_of_memory(error) and images_in_it > 1:
                self._size = images_in_it // 2
                logger.warning("%d images at a time are too many; from now on %d", images_in_it, self._size)
                return
            logger.exception("images %s could not be made", [order.image_id for order in orders])
            self._fail(orders, error)
            return
        for share in batch:
            count = share.stop - share.start
            share.order.made.extend(made[:count])
            made = made[count:]

    def _deliver(self, orders: list[Order]) -> None:
        """Store the images of orders that are made, and say so."""
        if not orders:
            return
        # A file is on the disk for good before its row says so: several wait for the disk at once.
        store = partial(store_images, store=self._resources.artifacts.put_bytes)
        others = {order: self._storing.submit(store, order) for order in orders[1:]}
        results: dict[str, tuple[int, dict[str, Any]]] = {}
        for order in orders:
            try:
                stored = others[order].result() if order in others else store(order)
                results[order.image_id] = order.attempt, stored
            except Exception as error:
                logger.exception("images %s could not be stored", order.image_id)
                self._fail([order], error)
        if results:
            with self._resources.database.transaction(durable=False) as session:
                images.finish_all(session, results)
            self._announce(results)

    def _fail(self, orders: list[Order], error: Exception) -> None:
        hint = "The sampling worker's log has the traceback."
        reason = failure(error, code="sampling_failed", hint=hint, memory_hint=MEMORY_HINT)
        with self._resources.database.transaction() as session:
            for order in orders:
                images.fail(session, order.image_id, order.attempt, reason)
                order.lost = True
        self._announce([order.image_id for order in orders])

    def _announce(self, image_ids: Collection[str]) -> None:
        """Routes that wait look into SQL when this rings, so it rings after the row says how it ended."""
        if image_ids:
            self._resources.publisher.announce(*map(images_channel, image_ids))

    def _load(self, order: Order) -> LoadedCheckpoint:
        stored = order.checkpoint

        def load_stored() -> LoadedCheckpoint:
            return load(
                weights(self._resources.artifacts, stored.artifact, stored.sha256), device=self._device
            )

        return self.warm.get(stored.id, stored.sha256, load_stored)

    def forget_deleted(self) -> None:
        """Let go of checkpoints that were deleted since they were loaded."""
        ids = {one["checkpoint_id"] for one in self.warm.told()}
        if ids:
            with self._resources.database.read() as session:
                self.warm.drop(ids - checkpoints.living(session, ids).keys())

    def _renew(self) -> bool:
        """Called from a thread of its own: keeps the leases, and marks what is lost."""
        orders = self._orders
        held = {order.image_id: order.attempt for order in list(orders)}
        if held:
            with self._resources.database.transaction() as session:
                ours = images.renew(session, held)
            for order in list(orders):
                if order.image_id in held and order.image_id not in ours:
                    order.lost = order.left > 0  # else it is just being delivered
        return True
