"""The documents of the OCI image spec as values: descriptor, manifest, index, image config.

Owns the way from JSON to values and back. Refuses to know where the bytes lie. Fields that the
spec has gained since, or that a tool has added, are kept in `extra` and written again.

Written documents have the field order and the omissions of Go's image-spec types (with docker's
Healthcheck, OnBuild and Shell), so a value always gives the same bytes.
Source: image-spec descriptor.md, manifest.md, image-index.md, config.md.
"""

import re
from collections.abc import Iterable, Mapping

from store import mediatypes
from store.digest import DiffID, Digest, is_digest
from store.document import Fields, decode, drop_empty, encode
from values.classes import dataclass, field

_ANY_DIGEST = re.compile(r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[A-Za-z0-9=_-]+\Z")

Extra = Mapping[str, object]
Pairs = tuple[tuple[str, str], ...]


def _extra() -> Extra:
    return {}


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image runs on."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()
    extra: Extra = field(default_factory=_extra, hash=False)

    def __str__(self) -> str:
        """Return os/architecture[/variant]."""
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    @classmethod
    def from_fields(cls, fields: Fields) -> "Platform":
        """Read the platform object of a descriptor, or that part of a config."""
        return cls(
            os=fields.text("os"),
            architecture=fields.text("architecture"),
            variant=fields.text("variant"),
            os_version=fields.text("os.version"),
            os_features=fields.texts("os.features"),
            extra=fields.rest(),
        )

    def to_fields(self) -> dict[str, object]:
        """Return the JSON object."""
        named: dict[str, object] = {
            "architecture": self.architecture,
            "os": self.os,
            "os.version": self.os_version,
            "os.features": list(self.os_features),
            "variant": self.variant,
        }
        return drop_empty(named, self.extra)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Points at a blob: what it is, its digest, how long it is."""

    media_type: str
    digest: Digest
    size_bytes: int
    annotations: Mapping[str, str] | None = field(default=None, hash=False)
    platform: Platform | None = None
    extra: Extra = field(default_factory=_extra, hash=False)

    @classmethod
    def from_fields(cls, fields: Fields) -> "Descriptor":
        """Read a descriptor object. Raises Corrupt when digest or size make no sense."""
        digest, size_bytes = fields.required_text("digest"), fields.integer("size")
        if not _ANY_DIGEST.match(digest):
            fields.fail(f"{digest!r} is no digest")
        if size_bytes < 0:
            fields.fail(f"size {size_bytes} is negative")
        platform = fields.child("platform")
        annotations = fields.pairs("annotations")
        return cls(
            media_type=fields.text("mediaType"),
            digest=Digest(digest),
            size_bytes=size_bytes,
            annotations=dict(annotations) if annotations else None,
            platform=Platform.from_fields(platform) if platform else None,
            extra=fields.rest(),
        )

    def to_fields(self) -> dict[str, object]:
        """Return the JSON object."""
        rest: dict[str, object] = {
            "annotations": dict(sorted((self.annotations or {}).items())),
            "platform": self.platform.to_fields() if self.platform else None,
        }
        named = {"mediaType": self.media_type, "digest": self.digest, "size": self.size_bytes}
        return named | drop_empty(rest, self.extra)


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One line of an image's history."""

    created: str | None = None
    created_by: str | None = None
    comment: str | None = None
    author: str | None = None
    empty_layer: bool = False
    extra: Extra = field(default_factory=_extra, hash=False)

    @classmethod
    def from_fields(cls, fields: Fields) -> "HistoryEntry":
        """Read one element of a config's history."""
        return cls(
            created=fields.optional_text("created"),
            created_by=fields.optional_text("created_by"),
            comment=fields.optional_text("comment"),
            author=fields.optional_text("author"),
            empty_layer=fields.boolean("empty_layer"),
            extra=fields.rest(),
        )

    def to_fields(self) -> dict[str, object]:
        """Return the JSON object."""
        named: dict[str, object] = {
            "created": self.created,
            "created_by": self.created_by,
            "author": self.author,
            "comment": self.comment,
            "empty_layer": self.empty_layer,
        }
        return drop_empty(named, self.extra)


@dataclass(frozen=True, slots=True)
class Healthcheck:
    """HEALTHCHECK: durations in nanoseconds, 0 means inherit."""

    test: tuple[str, ...] = ()
    interval_ns: int = 0
    timeout_ns: int = 0
    start_period_ns: int = 0
    start_interval_ns: int = 0
    retries: int = 0
    extra: Extra = field(default_factory=_extra, hash=False)

    @classmethod
    def from_fields(cls, fields: Fields) -> "Healthcheck":
        """Read the Healthcheck object of a container config."""
        return cls(
            test=fields.texts("Test"),
            interval_ns=fields.integer("Interval"),
            timeout_ns=fields.integer("Timeout"),
            start_period_ns=fields.integer("StartPeriod"),
            start_interval_ns=fields.integer("StartInterval"),
            retries=fields.integer("Retries"),
            extra=fields.rest(),
        )

    def to_fields(self) -> dict[str, object]:
        """Return the JSON object."""
        named: dict[str, object] = {
            "Test": list(self.test),
            "Interval": self.interval_ns,
            "Timeout": self.timeout_ns,
            "StartPeriod": self.start_period_ns,
            "StartInterval": self.start_interval_ns,
            "Retries": self.retries,
        }
        return drop_empty(named, self.extra)


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """What a container made from the image runs, and how.

    exposed_ports, volumes: keys of maps, written sorted. labels: pairs, written sorted.
    entrypoint, cmd, shell: None where not set; an empty tuple is written like None.
    """

    user: str = ""
    exposed_ports: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    volumes: tuple[str, ...] = ()
    working_dir: str = ""
    labels: Pairs = ()
    stop_signal: str = ""
    args_escaped: bool = False
    healthcheck: Healthcheck | None = None
    on_build: tuple[str, ...] = ()
    shell: tuple[str, ...] | None = None
    extra: Extra = field(default_factory=_extra, hash=False)

    @classmethod
    def from_fields(cls, fields: Fields) -> "ContainerConfig":
        """Read the config object of an image config."""
        healthcheck = fields.child("Healthcheck")
        return cls(
            user=fields.text("User"),
            exposed_ports=fields.keys("ExposedPorts"),
            env=fields.texts("Env"),
            entrypoint=fields.optional_texts("Entrypoint"),
            cmd=fields.optional_texts("Cmd"),
            volumes=fields.keys("Volumes"),
            working_dir=fields.text("WorkingDir"),
            labels=fields.pairs("Labels"),
            stop_signal=fields.text("StopSignal"),
            args_escaped=fields.boolean("ArgsEscaped"),
            healthcheck=Healthcheck.from_fields(healthcheck) if healthcheck else None,
            on_build=fields.texts("OnBuild"),
            shell=fields.optional_texts("Shell"),
            extra=fields.rest(),
        )

    def to_fields(self) -> dict[str, object]:
        """Return the JSON object."""
        named: dict[str, object] = {
            "User": self.user,
            "ExposedPorts": _set(self.exposed_ports),
            "Env": list(self.env),
            "Entrypoint": list(self.entrypoint or ()),
            "Cmd": list(self.cmd or ()),
            "Volumes": _set(self.volumes),
            "WorkingDir": self.working_dir,
            "Labels": dict(sorted(self.labels)),
            "StopSignal": self.stop_signal,
            "ArgsEscaped": self.args_escaped,
            "OnBuild": list(self.on_build),
            "Shell": list(self.shell or ()),
        }
        fields = drop_empty(named, {})
        if self.healthcheck is not None:
            # A pointer in Go: present even when every field of it is left out.
            fields = _insert(fields, "Healthcheck", self.healthcheck.to_fields(), _AFTER_HEALTH)
        return fields | {name: value for name, value in self.extra.items() if name not in named}


_AFTER_HEALTH = ("OnBuild", "Shell")


def _set(names: Iterable[str]) -> dict[str, object]:
    """Return names as the keys of a Go map used as a set."""
    return {name: {} for name in sorted(set(names))}


def _insert(
    fields: dict[str, object], name: str, value: object, followers: tuple[str, ...]
) -> dict[str, object]:
    """Return `fields` with `name` put before those of `followers` that are there."""
    tail = {key: fields.pop(key) for key in followers if key in fields}
    return fields | {name: value} | tail


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """The document whose digest is the image ID: the platform, what to run, the layers' diff_ids.

    created: RFC 3339, or None.
    """

    architecture: str
    os: str
    variant: str = ""
    created: str | None = None
    author: str = ""
    config: ContainerConfig = field(default_factory=ContainerConfig)
    diff_ids: tuple[DiffID, ...] = ()
    history: tuple[HistoryEntry, ...] = ()
    os_version: str = ""
    os_features: tuple[str, ...] = ()
    extra: Extra = field(default_factory=_extra, hash=False)

    @property
    def platform(self) -> Platform:
        """What the image runs on."""
        return Platform(self.os, self.architecture, self.variant, self.os_version, self.os_features)

    @classmethod
    def from_json(cls, data: bytes) -> "ImageConfig":
        """Read an image config. Raises Corrupt when it is none."""
        fields = decode(data, "image config")
        rootfs = fields.child("rootfs")
        if rootfs is None:
            fields.fail("field rootfs is missing")
        config = fields.child("config")
        return cls(
            architecture=fields.text("architecture"),
            os=fields.text("os"),
            variant=fields.text("variant"),
            created=fields.optional_text("created"),
            author=fields.text("author"),
            config=ContainerConfig.from_fields(config) if config else ContainerConfig(),
            diff_ids=_diff_ids(rootfs),
            history=tuple(map(HistoryEntry.from_fields, fields.children("history"))),
            os_version=fields.text("os.version"),
            os_features=fields.texts("os.features"),
            extra=fields.rest(),
        )

    def to_json(self) -> bytes:
        """Return the document; equal configs give equal bytes."""
        head: dict[str, object] = {"created": self.created, "author": self.author}
        platform: dict[str, object] = {
            "variant": self.variant,
            "os": self.os,
            "os.version": self.os_version,
            "os.features": list(self.os_features),
        }
        fields = drop_empty(head, {})
        fields["architecture"] = self.architecture
        # os is mandatory: written even when it is empty.
        fields |= drop_empty(platform, {}) | {"os": self.os}
        fields["config"] = self.config.to_fields()
        fields["rootfs"] = {"type": "layers", "diff_ids": list(self.diff_ids)}
        if self.history:
            fields["history"] = [entry.to_fields() for entry in self.history]
        fields.update((name, value) for name, value in self.extra.items() if name not in fields)
        return encode(fields)


def _diff_ids(rootfs: Fields) -> tuple[DiffID, ...]:
    diff_ids = rootfs.texts("diff_ids")
    for diff_id in diff_ids:
        if not is_digest(diff_id):
            rootfs.fail(f"{diff_id!r} is no sha256 digest")
    return tuple(map(DiffID, diff_ids))


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image on one platform: its config and its layers as blobs, base first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    media_type: str = mediatypes.OCI_MANIFEST
    artifact_type: str = ""
    subject: Descriptor | None = None
    annotations: Mapping[str, str] | None = field(default=None, hash=False)
    extra: Extra = field(default_factory=_extra, hash=False)

    @classmethod
    def from_json(cls, data: bytes) -> "Manifest":
        """Read a manifest. Raises Corrupt when it is none, or of schema version 1."""
        fields = decode(data, "image manifest")
        _check_version(fields)
        config = fields.child("config")
        if config is None:
            fields.fail("field config is missing")
        subject = fields.child("subject")
        return cls(
            config=Descriptor.from_fields(config),
            layers=tuple(map(Descriptor.from_fields, fields.children("layers"))),
            media_type=fields.text("mediaType") or mediatypes.OCI_MANIFEST,
            artifact_type=fields.text("artifactType"),
            subject=Descriptor.from_fields(subject) if subject else None,
            annotations=dict(fields.pairs("annotations")) or None,
            extra=fields.rest(),
        )

    def to_json(self) -> bytes:
        """Return the document; equal manifests give equal bytes."""
        named: dict[str, object] = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "artifactType": self.artifact_type,
            "config": self.config.to_fields(),
        }
        tail: dict[str, object] = {
            "subject": self.subject.to_fields() if self.subject else None,
            "annotations": dict(sorted((self.annotations or {}).items())),
        }
        layers = [layer.to_fields() for layer in self.layers]
        return encode(drop_empty(named, {}) | {"layers": layers} | drop_empty(tail, self.extra))


