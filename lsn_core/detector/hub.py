"""Detectors on the Hugging Face Hub: published with a card, and found by name."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lsn_core.detector.card import write_card
from lsn_core.errors import UserError

if TYPE_CHECKING:
    from lsn_core.detector.detector import Detector

PREFIX = "hf-hub:"
FILE = "detector.safetensors"


def is_hub_name(name: object) -> bool:
    """Whether a name means a repository on the Hub: hf-hub:ORG/NAME."""
    return str(name).startswith(PREFIX)


def fetch(name: str, revision: str | None = None, token: str | None = None) -> Path:
    """The detector file of a repository, from the Hub or its local cache.

    Args:
        name: ORG/NAME or hf-hub:ORG/NAME, with @REVISION behind it where one is wanted.
        revision: branch, tag or commit; None is the main branch.
        token: for private repositories; None is the one that `hf auth login` kept.

    Raises:
        UserError: there is no such repository, no detector in it, or the Hub cannot be reached.
    """
    from huggingface_hub import hf_hub_download

    repository, _, wanted = name.removeprefix(PREFIX).partition("@")
    with _plain_errors(repository):
        return Path(hf_hub_download(repository, FILE, revision=revision or wanted or None, token=token))


def push(
    detector: Detector,
    name: str,
    *,
    private: bool = False,
    license: str | None = None,
    token: str | None = None,
    message: str = "Upload a detector",
) -> str:
    """Publishes a detector with its card; `Detector.push_to_hub` tells of the arguments."""
    from huggingface_hub import CommitOperationAdd, HfApi

    repository = name.removeprefix(PREFIX)
    with tempfile.TemporaryDirectory() as folder, _plain_errors(repository):
        detector.save(Path(folder) / FILE)
        card = write_card(detector, repository, license).encode()
        api = HfApi(token=token)
        address = api.create_repo(repository, private=private, exist_ok=True)
        files = [CommitOperationAdd(FILE, Path(folder) / FILE), CommitOperationAdd("README.md", card)]
        api.create_commit(repository, files, commit_message=message)
        return str(address)


@contextmanager
def _plain_errors(repository: str) -> Iterator[None]:
    from huggingface_hub import errors

    try:
        yield
    except errors.HFValidationError as error:
        raise UserError(f"{repository!r} is no name of a repository: ORG/NAME is wanted. {error}") from error
    except errors.GatedRepoError as error:
        raise UserError(f"Access to {repository} must be asked for on its page first.") from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(
            f"There is no repository {repository} on the Hub, or it is private: check the name, or `hf auth login`."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"{repository} has no such revision. Leave it out, or give a branch, tag or commit.") from error
    except errors.LocalEntryNotFoundError as error:
        raise UserError(f"{repository} is not in the local cache, and the Hub cannot be reached.") from error
    except errors.EntryNotFoundError as error:
        raise UserError(f"{repository} holds no detector: there is no {FILE} in it.") from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            raise UserError(
                f"The Hub does not let you write to {repository}: `hf auth login` with a token that may write."
            ) from error
        raise UserError(f"The Hub answered about {repository} with an error: {error}") from error
    except OSError as error:
        raise UserError(f"The Hub could not be reached for {repository}: {error}") from error
