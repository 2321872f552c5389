"""A server that speaks S3 over HTTP, in this process."""

from __future__ import annotations

import os
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
    """

    client: Any
    server: Any
    name: str = "bucket"

    def put(self, key: str, content: bytes) -> None:
        """Writes an object."""
        self.client.put_object(Bucket=self.name, Key=key, Body=content)

    def put_folder(self, folder: Path, prefix: str) -> None:
        """Writes the files below a folder."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())

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
        bucket = Bucket(client, server)
        client.create_bucket(Bucket=bucket.name)
        try:
            yield bucket
        finally:
            server.stop()
            get_filesystem_class("s3").clear_instance_cache()
