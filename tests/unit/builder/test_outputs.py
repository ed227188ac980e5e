"""What `--output` may say: keys, values, annotations; and what a form makes of a config."""

import pytest

from builder.errors import BuildError
from builder.export.annotations import Annotation, of_level, parse_flag, parse_option
from builder.export.destinations import check_outputs
from builder.export.forms import compression_of, epoch_of, form_of
from builder.export.options import KEYS
from builder.export.products import at_epoch
from builder.request import BuildRequest, Output
from store.manifests import Compression
from store.oci import HistoryEntry, ImageConfig, Platform


def output(type: str, **options: str) -> Output:
    return Output(type, tuple((key.replace("_", "-"), value) for key, value in options.items()))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, Compression("gzip")),
        ({"compression": "zstd", "compression-level": "9"}, Compression("zstd", 9)),
        ({"compression": "uncompressed"}, Compression("none")),
        ({"compression": "none", "compression-level": "0"}, Compression("none")),
        ({"force-compression": "true"}, Compression("gzip", force=True)),
        ({"force-compression": "0"}, Compression("gzip")),
    ],
)
def test_compression_of(options: dict[str, str], expected: Compression) -> None:
    assert compression_of(Output("registry", tuple(options.items()))) == expected


@pytest.mark.parametrize(
    ("wrong", "message", "hint"),
    [
        (output("image", compression="lzma"), 'invalid compression "lzma"', "gzip, zstd"),
        (output("image", compression="estargz"), "estargz: not supported yet", "gzip, zstd"),
        (output("oci", compression_level="x"), 'invalid compression-level "x"', "from 0 to 9"),
        (output("oci", compression="zstd", compression_level="23"), "level", "from 0 to 22"),
        (output("oci", compression="uncompressed", compression_level="1"), "level", "from 0 to 0"),
        (output("image", push="maybe"), 'invalid push "maybe"', "true or false"),
        (output("image", store="false"), "store=false: not supported yet", None),
        (output("image", color="red"), 'unknown key "color"', "type, name, compression"),
        (output("registry", push="true"), 'unknown key "push"', "push-by-digest"),
        (output("local", dest="/", name="x"), 'unknown key "name"', "type, dest, platform-split"),
        (output("local", dest="/", mode="move"), 'invalid mode "move"', "copy and delete"),
        (output("local", dest="/", mode="delete"), "/ is not inside of the", "buildx.local.delete"),
        (output("local", dest=".", mode="delete"), ". is not inside of the", "buildx.local.delete"),
        (output("local", dest="x/../..", mode="delete"), "is not inside of the", "--allow"),
        (output("cacheonly", dest="x"), 'unknown key "dest"', "there is type"),
        (output("image", name="UPPER"), "name: ", None),
        (output("squashfs"), "no such type", "image, registry, cacheonly, local, oci"),
        (Output("local", (("dest", "/"), ("annotation.a", "b"))), "no annotations", None),
        (Output("image", (("annotation-layer.a", "b"),)), 'type "layer"', "manifest, index"),
        (Output("image", (("annotation", "b"),)), 'key "annotation"', "annotation.KEY=VALUE"),
        (Output("image", (("annotation[x/y/z/a].k", "b"),)), "invalid platform", None),
        (Output("image", (("annotation-index.a", "b"),)), "a single image has no index", "several"),
        (output("image", rewrite_timestamp="true"), "needs a time", "SOURCE_DATE_EPOCH"),
        (output("image", source_date_epoch="soon"), 'source-date-epoch "soon"', "1970"),
    ],
)
def test_what_is_refused(wrong: Output, message: str, hint: str | None) -> None:
    with pytest.raises(BuildError) as caught:
        check_outputs(BuildRequest(context=".", outputs=(wrong,)))
    assert message in str(caught.value)
    assert hint is None or hint in (caught.value.hint or "")


