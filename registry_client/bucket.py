"""A bucket of an object store that speaks S3: small objects whole, large ones as streams.

boto3 is an optional part of the installation (`pip install pybuild[s3]`) and imported only here.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, BinaryIO

from registry_client.errors import NotFound, RegistryError
from values.classes import dataclass

_CHUNK_BYTES = 1 << 20
_MISSING = ("404", "NoSuchKey", "NotFound")
_SMALL_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class BucketAddress:
    """Which bucket, and how it is reached. What is empty is left to boto3's configuration."""

    bucket: str
    region: str = ""
    endpoint_url: str = ""
    path_style: bool = False
    access_key_id: str = ""
    secret_access_key: str = ""
    session_token: str = ""
    retry_mode: str = "standard"
    attempts: int = 3
    timeout_s: float = 20.0


class Bucket:
    """An open bucket. Used by several threads. Everything raises RegistryError, NotFound."""

    def __init__(self, address: BucketAddress) -> None:
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError as error:
            raise RegistryError(
                "a cache of type s3 needs boto3", hint="pip install 'pybuild[s3]'"
            ) from error
        self._name = address.bucket
        self._errors = (BotoCoreError, ClientError)
        config = Config(
            connect_timeout=address.timeout_s,
            read_timeout=address.timeout_s,
            retries={"mode": address.retry_mode, "max_attempts": address.attempts},
            s3={"addressing_style": "path"} if address.path_style else None,
        )
        try:
            self._client: Any = boto3.client(
                "s3",
                region_name=address.region or None,
                endpoint_url=address.endpoint_url or None,
                aws_access_key_id=address.access_key_id or None,
                aws_secret_access_key=address.secret_access_key or None,
                aws_session_token=address.session_token or None,
                config=config,
            )
        except (*self._errors, ValueError) as error:
            raise RegistryError(f"bucket {self._name}: {error}") from error

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def list(self, prefix: str, most: int = 100) -> list[str]:
        """Return the first names that begin with `prefix`, by one request."""
        found = self._call("list_objects_v2", Prefix=prefix, MaxKeys=most)
        return [item["Key"] for item in found.get("Contents", ())]

    def has(self, name: str) -> bool:
        """Tell whether there is an object."""
        return self.age_s(name) is not None

    def age_s(self, name: str) -> float | None:
        """Return how many seconds ago an object was written, by its clock; None without one."""
        try:
            found = self._call("head_object", Key=name)
        except NotFound:
            return None
        written: datetime = found["LastModified"]
        return (datetime.now(UTC) - written).total_seconds()

    def touch(self, name: str) -> None:
        """Let an object be as new as if it were written now."""
        source = {"Bucket": self._name, "Key": name}
        moment = {"touched": datetime.now(UTC).isoformat(timespec="seconds")}
        # A copy onto itself has to change something.
        self._call(
            "copy_object",
            Key=name,
            CopySource=source,
            MetadataDirective="REPLACE",
            Metadata=moment,
        )

    def get(self, name: str) -> bytes:
        """Return a small object."""
        body = self._call("get_object", Key=name)["Body"]
        try:
            data: bytes = body.read(_SMALL_BYTES)
        except Exception as error:
            raise RegistryError(f"bucket {self._name}: {name}: {error}") from error
        return data

    def stream(self, name: str) -> Iterator[bytes]:
        """Yield an object's bytes."""
        body = self._call("get_object", Key=name)["Body"]
        try:
            yield from body.iter_chunks(_CHUNK_BYTES)
        except Exception as error:
            raise RegistryError(f"bucket {self._name}: {name}: {error}") from error

    def put(self, name: str, data: bytes) -> None:
        """Store a small object."""
        self._call("put_object", Key=name, Body=data)

    def put_file(self, name: str, file: BinaryIO) -> None:
        """Store the rest of an open file, in several parts where it is large."""
        try:
            self._client.upload_fileobj(file, self._name, name)
        except Exception as error:
            raise self._translated(error, name) from error

    def _call(self, method: str, **arguments: object) -> Any:
        try:
            return getattr(self._client, method)(Bucket=self._name, **arguments)
        except self._errors as error:
            name = str(arguments.get("Key") or arguments.get("Prefix") or "")
            raise self._translated(error, name) from error

    def _translated(self, error: Exception, name: str) -> RegistryError:
        message = f"bucket {self._name}: {name}: {error}"
        response = getattr(error, "response", None) or {}
        if str(response.get("Error", {}).get("Code", "")) in _MISSING:
            return NotFound(message, 404)
        return RegistryError(message)
