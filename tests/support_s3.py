"""A server that speaks S3 over HTTP, in this process."""

from __future__ import annotations

import math
import os
import re
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

REGION = "us-east-1"


@dataclass
class Bucket:
    """A bucket of a server.

    Attributes:
        client: boto3's, which the code under test does not use.
        server: moto's.
        reads: who has read which object, by key id and path.
    """

    client: Any
    server: Any
    reads: list[tuple[str, str]]
    name: str = "bucket"

    def put(self, key: str, content: bytes) -> None:
        """Writes an object."""
        self.client.put_object(Bucket=self.name, Key=key, Body=content)

    def put_folder(self, folder: Path, prefix: str) -> None:
        """Writes the files below a folder."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())

    @contextmanager
    def closed_to_all(self) -> Iterator[None]:
        """Nobody's key is good."""
        self._let_in(0)
        yield
        self._let_in(math.inf)

    def _let_in(self, requests: float) -> None:
        host, port = self.server.get_host_and_port()
        address = f"http://{host}:{port}/moto-api/reset-auth"
        body, kind = str(requests).encode(), {"Content-Type": "text/plain"}
        urllib.request.urlopen(urllib.request.Request(address, body, kind, method="POST")).close()

    def stop(self) -> None:
        """The server is gone, as if it had never been there."""
        self.server.stop()


@contextmanager
def s3_bucket() -> Iterator[Bucket]:
    """A new server with an empty bucket; the environment leads there, also that of processes started from now on."""
    import boto3
    from fsspec import get_filesystem_class
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        get_filesystem_class("s3").clear_instance_cache()
        client = boto3.client("s3")
        bucket = Bucket(client, server, [])
        serve = server._server.app

        def listen(environ: dict[str, Any], start: Any) -> Any:
            who = re.search(r"Credential=(\w+)/", environ.get("HTTP_AUTHORIZATION", ""))
            if (
                who is not None
                and environ["REQUEST_METHOD"] == "GET"
                and not environ["QUERY_STRING"].startswith("list")
            ):
                bucket.reads.append((who[1], environ["PATH_INFO"]))
            return serve(environ, start)

        server._server.app = listen
        client.create_bucket(Bucket=bucket.name)
        try:
            yield bucket
        finally:
            server.stop()
            get_filesystem_class("s3").clear_instance_cache()
