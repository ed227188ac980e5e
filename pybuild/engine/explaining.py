"""The engine's methods that answer questions about images and builds."""

from __future__ import annotations

from pybuild.engine.core import OpenStore, require_privilege

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.forecast import Forecast
    from builder.request import BuildRequest
    from pybuild.engine.explanations import BuildWhy
    from pybuild.engine.filetree import FileTree
    from pybuild.engine.imagefiles import ImageDiff, LayerLine, Written
    from runtime.cancel import Cancel


class Explaining(OpenStore):
    """Where things come from and how they differ."""

    def plan(self, request: BuildRequest, cancel: Cancel | None = None) -> Forecast:
        """Return what building `request` would do; nothing is run, and nothing recorded."""
        from builder.forecast import forecast
        from runtime.cancel import Cancel

        return forecast(self.store, request, cancel or Cancel())

    def why(self, build_id: str = "last", step: str | None = None) -> BuildWhy:
        """Return why the steps of a build of the journal ran, or one of them."""
        from pybuild.engine import explanations

        return explanations.why(self.store, build_id, step)

    def open_step(self, build_id: str, step: str | int) -> FileTree:
        """Open the root file system that a step of a build left; a context manager.

        build_id: of the journal, or its beginning, or `last`. step: its number, its place
        (`web 3/5`) or a part of its text.
        """
        from pybuild.engine import filetree

        require_privilege("open a step")
        return filetree.open_step(self.store, build_id, str(step))

    def open_image(self, name: str, platform: str | None = None) -> FileTree:
        """Open the root file system of an image; a context manager."""
        from pybuild.engine import filetree

        require_privilege("open an image")
        return filetree.open_image(self.store, name, platform)

    def image_tree(self, name: str, biggest: int = 3) -> list[LayerLine]:
        """Return the layers of an image, base first, each with its `biggest` biggest files."""
        from pybuild.engine import imagefiles

        return imagefiles.tree(self.store, name, biggest)

    def image_diff(self, first: str, second: str, *, times: bool = False) -> ImageDiff:
        """Return how one image differs from another; `NAME#N` means its first N layers."""
        from pybuild.engine import imagefiles

        return imagefiles.diff(self.store, first, second, times=times)

    def blame(self, name: str, path: str) -> list[Written]:
        """Return who wrote or deleted a path of an image, the last one first."""
        from pybuild.engine import imagefiles

        return imagefiles.blame(self.store, name, path)
