"""What builds and registries have in common: access as the request says, progress as step lines."""

from builder.request import BuildRequest
from builder.site import Step
from registry_client.client import Access
from registry_client.events import BlobDone, BlobFound, Event, Retrying
from registry_client.trust import Trust
from store.digest import Digest


def access_of(request: BuildRequest, *, insecure: bool = False) -> Access:
    """Return access to registries under the request's terms; `insecure` proves nothing."""
    verify = request.tls_verify and not insecure
    return Access(Trust.from_environment(verify=verify, ca_files=request.ca_files))


class Narrator:
    """Tells a build's step what a transfer does, a line for each layer."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._sizes: dict[Digest, int] = {}

    def __call__(self, event: Event) -> None:
        """Take an event of the transfer."""
        match event:
            case BlobFound(digest, size_bytes):
                self._sizes[digest] = size_bytes
            case BlobDone(digest, outcome):
                megabytes = self._sizes.get(digest, 0) / 1e6
                self._step.message(f"{digest} {megabytes:.2f}MB {outcome.value}")
            case Retrying(cause):
                self._step.message(f"trying again: {cause}")
