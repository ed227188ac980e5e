"""How one output wants its images: compression, media types, annotations, times."""

from builder.errors import BuildError
from builder.export import provenance, sbom
from builder.export.annotations import Annotation, annotations_of
from builder.export.options import compression_name
from builder.request import BuildRequest, Output
from store.manifests import GZIP, Compression
from values.classes import dataclass

EPOCH_ARG = "SOURCE_DATE_EPOCH"


@dataclass(frozen=True, slots=True)
class Form:
    """The form of an image's documents and layers.

    docker_types: media types of docker's schema 2. epoch_s: no time of the config is later, in
    seconds since 1970. is_rewritten: neither is any time in the layers of the build. is_attested:
    attestations stand beside the images.
    """

    compression: Compression = GZIP
    docker_types: bool = False
    annotations: tuple[Annotation, ...] = ()
    epoch_s: int | None = None
    is_rewritten: bool = False
    is_attested: bool = False

    @property
    def has_own_documents(self) -> bool:
        """Tell whether the manifest that any image gets when it leaves the store will not do."""
        return self.docker_types or bool(self.annotations) or self.is_attested


def form_of(request: BuildRequest, output: Output) -> Form:
    """Return the form that an output asks for. Raises BuildError."""
    epoch_s = epoch_of(request, output)
    is_rewritten = output.is_on("rewrite-timestamp")
    if is_rewritten and epoch_s is None:
        raise BuildError(
            f"--output type={output.type}: rewrite-timestamp needs a time",
            hint=f"set {EPOCH_ARG} in the environment, to seconds since 1970",
        )
    annotations = annotations_of(request, output)
    compression = compression_of(output)
    # Docker's documents know neither annotations nor zstd: as BuildKit, OCI's are written then.
    wants_docker = not output.is_on("oci-mediatypes", default=True)
    # A docker archive has no place for attestations.
    wanted = provenance.is_wanted(request) or sbom.is_wanted(request)
    is_attested = wanted and output.type != "docker"
    plain = not annotations and compression.algorithm != "zstd" and not is_attested
    docker_types = wants_docker and plain
    return Form(compression, docker_types, annotations, epoch_s, is_rewritten, is_attested)


def epoch_of(request: BuildRequest, output: Output | None = None) -> int | None:
    """Return SOURCE_DATE_EPOCH of a build, or of one output; None without. Raises BuildError."""
    text = dict(request.build_args).get(EPOCH_ARG)
    own = output.option("source-date-epoch") if output is not None else None
    text = own if own is not None else text
    if not text:
        return None
    if not text.isdecimal() or len(text) > 11:
        raise BuildError(
            f'{EPOCH_ARG}: "{text}" is no time', hint="it is a number of seconds since 1970"
        )
    return int(text)


def compression_of(output: Output) -> Compression:
    """Return how the output wants its layers compressed; its options have been checked."""
    name, level = compression_name(output), output.option("compression-level")
    named = Compression.parse("none" if name == "uncompressed" else name)
    has_level = level is not None and named.algorithm != "none"
    return Compression(
        named.algorithm,
        int(level) if level is not None and has_level else None,
        output.is_on("force-compression"),
    )
