"""COPY, ADD and WORKDIR as steps: their keys and how their layers are made."""

from collections.abc import Sequence

from builder.errors import InstructionError
from builder.lint import semantics
from builder.ops.copyfiles import CopyRefused, Target
from builder.ops.registry import Ingredients, Made, describe, perform
from builder.ops.sources import Sources
from builder.ownership import Owner, find_owner, parse_chmod
from builder.rootpath import make_dirs
from builder.site import Result, Site, Step
from builder.tree import Tree
from builder.vertex import CopyOp, MakeDirOp, Vertex, plain
from runtime.mounting import open_overlay


@describe.register
def describe_workdir(
    op: MakeDirOp, _vertex: Vertex, _inputs: Sequence[Result], _site: Site
) -> Ingredients:
    """WORKDIR: its path and the user who owns what has to be made."""
    return Ingredients({"path": op.path, "user": op.user})


@perform.register
def perform_workdir(
    op: MakeDirOp, vertex: Vertex, inputs: Sequence[Result], site: Site, _step: Step
) -> Made:
    """Make the directory."""
    with site.store.snapshots.prepare(inputs[0].chain) as active:
        with Tree(open_overlay(active.mount)) as tree:
            owner = find_owner(op.user, tree.root) if op.user else None
            if owner and owner.unknown is not None and not inputs[0].chain:
                raise InstructionError(
                    vertex.place,
                    f'user "{owner.unknown}" cannot be looked up: there is no passwd file yet',
                    hint="give numbers, or copy a passwd file first",
                )
            make_dirs(tree.root, op.path, 0o755, owner.ids if owner else None)
        info = active.commit(watcher=site.watch(vertex))
    return Made(info.diff_id, info.size_bytes)


@describe.register
def describe_copy(op: CopyOp, vertex: Vertex, inputs: Sequence[Result], site: Site) -> Ingredients:
    """COPY and ADD: what is done with the files, and the files' contents."""
    sources = Sources(op, vertex, inputs, site)
    files: list[tuple[str, str]] = []
    contents: list[str] = []
    for source in op.sources:
        digest, found = sources.content(source)
        contents.append(digest)
        files += found
    keyed = {
        "destination": op.destination,
        "chown": op.chown,
        "chmod": op.chmod,
        "exclude": list(op.exclude),
        "unpack": op.unpack,
        "content": contents,
    }
    noted = {"sources": plain(op.sources), "files": files}
    return Ingredients(keyed, noted)


@perform.register
def perform_copy(
    op: CopyOp, vertex: Vertex, inputs: Sequence[Result], site: Site, _step: Step
) -> Made:
    """Copy the files."""
    sources = Sources(op, vertex, inputs, site)
    is_scratch = not inputs[0].chain
    with site.store.snapshots.prepare(inputs[0].chain) as active:
        with Tree(open_overlay(active.mount)) as tree:
            target = copy_target(op, vertex, tree.root, site, is_scratch=is_scratch)
            try:
                filling = sources.filling(target)
                for source in op.sources if filling is None else ():
                    sources.copy(source, target)
            except CopyRefused as error:
                raise InstructionError(vertex.place, str(error)) from error
        info = active.commit(watcher=site.watch(vertex), filling=filling)
    return Made(info.diff_id, info.size_bytes)


def copy_target(
    op: CopyOp, vertex: Vertex, root: str, site: Site, *, is_scratch: bool = False
) -> Target:
    """Return where the files go, with owner and mode as the flags say."""
    owner = None
    if op.chown is not None:
        owner = owner_of(op.chown, vertex, root, site, is_scratch=is_scratch)
    chmod, parent_mode = None, 0o755
    if op.chmod is not None:
        chmod = parse_chmod(op.chmod)
        if op.chmod.isdigit():
            parent_mode = chmod(0, True) & 0o777
    return Target(root, owner, chmod, parent_mode, whole_seconds=True)


def owner_of(text: str, vertex: Vertex, root: str, site: Site, *, is_scratch: bool) -> Owner:
    """Return the owner that --chown names; a name that is not found counts as root.

    Raises InstructionError where there is no image to look a name up in.
    """
    owner = find_owner(text, root)
    if owner.unknown is None:
        return owner
    if is_scratch:
        raise InstructionError(
            vertex.place,
            f'--chown={text}: "{owner.unknown}" cannot be looked up: there is no passwd or group '
            "file yet",
            hint="give numbers; with --link, nothing of the image is looked at",
        )
    message = semantics.copy_unknown_owner(text, owner.unknown)
    site.warn("CopyUnknownOwner", message, vertex.place.first_line)
    return owner
