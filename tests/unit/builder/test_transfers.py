"""What a step says of a transfer."""

from builder import events
from builder.site import Progress
from builder.transfers import Narrator
from registry_client.events import BlobDone, BlobFound, BlobMoved, Outcome, Retrying
from store.digest import Digest

LAYER = Digest("sha256:" + "a" * 64)
THERE = Digest("sha256:" + "b" * 64)


def test_the_bytes_of_what_moves_and_a_line_for_what_does_not() -> None:
    seen: list[events.Event] = []
    tell = Narrator(Progress(seen.append).begin("pull"))
    for event in (
        BlobFound(LAYER, 100),
        BlobFound(THERE, 50),
        BlobMoved(LAYER, 40, 100),
        Retrying("reset"),
        BlobMoved(LAYER, 100, 100),
        BlobDone(THERE, Outcome.EXISTS),
        BlobDone(LAYER, Outcome.PULLED),
    ):
        tell(event)
    assert seen[1:] == [
        events.StepTransfer(1, LAYER, 40, 100),
        events.StepMessage(1, "trying again: reset"),
        events.StepTransfer(1, LAYER, 100, 100),
        events.StepMessage(1, f"{THERE} exists"),
        events.StepTransfer(1, LAYER, 100, 100, done=True),
    ]
