"""Several targets as one graph: what a vertex takes from outside, and other targets as contexts.

Vertices of one build that say the same are one. Of several builds they are one if what they take
from outside of the graph is the same too: their context, their secrets, their key agents.
"""

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from builder.namedcontexts import NamedContexts
from builder.request import BuildRequest
from builder.runmounts import BindMount, SecretMount, SshMount
from builder.vertex import ContextPath, CopyOp, DownloadOp, GitOp, Op, RunOp, Vertex, VertexID
from values.classes import dataclass, field

if TYPE_CHECKING:
    from builder.stage import Stage


@dataclass(frozen=True, slots=True)
class Among:
    """What a plan has to know where its build is one of several.

    context: names the main context with its ignore rules. linked: gives the end of another target
    on a platform; raises BuildError. below: the vertices of those that were asked for.
    """

    context: str
    linked: "Callable[[str, str], Stage]"
    below: dict[VertexID, Vertex] = field(default_factory=dict)

    def end_of(self, target: str, platform: str) -> "Stage":
        """Return the end of another target. Raises BuildError."""
        stage = self.linked(target, platform)
        self.below.update(stage.plan.vertices)
        if stage.plan.among is not None:
            self.below.update(stage.plan.among.below)
        return stage

    def outside(self, op: Op, request: BuildRequest, contexts: NamedContexts) -> list[object]:
        """Return what an operation takes from outside of the graph besides what it says itself."""
        return list(self._outside(op, request, contexts))

    def _outside(self, op: Op, request: BuildRequest, contexts: NamedContexts) -> Iterator[object]:
        if isinstance(op, CopyOp):
            for source in op.sources:
                if isinstance(source, ContextPath):
                    named = contexts.by_name.get(source.context)
                    yield os.path.realpath(named.where) if named else self.context
        elif isinstance(op, RunOp):
            for mount in op.mounts:
                if isinstance(mount, BindMount) and mount.input is None:
                    yield self.context
                elif isinstance(mount, SecretMount):
                    yield [item for item in request.secrets if item.id == mount.id]
                elif isinstance(mount, SshMount):
                    yield [item for item in request.ssh if item.id == mount.id]
        elif isinstance(op, GitOp | DownloadOp):
            # They may show a token, or a key.
            yield [*request.secrets, *request.ssh]
