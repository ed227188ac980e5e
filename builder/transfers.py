"""What builds and registries have in common: access as the request says, progress as step lines."""

from builder.request import BuildRequest
from builder.site import Step
from registry_client.client import Access
from registry_client.events import BlobDone, BlobFound, BlobMoved, Event, Outcome, Retrying
from registry_client.trust import Trust
from store.digest import Digest


def access_of(request: BuildRequest, *, insecure: bool = False) -> Access:
    """Return access to registries under the request's terms; `insecure` proves nothing."""
    verify = request.tls_verify and not insecure
    return Access(Trust.from_environment(verify=verify, ca_files=request.ca_files))


class Narrator:
    """Tells a build's step what a transfer does: the bytes of each layer that moves."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._sizes: dict[Digest, int] = {}

    def __call__(self, event: Event) -> None:
        """Take an event of the transfer."""
        match event:
            case BlobFound(digest, size_bytes):
                self._sizes[digest] = size_bytes
            case BlobMoved(digest, done_bytes, size_bytes):
                self._sizes[digest] = size_bytes
                self._step.transfer(digest, done_bytes, size_bytes)
            case BlobDone(digest, Outcome.PULLED | Outcome.PUSHED):
                size_bytes = self._sizes.get(digest, 0)
                self._step.transfer(digest, size_bytes, size_bytes, done=True)
            case BlobDone(digest, outcome):
                self._step.message(f"{digest} {outcome.value}")
            case Retrying(cause):
                self._step.message(f"trying again: {cause}")