@dataclass(frozen=True, slots=True)
class Index:
    """Several manifests under one name, usually one a platform."""

    manifests: tuple[Descriptor, ...]
    media_type: str = mediatypes.OCI_INDEX
    artifact_type: str = ""
    subject: Descriptor | None = None
    annotations: Mapping[str, str] | None = field(default=None, hash=False)
    extra: Extra = field(default_factory=_extra, hash=False)

    @classmethod
    def from_json(cls, data: bytes) -> "Index":
        """Read an image index or docker's manifest list. Raises Corrupt when it is none."""
        fields = decode(data, "image index")
        _check_version(fields)
        subject = fields.child("subject")
        return cls(
            manifests=tuple(map(Descriptor.from_fields, fields.children("manifests"))),
            media_type=fields.text("mediaType") or mediatypes.OCI_INDEX,
            artifact_type=fields.text("artifactType"),
            subject=Descriptor.from_fields(subject) if subject else None,
            annotations=dict(fields.pairs("annotations")) or None,
            extra=fields.rest(),
        )

    def to_json(self) -> bytes:
        """Return the document; equal indexes give equal bytes."""
        named: dict[str, object] = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "artifactType": self.artifact_type,
        }
        tail: dict[str, object] = {
            "subject": self.subject.to_fields() if self.subject else None,
            "annotations": dict(sorted((self.annotations or {}).items())),
        }
        manifests = [manifest.to_fields() for manifest in self.manifests]
        return encode(
            drop_empty(named, {}) | {"manifests": manifests} | drop_empty(tail, self.extra)
        )


def _check_version(fields: Fields) -> None:
    version = fields.integer("schemaVersion")
    if version != 2:
        fields.fail(f"schema version {version} is not supported")
