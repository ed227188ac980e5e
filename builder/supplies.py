"""What RUN's mounts are made of in one build: secrets, key agents, frozen copies of the context."""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from builder.contenthash import Match
from builder.ops.copyfiles import Target, copy_whole
from builder.request import BuildRequest
from builder.secrets import Secrets
from store.digest import Digest
from store.root import Store
from values.classes import dataclass, field

if TYPE_CHECKING:
    from builder.sshagent import SshAgents
    from store.activesnapshot import Active
    from store.cachemounts import CacheMountKey

FROZEN = "files"
_GIT_AGENT = "default"  # Source: BuildKit llb.Git, MountSSHSock


@dataclass(slots=True)
class Supplies:
    """A context manager: what it made for the build's steps goes at its end.

    secrets, agents: what the build was given; agents is None where that is nothing.
    """

    store: Store
    secrets: Secrets
    agents: "SshAgents | None"
    _stack: ExitStack = field(default_factory=ExitStack)
    _frozen: "dict[Digest, Active]" = field(default_factory=dict)
    _cleared: "set[CacheMountKey]" = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> "Supplies":
        return self

    def __exit__(self, *_: object) -> None:
        if self.agents is not None:
            self.agents.close()
        self._stack.close()

    def frozen(self, root: str, match: Match, digest: Digest) -> "Active":
        """Return a copy of files of the context as a snapshot that holds them at `FROZEN`.

        root: path of the context's root. digest: of the match's content; the copy is made once.
        A step sees the bytes that its key was made of, whatever is written to the context
        meanwhile. Raises FileChanged.
        """
        with self._lock:
            if digest not in self._frozen:
                active = self._stack.enter_context(self.store.snapshots.prepare(()))
                copy_whole(root, match, FROZEN, Target(active.upper))
                self._frozen[digest] = active
            return self._frozen[digest]

    def clear_once(self, key: "CacheMountKey", wait: Callable[[float], None]) -> None:
        """Clear a cache mount unless this build has done so: what it put there itself stays."""
        with self._lock:
            if key in self._cleared:
                return
            self._cleared.add(key)
        self.store.cache_mounts.clear(key, wait)


def supplies_of(
    store: Store, request: BuildRequest, cleared: "set[CacheMountKey] | None" = None
) -> Supplies:
    """Return what a request gives its steps. Raises BuildError for what cannot work.

    cleared: the cache mounts that builds which run with this one have cleared.
    """
    secrets = Secrets(request.secrets)
    secrets.check()
    agents = None
    if request.ssh:
        # subprocess and socket take 10 ms to import.
        from builder.sshagent import SshAgents

        agents = SshAgents(request.ssh)
        agents.check()
        secrets.key_agent = partial(agents.socket_path, _GIT_AGENT)
    return Supplies(store, secrets, agents, _cleared=set() if cleared is None else cleared)
