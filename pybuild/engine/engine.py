"""`Engine`: the one thing that faces talk to.

Owns the open store and nothing else; each method hands over to the module that knows how. What is
not a method here, or of the families of methods that it is made of, cannot be done by the command
line nor by any other face.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pybuild.engine.caching import Caching
from pybuild.engine.core import require_privilege
from pybuild.engine.explaining import Explaining
from pybuild.engine.imaging import Imaging
from pybuild.engine.journaling import Journaling

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.contextlist import ContextListing
    from builder.definition import DockerfileText
    from builder.events import Event
    from builder.lint.check import CheckReport
    from builder.locking import Locking, Update
    from builder.outline import Outline, Target
    from builder.repro import Verdict
    from builder.request import BuildRequest
    from pybuild.engine.builds import BuildResult
    from pybuild.engine.foreground import ContainerState, Rest
    from pybuild.engine.live import Container
    from pybuild.engine.records import ContainerRecord
    from pybuild.engine.registries import Watch
    from pybuild.engine.removal import Pruned
    from pybuild.engine.runrequest import RunRequest
    from runtime.cancel import Cancel


class Engine(Imaging, Caching, Explaining, Journaling):
    """Builds, runs and keeps images in one store.

    A context manager. The store is opened when something first needs it, and closed at the end.
    """

    def build(
        self, request: BuildRequest, on_event: Callable[[Event], None], cancel: Cancel | None = None
    ) -> BuildResult:
        """Build `request`, reporting every event as it happens, and return what was made.

        Then garbage is collected, where that is due.
        """
        require_privilege("build")
        from builder.replay import replayed
        from pybuild.engine.aftermath import Aftermath

        aftermath = Aftermath(on_event)
        done = replayed(self.store, request, aftermath)
        if done is None:
            from builder.errors import StepFailed, StepsFailed
            from pybuild.engine.builds import build

            try:
                done = build(self, request, aftermath, cancel)
            except (StepFailed, StepsFailed):
                aftermath.collect(self.store)  # what is kept of failed steps takes room too
                raise
        aftermath.collect(self.store)
        return done

    def bake(
        self,
        requests: Mapping[str, BuildRequest],
        on_event: Callable[[Event], None],
        cancel: Cancel | None = None,
        *,
        jobs: int | None = None,
    ) -> dict[str, BuildResult]:
        """Build targets, by their names, in one run, and return what each came to.

        jobs: how many steps may run at once. What several targets need is made once. Then garbage
        is collected, where that is due.
        """
        require_privilege("bake")
        from builder.together import build_targets
        from pybuild.engine.aftermath import Aftermath
        from runtime.cancel import Cancel

        aftermath = Aftermath(on_event)
        done = build_targets(self.store, requests, aftermath, cancel or Cancel(), jobs)
        aftermath.collect(self.store)
        return done

    def reproduce(
        self, request: BuildRequest, on_event: Callable[[Event], None], cancel: Cancel | None = None
    ) -> Verdict:
        """Build `request` twice under changed conditions; say what differs."""
        require_privilege("repro")
        from builder.repro import reproduce
        from runtime.cancel import Cancel

        return reproduce(self.store, request, on_event, cancel or Cancel())

    def lint(self, request: BuildRequest) -> CheckReport:
        """Lint the Dockerfile of `request`; nothing is built or pulled."""
        from pybuild.engine import builds

        return builds.check(self, request)

    def lock(
        self,
        request: BuildRequest,
        update: Update,
        on_event: Callable[[Event], None],
        cancel: Cancel | None = None,
    ) -> Locking:
        """Return the lock of `request`, as it was and as it is to be; `write` writes it.

        update: the entries to be asked for again.
        """
        from pybuild.engine import builds

        return builds.lock(self, request, update, on_event, cancel)

    def outline(self, request: BuildRequest) -> tuple[DockerfileText, Outline]:
        """Return what the target of `request` takes: ARGs, secrets, ssh; and the text read."""
        from pybuild.engine import builds

        return builds.outline(self, request)

    def targets(self, request: BuildRequest) -> tuple[DockerfileText, tuple[Target, ...]]:
        """Return the targets of the Dockerfile of `request`; and the text read."""
        from pybuild.engine import builds

        return builds.targets(self, request)

    def context_files(self, request: BuildRequest) -> ContextListing:
        """Return what is in the context of `request`, the ignore rules that decide, and the uses.

        Nothing is built or pulled.
        """
        from pybuild.engine import builds

        return builds.context_files(self, request)

    def run(
        self,
        request: RunRequest,
        *,
        on_created: Callable[[str], None] | None = None,
        watch: Watch | None = None,
        rest: Rest | None = None,
    ) -> int:
        """Make a container, run it to its end with our stdio, and return its exit code.

        on_created: called with the container's ID before its command starts. watch: called before
        a pull, gives what takes its progress. rest: for who owns the process: called when nothing
        has happened for a while; what it is told another program gives to `resume_run`.
        Raises ContainerError and RuntimeFailure when the command cannot be started.
        """
        from runtime.launcher import Launchers

        require_privilege("run", mounts=True)
        with Launchers() as launchers:
            launchers.prepare()  # it gets ready while the rest is imported
            from pybuild.engine import foreground

            return foreground.run(self.store, request, on_created, watch, launchers, rest)

    def resume_run(self, state: ContainerState, numbers: Sequence[int], rest: Rest) -> int:
        """Do the rest of `run` after an execve, and return the container's exit code.

        numbers: signals that came meanwhile. Raises RuntimeFailure.
        """
        from pybuild.engine import foreground

        return foreground.resume(self.store, state, numbers, rest)

    def container(self, request: RunRequest) -> Container:
        """Make a container that this process holds: to be started, asked and looked into.

        A context manager; at its end it is killed and removed. Raises ImageMissing, ContainerError.
        """
        require_privilege("run", mounts=True)
        from pybuild.engine.live import Container

        return Container(self.store, request)

    def containers(self, *, everything: bool = False) -> list[ContainerRecord]:
        """Return the containers that run, or all there are, newest first."""
        from pybuild.engine import containers

        return containers.listed(self.store, everything=everything)

    def remove_container(self, name: str, *, force: bool = False) -> None:
        """Remove a container. Raises ContainerError when it runs, unless `force`: it is killed."""
        from pybuild.engine import containers

        containers.remove(self.store, name, force=force)

    def prune_containers(self, *, filters: Sequence[str] = ()) -> Pruned:
        """Remove the containers that do not run.

        filters: `key=value` each, of pybuild.engine.removal.CONTAINER_FILTERS.
        """
        from pybuild.engine import removal
        from pybuild.engine.filters import Filters

        chosen = Filters.parse(filters, removal.CONTAINER_FILTERS)
        return removal.prune_containers(self.store, chosen)