# What may say anything.
FREE = {"dest"}
OPTIONS = [(type_, key) for type_, known in KEYS.items() for key in known if key not in FREE]


@pytest.mark.parametrize(("type_", "key"), OPTIONS)
def test_a_wrong_value_of_any_key_is_one_error_that_says_what_is_right(
    type_: str, key: str
) -> None:
    options = (("dest", "/dev/null/x"), (key, "?!"))
    wrong = Output(type_, tuple(pair for pair in options if pair[0] in KEYS[type_]))
    with pytest.raises(BuildError) as caught:
        check_outputs(BuildRequest(context=".", outputs=(wrong,)))
    message = str(caught.value)
    assert message.startswith(f"--output type={type_}: ")
    assert key in message
    assert "\n" not in message
    assert caught.value.hint


def test_a_folder_of_our_own_may_be_cleared() -> None:
    inside = output("local", dest="x/y", mode="delete")
    check_outputs(BuildRequest(context=".", outputs=(inside,)))
    elsewhere = output("local", dest="/nowhere/x", mode="delete")
    check_outputs(BuildRequest(context=".", outputs=(elsewhere,), allow=("buildx.local.delete",)))


def test_where_an_output_goes() -> None:
    assert Output("registry").is_pushed
    assert Output("image", (("push", "true"),)).is_pushed
    assert Output("image", (("push", "1"),)).is_pushed
    assert not Output("image").is_pushed
    assert not Output("oci", (("push", "true"),)).is_pushed
    named = Output("image", (("name", "a.org/x:1, b.org/y"),))
    assert named.names == ("a.org/x:1", "b.org/y")


def test_annotations() -> None:
    arm = Platform("linux", "arm64")
    assert parse_option("annotation.a.b", "c") == Annotation("manifest", None, "a.b", "c")
    assert parse_option("annotation-manifest[linux/arm64].k", "v").platform == arm
    assert parse_flag("org.x:y", "v") == [Annotation("manifest", None, "org.x:y", "v")]
    assert [item.level for item in parse_flag("index,manifest-descriptor:k", "v")] == [
        "index",
        "manifest-descriptor",
    ]
    both = [Annotation("manifest", None, "k", "1"), Annotation("manifest", arm, "k", "2")]
    assert of_level(both, "manifest", arm) == {"k": "2"}
    assert of_level(both, "manifest", Platform("linux", "amd64")) == {"k": "1"}
    assert of_level(both, "index") == {}


def test_docker_types_give_way_to_annotations_and_zstd() -> None:
    request = BuildRequest(context=".")
    assert form_of(request, output("image", oci_mediatypes="false")).docker_types
    zstd = output("image", oci_mediatypes="false", compression="zstd")
    assert not form_of(request, zstd).docker_types
    annotated = Output("image", (("oci-mediatypes", "false"), ("annotation.a", "b")))
    assert not form_of(request, annotated).docker_types


def test_the_epoch() -> None:
    request = BuildRequest(context=".", build_args=(("SOURCE_DATE_EPOCH", "1700000000"),))
    assert epoch_of(request) == 1700000000
    assert epoch_of(request, output("image", source_date_epoch="5")) == 5
    assert epoch_of(request, output("image", source_date_epoch="")) is None
    with pytest.raises(BuildError, match="SOURCE_DATE_EPOCH"):
        epoch_of(BuildRequest(context=".", build_args=(("SOURCE_DATE_EPOCH", "now"),)))


def test_a_config_at_an_epoch() -> None:
    old, new = "2001-02-03T04:05:06.789Z", "2026-11-21T00:00:00.5+01:00"
    history = tuple(HistoryEntry(created=time) for time in (old, new, None))
    config = at_epoch(ImageConfig("amd64", "linux", created=new, history=history), 1700000000)
    assert config.created == "2023-11-14T22:13:20Z"
    assert [entry.created for entry in config.history] == [old, config.created, config.created]
