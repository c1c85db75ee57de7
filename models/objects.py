"""A directory of artifacts in an object store, through `fsspec`: S3, Google's, Azure's, others.

An object appears whole or not at all. But a directory is only a common prefix, and its objects
appear one by one. So the object that completes the directory is written last. If a store shows new
objects late, readers find an incomplete artifact, refuse it, and look again.

Credentials, regions and endpoints are those of the store's own library: `AWS_ACCESS_KEY_ID`,
`AWS_ENDPOINT_URL` and so on, a role of the machine, or fsspec's own configuration.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

from schemas.errors import ModelsUnavailable, SettingsError

__all__ = ["ObjectPlace", "object_place"]

_LIBRARIES: Final[Mapping[str, str]] = MappingProxyType({
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs",
    "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs",
})  # fmt: skip
"""Scheme -> the package for its store. The extra `objects` brings the one for S3."""
_IN_ONE_REQUEST: Final = {"max_concurrency": 1}  # without asking for the size before
_OPTIONS: Final = {"s3": _IN_ONE_REQUEST, "s3a": _IN_ONE_REQUEST}
_READ_SECONDS: Final = 30.0  # for one object of some hundred kilobytes
_WRITE_SECONDS: Final = 60.0
# Properties that differ between two contents of an object; each library has its own names.
_MARKS: Final = (
    "size", "ETag", "etag", "md5Hash", "content_md5", "generation", "LastModified",
    "last_modified", "updated", "mtime", "created",
)  # fmt: skip
_QUERY: Final = re.compile(r"\?[^\s'\"]*")  # of a signed URL


def object_place(url: str) -> ObjectPlace:
    """The place at a URL such as `s3://bucket/models`; connects to nothing yet.

    Raises `SettingsError` if the URL has a password in it, or a library is missing.
    """
    parts = urlsplit(url)
    if ":" in parts.netloc.rpartition("@")[0]:
        raise SettingsError(
            f"The URL of models, {parts.scheme}://..., has a password in it. Leave it out, and put "
            "credentials into the environment: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, say."
        )
    try:
        from fsspec.core import url_to_fs  # noqa: PLC0415  (an extra)
    except ImportError as error:
        raise SettingsError(
            f"Models at {url} need more packages. Run: pip install 'tideline[objects]'"
        ) from error
    try:
        # Another process writes there, so listings must not come from a cache.
        filesystem, path = url_to_fs(
            url,
            use_listings_cache=False,
            skip_instance_cache=True,
            **_OPTIONS.get(parts.scheme, {}),
        )
    except (ImportError, ValueError) as error:
        library = _LIBRARIES.get(parts.scheme)
        remedy = (
            f"Run: pip install {library}"
            if library
            else "Use a path, or a URL that begins with s3://, gs://, az://, abfs:// or file://"
        )
        raise SettingsError(f"Models at {url} can't be read: {error}. {remedy}") from error
    return ObjectPlace(filesystem, path.rstrip("/"))


@dataclass(frozen=True)
class ObjectPlace:
    """`models.places.Place` in an object store. `path` is fsspec's, without the scheme."""

    filesystem: Any
    path: str
    poll_seconds: ClassVar[float] = 5.0  # each look is a request that costs money

    def __str__(self) -> str:
        return str(self.filesystem.unstrip_protocol(self.path))

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> ObjectPlace:
        return ObjectPlace(self.filesystem, self.path.rpartition("/")[0])

    def __truediv__(self, name: str) -> ObjectPlace:
        return ObjectPlace(self.filesystem, f"{self.path}/{name}")

    def read(self, name: str) -> bytes:
        try:
            content: bytes = self._ask("cat_file", f"{self.path}/{name}")
        except FileNotFoundError as error:  # some libraries don't name it
            raise FileNotFoundError(f"{self / name} is not there ({error})") from error
        return content

    def holds(self, name: str) -> bool:
        return self._info(name) is not None

    def stamp(self, names: Iterable[str]) -> Hashable:
        """What the store says about each object: its size, time or hash."""
        found = map(self._info, names)
        return tuple(
            info and tuple((mark, str(info[mark])) for mark in _MARKS if mark in info)
            for info in found
        )

    def directories(self, holding: str) -> list[str]:
        found: list[str] = self._ask("glob", f"{self.path}/*/{holding}")
        return sorted(path.split("/")[-2] for path in found)

    def put(self, name: str, files: Mapping[str, bytes], *, last: str) -> None:
        """Write the files one by one, `last` at the end; until then the old `last` is there."""
        for file in sorted(files, key=lambda file: file == last):
            self._ask("pipe_file", f"{self.path}/{name}/{file}", files[file])

    def replace(self, name: str, content: bytes) -> None:
        self._ask("pipe_file", f"{self.path}/{name}", content)

    def create(self, name: str, content: bytes) -> bool:
        """The store itself checks that there is none (S3: If-None-Match). Old stores that ignore
        the condition replace the file."""
        try:
            self._ask("pipe_file", f"{self.path}/{name}", content, mode="create")
        except FileExistsError:
            return False
        return True

    def files(self) -> list[str]:
        found: list[str] = self._ask("glob", f"{self.path}/*")
        return sorted(path.rpartition("/")[2] for path in found)

    def remove(self, name: str, *, first: str) -> None:
        there: list[str] = self._ask("glob", f"{self.path}/{name}/*")
        for path in sorted(there, key=lambda path: path.rpartition("/")[2] != first):
            with contextlib.suppress(FileNotFoundError):  # somebody else removes it, too
                self._ask("rm_file", path)

    def _info(self, name: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._ask("info", f"{self.path}/{name}")
        except FileNotFoundError:
            return None
        return found

    def _ask(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Call the library, within a time limit. Raises FileNotFoundError, FileExistsError,
        ModelsUnavailable."""
        try:
            if not self.filesystem.async_impl:
                return getattr(self.filesystem, method)(*arguments, **options)
            from fsspec.asyn import sync  # noqa: PLC0415  (an extra)

            seconds = _WRITE_SECONDS if method == "pipe_file" else _READ_SECONDS
            call = getattr(self.filesystem, f"_{method}")
            return sync(self.filesystem.loop, call, *arguments, timeout=seconds, **options)
        except (FileNotFoundError, FileExistsError):
            raise
        except Exception as error:  # each library has errors of its own
            why = _QUERY.sub("?...", str(error)) or "no answer in time"
            raise ModelsUnavailable(
                f"The models in {self} can't be reached ({type(error).__name__}: {why}). Check "
                "the URL, the store, and the credentials and endpoint in this process's "
                "environment, such as AWS_ACCESS_KEY_ID and AWS_ENDPOINT_URL."
            ) from error
