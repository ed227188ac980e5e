"""What builds that run together have in common: one pool of slots, one graph, contexts opened once.

A build by itself has it all for itself.
"""

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

from builder.absent import Absent
from builder.context import LocalContext, open_context, open_named
from builder.definition import SourceTree
from builder.namedcontexts import NamedContext
from builder.networks import StepNetwork
from builder.remotecache.ledger import Ledger
from builder.request import BuildRequest
from builder.secrets import Secrets
from builder.site import Progress
from builder.slots import Slots
from builder.sourcetree import opened_source
from grammar.ignorefile import IgnoreRules
from runtime.cancel import Cancel
from runtime.launcher import Launchers
from store.root import Store
from values.classes import dataclass, field

if TYPE_CHECKING:
    from builder.gitcheckout import Commit
    from builder.gitref import GitRef
    from builder.locked import Locked
    from store.cachemounts import CacheMountKey


@dataclass(slots=True)
class Shared:
    """What is opened is open until `stack` ends.

    slots: for the steps of all. cleared: cache mounts that a build has cleared.
    """

    store: Store
    slots: Slots
    stack: ExitStack
    absent: Absent
    launchers: Launchers
    ledger: Ledger = field(default_factory=Ledger)
    cleared: "set[CacheMountKey]" = field(default_factory=set)
    commits: "dict[GitRef, Commit]" = field(default_factory=dict)
    _sources: dict[object, SourceTree] = field(default_factory=dict)
    _contexts: dict[object, LocalContext] = field(default_factory=dict)
    _networks: dict[object, StepNetwork] = field(default_factory=dict)

    def source(
        self,
        request: BuildRequest,
        progress: Progress,
        cancel: Cancel,
        secrets: Secrets,
        locked: "Locked | None",
    ) -> SourceTree:
        """Return the main context of a request; the same one is brought once.

        locked: the lock that it is held to.

        Raises ContextError.
        """
        given = [pair for pair in request.build_args if pair[0].startswith("BUILDKIT_CONTEXT")]
        key = (
            request.context,
            request.dockerfile,
            tuple(given),
            request.secrets,
            request.ssh,
            request.locked,
            request.lock_file,
        )
        if key not in self._sources:
            opened = opened_source(self.store, request, progress, cancel, secrets, locked)
            self._sources[key] = self.stack.enter_context(opened)
        return self._sources[key]

    def context(
        self, source: SourceTree, ignore_file: str | None, rules: IgnoreRules | None
    ) -> LocalContext:
        """Return a context, open: one for all that see the same files. Raises ContextError."""
        key = context_name(source, rules)
        if key not in self._contexts:
            opened = open_context(source, ignore_file, rules, self._cache_folder)
            self.stack.callback(opened.close)
            self._contexts[key] = opened
        return self._contexts[key]

    def folder(self, item: NamedContext) -> LocalContext:
        """Return a named context that is a folder, open. Raises ContextError."""
        key = (os.path.realpath(item.where),)
        if key not in self._contexts:
            opened = open_named(item.where, item.name, self._cache_folder)
            self.stack.callback(opened.close)
            self._contexts[key] = opened
        return self._contexts[key]

    def network(self, request: BuildRequest) -> StepNetwork:
        """Return the network of a request's steps; one for all that ask for the same."""
        key = (request.network, request.sandbox.extra_hosts)
        if key not in self._networks:
            opened = StepNetwork(request.network, request.sandbox)
            self._networks[key] = self.stack.enter_context(opened)
        return self._networks[key]

    @property
    def _cache_folder(self) -> str:
        """Where digests of the files of contexts are remembered."""
        return os.path.join(self.store.root, "contexts")


def new_shared(store: Store, jobs: int, stack: ExitStack, absent: Absent | None = None) -> Shared:
    """Return what builds share, until `stack` ends. jobs: how many steps may run at once."""
    launchers = stack.enter_context(Launchers(refill=True))
    return Shared(store, Slots(jobs), stack, absent or Absent(store), launchers)


def context_name(source: SourceTree, rules: IgnoreRules | None) -> str:
    """Return what tells a context from others: its folder, and what of it is ignored."""
    return "\0".join((os.path.realpath(source.path), *(rules.patterns if rules else ())))
