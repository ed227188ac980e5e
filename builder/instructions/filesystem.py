"""COPY, ADD and WORKDIR: instructions that put files into the stage's root file system."""

import posixpath
import re

from builder import gitref
from builder.errors import InstructionError
from builder.gitref import GitRef, InvalidGitAddress, without_password
from builder.instructions.origin import folder_of_copy_source, root_of_copy_source
from builder.lint import semantics
from builder.lower import lower
from builder.ownership import parse_chmod
from builder.stage import Stage
from builder.vertex import (
    BaseOp,
    ContextPath,
    CopyOp,
    CopySource,
    DownloadedFile,
    DownloadOp,
    GitOp,
    InlineFile,
    LinkOp,
    MakeDirOp,
    StagePath,
    VertexID,
)
from grammar import ast, glob
from grammar.errors import PatternError
from grammar.ignorefile import PatternList
from store.digest import is_digest
from values.classes import dataclass, replace

_URL_SCHEMES = ("http://", "https://")


@lower.register
def workdir(node: ast.Workdir, stage: Stage) -> Stage:
    """WORKDIR sets config.WorkingDir and makes the directory, owned by the current user."""
    path = stage.expand(node.path, node)
    absolute = stage.absolute(path).rstrip("/") or "/"
    result = replace(stage.configure(working_dir=absolute), is_workdir_set=True)
    text = f"WORKDIR {result.cwd}"
    if result.cwd == "/":
        return replace(result, step=result.step + 1).record(text)
    return result.apply(node, MakeDirOp(result.cwd, stage.config.user), text)


@dataclass(frozen=True, slots=True)
class Named:
    """What COPY or ADD names: its sources, their words for history, and the vertices they need."""

    sources: tuple[CopySource, ...]
    shown: tuple[str, ...]
    inputs: tuple[VertexID, ...]


@lower.register
def copy(node: ast.Copy, stage: Stage) -> Stage:
    """COPY from the context, from a stage or from an image."""
    inputs: tuple[VertexID, ...] = ()
    folder = folder_of_copy_source(node, stage)
    if node.from_ is not None and folder is None:
        inputs = (root_of_copy_source(node, stage),)
    sources: list[CopySource] = []
    shown = []
    for raw in node.sources:
        word = stage.expand(raw, node)
        refuse_remote(word, node, stage)
        path, include = split_at_pivot(word) if node.parents else (word, None)
        check_patterns(path, include, node, stage)
        sources.append(
            StagePath(1, path, include) if inputs else ContextPath(path, include, folder or "")
        )
        shown.append(word)
    return finish(node, stage, Named(tuple(sources), tuple(shown), inputs))


@lower.register
def add(node: ast.Add, stage: Stage) -> Stage:
    """ADD from the context (archives are unpacked), from a URL or from a git repository."""
    inputs: list[VertexID] = []
    sources: list[CopySource] = []
    shown = []
    checksum = None if node.checksum is None else stage.expand(node.checksum, node)
    for raw in node.sources:
        word = stage.expand(raw, node)
        repository = git_ref(word, node, stage)
        if repository is not None:
            wanted = with_flags(repository, checksum, node, stage)
            inputs.append(add_repository(wanted, node, stage))
            sources.append(StagePath(len(inputs), "/"))
        elif word.startswith(_URL_SCHEMES):
            check_digest(checksum, node, stage)
            download = DownloadOp(word, checksum)
            inputs.append(stage.add_vertex(node, download, (), stage.step + 1, name=word))
            sources.append(DownloadedFile(len(inputs), unpack=bool(node.unpack)))
        else:
            check_patterns(word, None, node, stage)
            sources.append(ContextPath(word))
        shown.append(word)
    if checksum is not None and (len(sources) != 1 or not inputs):
        raise InstructionError(
            stage.place(node), "--checksum requires a single remote source (http, https or git)"
        )
    if not inputs:
        refuse_tries(node, stage)
    return finish(node, stage, Named(tuple(sources), tuple(shown), tuple(inputs)))


def refuse_tries(node: ast.Add, stage: Stage) -> None:
    """Raise InstructionError for policies of what is fetched where nothing is."""
    given = node.policies
    if given is not None and (given.retry or given.timeout_ms):
        name = "retry" if given.retry else "timeout"
        raise InstructionError(
            stage.place(node),
            f"ADD has no policy {name} for files of the context",
            hint="it is for RUN, and for ADD of a URL or a git repository",
        )


def with_flags(ref: GitRef, checksum: str | None, node: ast.Add, stage: Stage) -> GitRef:
    """Return what ADD's flags make of a git repository. Raises InstructionError."""
    keep = node.keep_git_dir
    if keep is not None and ref.keep_git_dir is not None and keep != ref.keep_git_dir:
        raise InstructionError(stage.place(node), "inconsistent keep-git-dir configuration")
    if checksum and ref.checksum and checksum != ref.checksum:
        raise InstructionError(
            stage.place(node), f'checksum mismatch "{checksum}" != "{ref.checksum}"'
        )
    if checksum and re.fullmatch(r"[0-9a-f]{1,64}", checksum) is None:
        raise InstructionError(
            stage.place(node),
            f"invalid checksum: {checksum}",
            hint="for a git repository it is the name of a commit, or how that begins",
        )
    return replace(
        ref,
        keep_git_dir=ref.keep_git_dir if keep is None else keep,
        checksum=ref.checksum or checksum or "",
    )


