"""A call is overdue when nothing has happened in it for too long, not when it has much to do."""

import io

from mlobs.backend import Batch, Capabilities, Entry, Receipt
from mlobs.delivery.courier import Courier
from mlobs.events import Artifact, Process, RunStarted
from mlobs.sender.calls import Watched


class Slow:
    """Opens each file, and takes 4 s for it; notes what a watcher would have said meanwhile."""

    name = "slow"
    capabilities = Capabilities()

    def __init__(self) -> None:
        self.now, self.said, self.watched = 0.0, [], Watched(self, clock=lambda: self.now)

    def deliver(self, batch):
        for entry in batch.entries:
            batch.open_blob(entry).close()
            self.now += 4
            self.said.append(self.watched.overdue(5.0))
        self.now += 6
        self.said.append(self.watched.overdue(5.0))
        return Receipt("ref")

    def close(self):
        pass


def batch_of(files):
    run = RunStarted(1.0, "r", "e", "n", Process("h", 1))
    entries = tuple(Entry(f"w:{n}", Artifact(1.0, f"{n}.txt", 1, data=b"x")) for n in range(files))
    return Batch(run, entries, lambda _entry: io.BytesIO(b"x"))


def test_opening_the_next_file_is_a_sign_of_life():
    slow = Slow()
    slow.watched.deliver(batch_of(3))

    assert slow.said[:3] == ["", "", ""]
    assert slow.said[3] == "a call with 3 events has not returned for 10 s"


def test_after_a_hang_the_first_batch_is_smaller_and_then_grows_again():
    courier = Courier(Slow(), "s1", clock=lambda: 100.0)
    before = courier.lane.first_events
    courier.lane.hold_back("hung", 100.0, 160.0, hangs=2)

    assert courier.lane.first_events == before // 64
    courier.lane.hold_back("hung", 100.0, 160.0, hangs=9)
    assert courier.lane.first_events == 1
