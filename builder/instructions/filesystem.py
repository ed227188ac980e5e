"""COPY, ADD and WORKDIR: instructions that put files into the stage's root file system."""

import posixpath
import re
from dataclasses import replace

from builder.errors import InstructionError
from builder.instructions.origin import root_of_copy_source
from builder.lint import semantics
from builder.lower import lower
from builder.stage import Stage
from builder.vertex import (
    ContextPath,
    CopyOp,
    CopySource,
    DownloadedFile,
    DownloadOp,
    InlineFile,
    MakeDirOp,
    StagePath,
    VertexID,
)
from grammar import ast

_URL_SCHEMES = ("http://", "https://")
_GIT_SCHEMES = ("git://", "ssh://", "git@")


@lower.register
def workdir(node: ast.Workdir, stage: Stage) -> Stage:
    """WORKDIR sets config.WorkingDir and makes the directory, owned by the current user."""
    path = stage.expand(node.path, node)
    absolute = stage.absolute(path).rstrip("/") or "/"
    result = stage.configure(working_dir=absolute) if path else stage
    result = replace(result, is_workdir_set=True)
    text = f"WORKDIR {result.cwd}"
    if result.cwd == "/":
        return replace(result, step=result.step + 1).record(text)
    return result.apply(node, MakeDirOp(result.cwd, stage.config.user), text)


@lower.register
def copy(node: ast.Copy, stage: Stage) -> Stage:
    """COPY from the context, from a stage or from an image."""
    if node.parents:
        raise InstructionError(stage.place(node), "COPY --parents: not supported yet")
    inputs: tuple[VertexID, ...] = ()
    if node.from_ is not None:
        inputs = (root_of_copy_source(node, stage),)
    sources: list[CopySource] = []
    for raw in node.sources:
        path = stage.expand(raw, node)
        refuse_remote(path, node, stage)
        sources.append(StagePath(1, path) if inputs else ContextPath(path))
    return finish(node, stage, tuple(sources), inputs)


@lower.register
def add(node: ast.Add, stage: Stage) -> Stage:
    """ADD from the context (archives are unpacked) or from a URL."""
    inputs: list[VertexID] = []
    sources: list[CopySource] = []
    checksum = None if node.checksum is None else stage.expand(node.checksum, node)
    for raw in node.sources:
        path = stage.expand(raw, node)
        if is_git(path):
            raise InstructionError(stage.place(node), "ADD of a git repository: not supported yet")
        if path.startswith(_URL_SCHEMES):
            download = DownloadOp(path, checksum)
            inputs.append(stage.add_vertex(node, download, (), stage.step + 1, name=path))
            sources.append(DownloadedFile(len(inputs)))
        else:
            sources.append(ContextPath(path))
    if checksum is not None and (len(sources) != 1 or not inputs):
        raise InstructionError(
            stage.place(node), "--checksum requires a single remote source (http, https or git)"
        )
    return finish(node, stage, tuple(sources), tuple(inputs))


def finish(
    node: ast.Copy | ast.Add,
    stage: Stage,
    sources: tuple[CopySource, ...],
    inputs: tuple[VertexID, ...],
) -> Stage:
    """Return the stage after the copy vertex that COPY and ADD share."""
    destination = stage.expand(node.destination, node)
    everything = (*sources, *inline_files(node, stage))
    if not everything:
        raise InstructionError(stage.place(node), "no source files were specified")
    is_add = isinstance(node, ast.Add)
    unpack = isinstance(node, ast.Add) and node.unpack is not False
    if isinstance(node, ast.Add) and node.unpack and inputs:
        raise InstructionError(stage.place(node), "ADD --unpack of a URL: not supported yet")
    if len(everything) > 1 and not stage.absolute(destination).endswith("/"):
        message = semantics.copy_many_sources_to_file(destination)
        stage.plan.warn("CopyManySourcesToFile", message, node.span.first_line)
    chown = None if node.chown is None else stage.expand(node.chown, node)
    chmod = None if node.chmod is None else stage.expand(node.chmod, node)
    op = CopyOp(
        sources=everything,
        destination=stage.absolute(destination),
        chown=chown,
        chmod=chmod,
        exclude=node.exclude,
        unpack=unpack,
        keep_owner=any(isinstance(source, StagePath) for source in sources),
    )
    flags = [f"--chown={chown}"] * (chown is not None) + [f"--chmod={chmod}"] * (chmod is not None)
    shown = [*flags, *(shown_source(source, node, stage) for source in everything), destination]
    verb = "ADD" if is_add else "COPY"
    return stage.apply(node, op, f"{verb} {' '.join(shown)} # buildkit", inputs)


def shown_source(source: CopySource, node: ast.Copy | ast.Add, stage: Stage) -> str:
    """Return how history names a source."""
    match source:
        case ContextPath(path) | StagePath(_, path):
            return path
        case InlineFile(name, _):
            return f"<<{name}"
        case DownloadedFile():
            return next(
                word
                for word in (stage.expand(raw, node) for raw in node.sources)
                if word.startswith(_URL_SCHEMES)
            )


def inline_files(node: ast.Copy | ast.Add, stage: Stage) -> tuple[InlineFile, ...]:
    """Return the heredocs of COPY or ADD as files, expanded unless the delimiter was quoted."""
    return tuple(
        InlineFile(doc.name, expand_body(doc.body, node, stage) if doc.expand else doc.body)
        for doc in node.heredocs
    )


def expand_body(body: str, node: ast.Copy | ast.Add, stage: Stage) -> str:
    """Return a heredoc's body with variables replaced; quotes are text, `\\$` gives `$`."""
    escape = stage.plan.stages.dockerfile.directives.escape
    quoted = re.sub(rf"({re.escape(escape)}(?!\$)|['\"])", lambda found: escape + found[1], body)
    return stage.expand(quoted, node)


def is_git(path: str) -> bool:
    """Tell whether ADD's source is a git repository. Source: Dockerfile reference, "ADD"."""
    if path.startswith(_GIT_SCHEMES):
        return True
    return path.startswith(_URL_SCHEMES) and posixpath.splitext(path.partition("#")[0])[1] == ".git"


def refuse_remote(path: str, node: ast.Copy, stage: Stage) -> None:
    """Raise InstructionError when COPY's source is a URL or a git repository."""
    if path.startswith(_URL_SCHEMES) or is_git(path):
        raise InstructionError(
            stage.place(node), f"source can't be a URL or git ref for COPY: {path}", hint="use ADD"
        )