def add_repository(ref: GitRef, node: ast.Instruction, stage: Stage) -> VertexID:
    """Put the checkout of a git repository into the plan and return its vertex."""
    step = stage.step + 1
    nothing = stage.add_vertex(node, BaseOp(()), (), step)
    name = f"[internal] git {without_password(ref.remote)} {ref.ref}".rstrip()
    return stage.add_vertex(node, GitOp(ref), (nothing,), step, name=name)


def finish(node: ast.Copy | ast.Add, stage: Stage, named: Named) -> Stage:
    """Return the stage after the copy vertex that COPY and ADD share."""
    destination = stage.expand(node.destination, node)
    everything = (*named.sources, *inline_files(node, stage))
    if not everything:
        raise InstructionError(stage.place(node), "no source files were specified")
    if len(everything) > 1 and not stage.absolute(destination).endswith("/"):
        message = semantics.copy_many_sources_to_file(destination)
        stage.plan.warn("CopyManySourcesToFile", message, node.span.first_line)
    op = CopyOp(
        sources=everything,
        destination=stage.absolute(destination),
        chown=None if node.chown is None else stage.expand(node.chown, node) or None,
        chmod=chmod_of(node, stage),
        exclude=node.exclude,
        unpack=isinstance(node, ast.Add) and node.unpack is not False,
    )
    words = (*named.shown, *(f"<<{doc.name}" for doc in node.heredocs), destination)
    text = history_text(node, op, words)
    if not node.link:
        return stage.apply(node, op, text, named.inputs)
    step = stage.step + 1
    nothing = stage.add_vertex(node, BaseOp(()), (), step)
    linked = stage.add_vertex(node, op, (nothing, *named.inputs), step)
    return stage.apply(node, LinkOp(), text, (linked,))


def history_text(node: ast.Copy | ast.Add, op: CopyOp, words: tuple[str, ...]) -> str:
    """Return the history text: BuildKit's, which names three of the flags."""
    parts = ["ADD" if isinstance(node, ast.Add) else "COPY"]
    parts += ["--parents"] * (isinstance(node, ast.Copy) and node.parents)
    parts += [f"--chown={op.chown}"] * bool(op.chown)
    parts += [f"--chmod={op.chmod}"] * bool(op.chmod)
    return " ".join([*parts, *words, "# buildkit"])


def split_at_pivot(path: str) -> tuple[str, str | None]:
    """Return the root and the pattern below it that a source of COPY --parents means.

    What stands after `/./` keeps its directories; without it the whole path does. The pattern is
    None where the whole root is meant.
    """
    root, pivot, pattern = path.partition("/./")
    if not pivot:
        root, pattern = "/", path
    return root or "/", posixpath.normpath(f"/{pattern}").lstrip("/") or None


def check_patterns(path: str, include: str | None, node: ast.Copy | ast.Add, stage: Stage) -> None:
    """Raise InstructionError for a source or an --exclude that is a malformed pattern."""
    try:
        if glob.has_wildcard(path):
            glob.match(path, "")
        PatternList([include or "", *node.exclude])
    except PatternError as error:
        raise InstructionError(stage.place(node), str(error), hint=error.hint) from error


def check_digest(checksum: str | None, node: ast.Add, stage: Stage) -> None:
    """Raise InstructionError for a --checksum that is no sha256 digest."""
    if checksum is not None and not is_digest(checksum):
        raise InstructionError(
            stage.place(node),
            f"invalid checksum digest format: {checksum}",
            hint="write --checksum=sha256: and 64 hexadecimal digits",
        )


def chmod_of(node: ast.Copy | ast.Add, stage: Stage) -> str | None:
    """Return the value of --chmod, None without one. Raises InstructionError for no mode."""
    if node.chmod is None:
        return None
    text = stage.expand(node.chmod, node)
    if not text:
        return None
    try:
        parse_chmod(text)
    except ValueError as error:
        raise InstructionError(stage.place(node), f"--chmod: {error}") from error
    return text


def inline_files(node: ast.Copy | ast.Add, stage: Stage) -> tuple[InlineFile, ...]:
    """Return the heredocs of COPY or ADD as files, expanded unless the delimiter was quoted.

    Raises InstructionError for a delimiter that is no name for a file.
    """
    files = []
    for doc in node.heredocs:
        folder, name = posixpath.split(posixpath.normpath(f"/{doc.name}"))
        if folder != "/" or not name:
            raise InstructionError(
                stage.place(node),
                f"the heredoc delimiter {doc.name} is no file name",
                hint="the file is called like the delimiter; choose one without /",
            )
        body = stage.expand_body(doc.body, node) if doc.expand else doc.body
        files.append(InlineFile(name, body))
    return tuple(files)


def git_ref(word: str, node: ast.Copy | ast.Add, stage: Stage) -> GitRef | None:
    """Return what a source means as a git repository, None where it is none.

    Raises InstructionError for one that contradicts itself.
    """
    try:
        return gitref.parse(word)
    except InvalidGitAddress as error:
        raise InstructionError(stage.place(node), f"{word}: {error}") from error


def refuse_remote(word: str, node: ast.Copy, stage: Stage) -> None:
    """Raise InstructionError when COPY's source is a URL or a git repository."""
    if word.startswith(_URL_SCHEMES) or git_ref(word, node, stage) is not None:
        raise InstructionError(
            stage.place(node), f"source can't be a URL or git ref for COPY: {word}", hint="use ADD"
        )
