import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import mediatypes
from store.digest import DiffID, Digest
from store.errors import Corrupt
from store.oci import (
    ContainerConfig,
    Descriptor,
    Healthcheck,
    HistoryEntry,
    ImageConfig,
    Index,
    Manifest,
    Platform,
)

HEX = "sha256:" + "1" * 64
LAYER = Descriptor(mediatypes.OCI_LAYER_GZIP, Digest(HEX), 7)

# Written by a Go program from the image-spec types; the order and the escapes are Go's.
GO_CONFIG = (
    b'{"created":"2024-01-02T03:04:05Z","author":"me","architecture":"arm64","variant":"v8",'
    b'"os":"linux","config":{"User":"1:2","ExposedPorts":{"443/tcp":{},"80/tcp":{}},'
    b'"Env":["PATH=/bin"],"Entrypoint":["/e"],"Cmd":["a","\\u003c\\u0026\\u003e"],'
    b'"Volumes":{"/v":{}},"WorkingDir":"/w","Labels":{"a":"1","b":""},"StopSignal":"SIGINT",'
    b'"ArgsEscaped":true,"Healthcheck":{"Test":["CMD","x"],"Interval":1000000000},'
    b'"OnBuild":["RUN x"],"Shell":["/bin/sh","-c"]},'
    b'"rootfs":{"type":"layers","diff_ids":["' + HEX.encode() + b'"]},'
    b'"history":[{"created":"2024-01-02T03:04:05Z","created_by":"RUN x # buildkit",'
    b'"comment":"buildkit.dockerfile.v0"},{"created_by":"ENV","empty_layer":true}]}'
)


def test_config_is_written_as_go_writes_it() -> None:
    config = ImageConfig.from_json(GO_CONFIG)
    assert config.to_json() == GO_CONFIG
    assert config.config.cmd == ("a", "<&>")
    assert config.config.healthcheck == Healthcheck(("CMD", "x"), interval_ns=10**9)
    assert config.platform == Platform("linux", "arm64", "v8")
    assert config.history[1] == HistoryEntry(created_by="ENV", empty_layer=True)


def test_empty_fields_are_left_out() -> None:
    assert ImageConfig("amd64", "linux").to_json() == (
        b'{"architecture":"amd64","os":"linux","config":{},'
        b'"rootfs":{"type":"layers","diff_ids":[]}}'
    )


def test_unknown_fields_survive() -> None:
    data = json.loads(GO_CONFIG)
    data["docker_version"] = "20.10"
    data["container_config"] = {"Hostname": "x", "Cmd": None}
    data["config"]["Memory"] = 3
    data["history"][0]["x"] = [1, {"y": None}]
    config = ImageConfig.from_json(json.dumps(data).encode())
    again = json.loads(replace(config, author="you").to_json())
    assert again == data | {"author": "you"}


def test_null_is_absent() -> None:
    config = ImageConfig.from_json(
        b'{"os":"linux","architecture":"amd64","config":{"Cmd":null,"Env":null,"Labels":null},'
        b'"rootfs":{"type":"layers","diff_ids":null},"history":null}'
    )
    assert config == ImageConfig("amd64", "linux")


def test_env_that_is_no_text_becomes_replacement_characters() -> None:
    config = ImageConfig("amd64", "linux", config=ContainerConfig(env=("A=\udcff",)))
    assert "A=\ufffd".encode() in config.to_json()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"nonsense",
        b"\xff",
        b"{}",
        b'{"rootfs":{"diff_ids":["sha256:1"]}}',
        b'{"rootfs":{"diff_ids":[1]}}',
        b'{"rootfs":{"diff_ids":"x"}}',
        b'{"rootfs":{},"os":1}',
        b'{"rootfs":{},"config":[]}',
        b'{"rootfs":{},"config":{"Env":{}}}',
        b'{"rootfs":{},"config":{"Labels":{"a":1}}}',
        b'{"rootfs":{},"history":[1]}',
        b'{"rootfs":{},"x":NaN}',
        b"[" * 100_000,
    ],
)
def test_broken_config_is_one_error(data: bytes) -> None:
    with pytest.raises(Corrupt, match=r"image config"):
        ImageConfig.from_json(data)


def test_manifest_round_trip() -> None:
    config = replace(LAYER, media_type=mediatypes.OCI_CONFIG)
    manifest = Manifest(config, (LAYER, LAYER), subject=LAYER, annotations={"b": "1", "a": "2"})
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert manifest.to_json().index(b'"layers"') < manifest.to_json().index(b'"annotations"')
    assert b'"layers":[]' in Manifest(config, ()).to_json()


def test_index_round_trip_keeps_what_it_does_not_know() -> None:
    data = (
        b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":'
        b'[{"mediaType":"m","digest":"' + HEX.encode() + b'","size":7,'
        b'"platform":{"architecture":"arm","os":"linux","os.version":"1","variant":"v7"},'
        b'"urls":["u"]}],"x":1}'
    )
    index = Index.from_json(data)
    assert index.manifests[0].platform == Platform("linux", "arm", "v7", "1")
    assert index.to_json() == data


@pytest.mark.parametrize(
    "data",
    [
        b'{"schemaVersion":1}',
        b'{"schemaVersion":2}',
        b'{"schemaVersion":true,"config":{}}',
        b'{"schemaVersion":2,"config":{"digest":"x","size":1}}',
        b'{"schemaVersion":2,"config":{"digest":"sha256:a/../b","size":1}}',
        b'{"schemaVersion":2,"config":{"digest":"sha256:ab","size":-1}}',
    ],
)
def test_broken_manifest_is_one_error(data: bytes) -> None:
    with pytest.raises(Corrupt, match=r"image manifest"):
        Manifest.from_json(data)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
words = st.lists(texts, max_size=3).map(tuple)
filled = st.lists(texts, min_size=1, max_size=3).map(tuple)
configs = st.builds(
    ContainerConfig,
    user=texts,
    exposed_ports=st.sets(texts, max_size=3).map(lambda ports: tuple(sorted(ports))),
    env=words,
    entrypoint=st.none() | filled,
    cmd=st.none() | filled,
    volumes=st.sets(texts, max_size=3).map(lambda volumes: tuple(sorted(volumes))),
    working_dir=texts,
    labels=st.dictionaries(texts, texts, max_size=3).map(lambda x: tuple(sorted(x.items()))),
    stop_signal=texts,
    args_escaped=st.booleans(),
    healthcheck=st.none()
    | st.builds(Healthcheck, words, st.integers(), st.integers(), retries=st.integers()),
    on_build=words,
    shell=st.none() | filled,
)


@given(
    st.builds(
        ImageConfig,
        texts,
        texts,
        variant=texts,
        created=st.none() | texts.filter(bool),
        author=texts,
        config=configs,
        diff_ids=st.sampled_from([(), (DiffID(HEX),), (DiffID(HEX),) * 2]),
    )
)
def test_every_config_reads_back(config: ImageConfig) -> None:
    data = config.to_json()
    assert ImageConfig.from_json(data) == config
    assert ImageConfig.from_json(data).to_json() == data
