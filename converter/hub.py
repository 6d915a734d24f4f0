"""Where a model comes from: a folder, or the Hugging Face Hub. The one place that talks to the Hub."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .errors import RopextError, UsageError

__all__ = ["LocalSource", "resolve"]

NEEDED = (
    "*.json",
    "*.safetensors",
    "*.model",
    "*.tiktoken",
    "*.txt",
    "*.jinja",
    "README.md",
    "*LICENSE*",
    "*NOTICE*",
    "*USE_POLICY*",
)
"""What a conversion can use of a repository."""

NOT_NEEDED = ("original/*", "consolidated*", "onnx/*", "*.safetensors.index.*.json", "*/*.safetensors")


@dataclass(frozen=True)
class LocalSource:
    """A model that lies on this machine.

    Attributes:
        folder: where.
        repo_id: the Hub repository it was downloaded from, if that is known.
        revision: the commit of that repository, if it is known.
    """

    folder: Path
    repo_id: str | None = None
    revision: str | None = None


def resolve(source: str, revision: str | None = None, only: Sequence[str] = NEEDED) -> LocalSource:
    """Find a model folder, or download a Hub repository into the Hugging Face cache.

    Args:
        source: a folder or a Hub id, `organisation/name`; a folder of that name wins.
        revision: a branch, tag or commit of the repository, by default `main`; what it means now is pinned.
        only: patterns of the files to download.

    Raises:
        UsageError: `source` is neither, or a revision of a folder is asked for.
        RopextError: the Hub refuses, does not know it or cannot be reached; the message says what to do.
    """
    folder = Path(source).expanduser()
    if source and folder.is_dir():
        if revision is not None:
            raise UsageError(f"{source}: is a local folder, so --revision {revision} does not apply to it.")
        return _local(folder)
    if source and folder.exists():
        raise UsageError(f"{source}: is a file; name the folder that holds config.json.")
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", source):
        raise UsageError(f"{source}: there is no such folder, and it is no Hub id (`organisation/name`).")
    return _download(source, revision, only)


def _local(folder: Path) -> LocalSource:
    """Recognise a snapshot in the Hugging Face cache: `models--organisation--name/snapshots/<commit>`."""
    revision, snapshots, repo = (*reversed(folder.resolve().parts), "", "", "")[:3]
    if snapshots == "snapshots" and repo.startswith("models--"):
        return LocalSource(folder, repo.removeprefix("models--").replace("--", "/", 1), revision)
    return LocalSource(folder)


def _download(repo_id: str, revision: str | None, only: Sequence[str]) -> LocalSource:
    from huggingface_hub import snapshot_download

    with _explained(repo_id, revision):
        folder = snapshot_download(
            repo_id, revision=revision, allow_patterns=list(only), ignore_patterns=list(NOT_NEEDED)
        )
    return LocalSource(Path(folder), repo_id, Path(folder).name)


@contextmanager
def _explained(repo_id: str, revision: str | None) -> Iterator[None]:
    """Turn what the Hub's client raises into one message that ends with what to do."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError:
        todo = f"ask for access at https://huggingface.co/{repo_id}, then run `hf auth login`"
        raise RopextError(f"{repo_id}: access to this model is gated: {todo}.") from None
    except errors.RevisionNotFoundError:
        raise RopextError(f"{repo_id}: has no revision {revision!r}; its page lists branches and tags.") from None
    except errors.RepositoryNotFoundError:
        todo = "check the name; for a private repository run `hf auth login` first"
        raise RopextError(f"{repo_id}: no such folder here and no such model on the Hub: {todo}.") from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        answer = error.__cause__  # the client says "not found locally" of every failure, whatever its cause
        refused = isinstance(answer, errors.HfHubHTTPError)
        raise RopextError(_refused(repo_id, answer) if refused else _unreachable(repo_id)) from None
    except errors.HfHubHTTPError as error:
        raise RopextError(_refused(repo_id, error)) from None
    except errors.HFValidationError as error:
        raise UsageError(f"{repo_id}: there is no such folder, and it is no Hub id: {_first_line(error)}") from None


def _refused(repo_id: str, answer: BaseException | None) -> str:
    return f"{repo_id}: the Hub answered: {_first_line(answer)}; try again later."


def _unreachable(repo_id: str) -> str:
    from huggingface_hub import constants

    offline = constants.HF_HUB_OFFLINE
    why = "HF_HUB_OFFLINE is set" if offline else "the Hub cannot be reached"
    todo = "unset it" if offline else "check the connection"
    return (
        f"{repo_id}: {why} and the model is not in the local cache; {todo}, or name a folder "
        "that holds the model: `ropext convert FOLDER --preset …`."
    )


def _first_line(error: BaseException | None) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
