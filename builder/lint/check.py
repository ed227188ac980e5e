"""Linting without building: what `build --check` does.

Every stage is lowered, or with a target those that it needs; nothing is run and nothing is pulled.
Of a base image that the store lacks only the config is asked for.
"""

import os
from collections.abc import Iterator

from builder.definition import DockerfileText, SourceTree, read_dockerfile
from builder.errors import BaseImageNotFound, BuildError, Place
from builder.layoutimages import layout_image
from builder.lint.engine import Linter, Violation, options_of
from builder.namedcontexts import NamedContext
from builder.planning import Planner
from builder.ready import check_platform, load_ignore_rules, parse_dockerfile
from builder.request import BuildRequest
from builder.secrets import Secrets
from builder.site import Progress
from builder.sourcetree import opened_source
from builder.transfers import access_of
from grammar import tables
from grammar.errors import GrammarError
from grammar.ignorefile import IgnoreRules
from registry_client import blobs
from registry_client.client import Client
from registry_client.errors import RegistryError, Unreachable
from registry_client.manifests import Repository
from registry_client.resolve import pulling, resolve
from runtime.cancel import Cancel
from store import platforms
from store.digest import Digest
from store.errors import NotFound, StoreError
from store.images import Image
from store.oci import ImageConfig, Platform
from store.reference import Reference
from store.root import Store
from values.classes import dataclass, field


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check found.

    errors: why a build would fail; with `error=true` that there are violations, too.
    unknown: base images that nobody could ask for, so that less was checked.
    """

    dockerfile: DockerfileText
    violations: tuple[Violation, ...] = ()
    errors: tuple[BuildError | GrammarError, ...] = ()
    unknown: tuple[str, ...] = ()


def check(store: Store, request: BuildRequest) -> CheckReport:
    """Return what is to be said of the Dockerfile of a build.

    Raises BuildError where there is no file to be checked, or no sense in what is asked.
    """
    silent = Progress(lambda _event: None)
    secrets = Secrets(request.secrets)
    with store.lease(), opened_source(store, request, silent, Cancel(), secrets) as source:
        return check_source(store, request, source)


def check_source(store: Store, request: BuildRequest, source: SourceTree) -> CheckReport:
    """Return what is to be said of the Dockerfile of a build whose context is at hand."""
    silent = Progress(lambda _event: None)
    platform = check_platform(request)
    dockerfile = read_dockerfile(request, source)
    trees = os.path.join(store.root, "trees")
    os.makedirs(trees, mode=0o700, exist_ok=True)
    try:
        stages = parse_dockerfile(dockerfile, trees, silent)
    except GrammarError as error:
        return CheckReport(dockerfile, errors=(error,))
    _, rules = load_ignore_rules(source, dockerfile, silent)
    linter = Linter(stages, options_of(stages, request), lambda *_: None)
    bases = BaseConfigs(store, request)
    with tables.kept_in(trees):
        linter.check_file(request, platform)
        found = list(check_stages(linter, bases, request, platform, rules))
    # The stages of a broken one are broken in the same way.
    errors = {str(error): error for error in found}
    return CheckReport(dockerfile, linter.violations, tuple(errors.values()), tuple(bases.unknown))


def check_stages(
    linter: Linter,
    bases: "BaseConfigs",
    request: BuildRequest,
    platform: str,
    rules: IgnoreRules | None,
) -> Iterator[BuildError]:
    """Lower the stages that count; return what would make the build fail."""
    stages = linter.stages
    try:
        targets = (stages.target(request.target),) if request.target else stages.stages
        planner = Planner(bases, request, stages, platform, linter)
    except BuildError as error:
        yield error
        return
    for stage in targets:
        try:
            planner.stage(stage)
        except BuildError as error:
            yield error
    linter.check_plan(planner.plan.vertices.values(), rules)
    try:
        linter.raise_if_asked()
    except BuildError as error:
        yield error


@dataclass(slots=True)
class BaseConfigs:
    """Base images as far as a check needs them: their configs.

    unknown: names of those that nobody could ask for. They are taken for images without any
    setting, and variables are not missed in what is built on them.
    """

    store: Store
    request: BuildRequest
    unknown: list[str] = field(default_factory=list)
    _known: dict[tuple[Reference, str], Image] = field(default_factory=dict)

    def image(self, reference: Reference, place: Place, platform: str) -> Image:
        """Return an image of the store, or the registry's with its config alone.

        Raises BaseImageNotFound when the registry does not have it.
        """
        key = (reference, platform)
        if key not in self._known:
            wanted = platforms.parse(platform)
            own = None if wanted == platforms.host() else wanted
            try:
                self._known[key] = self.store.images.find(str(reference), platform=own)
            except NotFound:
                self._known[key] = self._ask(reference, place, wanted, own)
        return self._known[key]

    def layout(self, context: NamedContext, platform: str) -> Image:
        """Return the image of a named context that is an OCI layout, without its layers."""
        wanted = platforms.parse(platform)
        return layout_image(self.store, context, wanted, with_layers=False)

    def _ask(
        self, reference: Reference, place: Place, wanted: Platform, own: Platform | None
    ) -> Image:
        what = f"check {reference.familiar()}"
        access = access_of(self.request)
        try:
            with Client(reference.registry, access, reference.repository) as client:
                repository = Repository(client, reference.repository, pulling(reference.repository))
                manifest = resolve(repository, reference, own, what).manifest
                config = blobs.fetch(blobs.Blob(repository, manifest.config, what))
            return Image(manifest.config.digest, ImageConfig.from_json(config))
        except Unreachable:
            self.unknown.append(reference.familiar())
            return Image(Digest(""), ImageConfig(wanted.architecture, wanted.os))
        except (RegistryError, StoreError) as error:
            cause = str(error).removeprefix(f"{what}: ")
            message = f"{reference.familiar()}: image not found in the store, and not there: "
            raise BaseImageNotFound(place, message + cause, hint=error.hint) from error
