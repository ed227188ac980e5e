"""Where outputs go, checked before anything is built.

Source: buildx `util/buildflags`, `build/opt.go` (CreateExports).
"""

import os
import stat
import sys

from builder.errors import BuildError
from builder.export.annotations import parse_flag
from builder.export.forms import Form, form_of
from builder.export.options import check_options
from builder.export.provenance import check_provenance
from builder.export.sbom import check_sbom
from builder.request import LOCAL_DELETE, BuildRequest, Output
from values.classes import replace

FOLDER_TYPES = ("local",)
FILE_TYPES = ("oci", "docker", "tar")
ROOTFS_TYPES = ("local", "tar")
IMAGE_TYPES = ("image", "registry", "oci", "docker")
TYPES = ("image", "registry", "cacheonly", *FOLDER_TYPES, *FILE_TYPES)


def check_outputs(request: BuildRequest) -> tuple[Output, ...]:
    """Return the outputs, each with its destination; the store's image when none is named.

    Raises BuildError for an unknown type and for a destination that cannot be, NotSupportedYet.
    """
    check_provenance(request.provenance)
    check_sbom(request.sbom)
    outputs = tuple(map(_checked, request.outputs))
    if sum(output.option("dest") == "-" for output in outputs) > 1:
        raise BuildError("--output: only one output can go to stdout")
    for output in outputs:
        if output.is_pushed and not (request.tags or request.stage_tags or output.names):
            raise BuildError(
                "a tag is needed to push to a registry", hint="name it: -t REGISTRY/NAME:TAG"
            )
        if output.type == "docker" and "," in (request.platform or ""):
            raise BuildError(
                "--output type=docker: a docker archive holds one platform", hint="use type=oci"
            )
        if output.type == "local" and output.option("mode") == "delete":
            _check_deletion(output.option("dest") or "", request)
    for key, _ in request.annotations:
        parse_flag(key, "")
    for output in outputs or (Output("image"),):
        if output.type in IMAGE_TYPES:
            _check_form(request, form_of(request, output))
    return outputs or (Output("image"),)


def _check_form(request: BuildRequest, form: Form) -> None:
    has_index = "," in (request.platform or "") or form.is_attested
    for annotation in form.annotations if not has_index else ():
        if annotation.level.startswith("index"):
            raise BuildError(
                f"annotations of type {annotation.level}: a single image has no index",
                hint="several platforms or attestations make one",
            )


def is_folder(output: Output) -> bool:
    """Tell whether an output is written as a directory: local, and archives with tar=false."""
    return output.type in FOLDER_TYPES or not output.is_on("tar", default=True)


def _checked(output: Output) -> Output:
    what, dest = f"--output type={output.type}", output.option("dest")
    if output.type not in TYPES:
        raise BuildError(f"invalid {what}: no such type", hint=f"there is {', '.join(TYPES)}")
    check_options(output)
    if is_folder(output):
        _check_folder(what, dest)
    elif output.type == "docker" and not dest:
        # buildx loads it, and here that is the store.
        kept = tuple(pair for pair in output.options if pair[0] != "tar")
        return replace(output, type="image", options=kept)
    elif output.type in FILE_TYPES:
        if not dest:
            output, dest = replace(output, options=(*output.options, ("dest", "-"))), "-"
        _check_file(what, dest)
    return output


def _check_folder(what: str, dest: str | None) -> None:
    if not dest:
        raise BuildError(f"{what}: dest is required", hint=f"say where: {what},dest=FOLDER")
    if dest == "-":
        raise BuildError(f"{what}: dest cannot be stdout", hint="use type=tar for a stream")
    mode = _mode(what, dest)
    if mode is not None and not stat.S_ISDIR(mode):
        raise BuildError(f"{what}: destination directory {dest} is a file")


def _check_deletion(dest: str, request: BuildRequest) -> None:
    """Refuse to clear a folder that is not one of the working directory's own."""
    below = os.path.realpath(".").rstrip("/") + "/"
    if not os.path.realpath(dest).startswith(below) and LOCAL_DELETE not in request.allow:
        raise BuildError(
            f"--output type=local,mode=delete: {dest} is not inside of the working directory",
            hint=f"--allow {LOCAL_DELETE} clears it all the same",
        )


def _check_file(what: str, dest: str) -> None:
    if dest == "-":
        if sys.stdout.isatty():
            raise BuildError(
                f"{what}: dest file is required: refusing to write to a terminal",
                hint=f"say where: {what},dest=FILE",
            )
        return
    mode = _mode(what, dest)
    if mode is not None and stat.S_ISDIR(mode):
        raise BuildError(f"{what}: destination file {dest} is a directory")
    if mode is None and not os.path.isdir(os.path.dirname(dest) or "."):
        raise BuildError(f"{what}: write {dest}: no such file or directory")


def _mode(what: str, dest: str) -> int | None:
    """Return the mode of what is there, None for nothing."""
    try:
        return os.stat(dest).st_mode
    except FileNotFoundError:
        return None
    except OSError as error:
        cause = (error.strerror or str(error)).lower()
        raise BuildError(f"{what}: invalid destination {dest}: {cause}") from error
