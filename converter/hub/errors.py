"""What the Hub's client raises, turned into one message that ends with what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ropext.converter.errors import RopextError, UsageError
from ropext.converter.text import masked

from .bounds import bound

if TYPE_CHECKING:
    from .types import Repository

__all__ = ["CopyRefused", "HubFailure", "NoSuchRepository", "NoSuchRevision", "reading", "writing"]


class HubFailure(RopextError):
    """The Hub refuses or cannot be reached."""


class NoSuchRepository(HubFailure):
    """The Hub knows no such repository, or does not show it to this user."""


class NoSuchRevision(HubFailure):
    """The repository has no such branch, tag or commit."""


class CopyRefused(HubFailure):
    """The Hub does not copy these files from one repository to another; they can still be uploaded."""


@contextmanager
def reading(repo_id: str, revision: str | None) -> Iterator[None]:
    """Explain what is raised while the Hub is read.

    Raises:
        NoSuchRepository: the Hub knows none of that name.
        NoSuchRevision: the repository has no such revision.
        HubFailure: the Hub refuses or cannot be reached.
    """
    from huggingface_hub import errors

    broken = _broken_off()
    bound()
    try:
        yield
    except errors.GatedRepoError:
        todo = f"ask for access at https://huggingface.co/{repo_id}, then run `hf auth login`"
        raise HubFailure(f"{repo_id}: access to this model is gated: {todo}.") from None
    except errors.RevisionNotFoundError:
        raise NoSuchRevision(f"{repo_id}: has no revision {revision!r}; its page lists branches and tags.") from None
    except errors.RepositoryNotFoundError:
        todo = "check the name; for a private repository run `hf auth login` first"
        raise NoSuchRepository(f"{repo_id}: no such folder here and no such model on the Hub: {todo}.") from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        answer = error.__cause__  # the client says "not found locally" of every failure, whatever its cause
        refused = isinstance(answer, errors.HfHubHTTPError)
        raise HubFailure(_refused(repo_id, answer) if refused else _unreachable(repo_id)) from None
    except errors.HfHubHTTPError as error:
        raise HubFailure(_refused(repo_id, error)) from None
    except errors.HFValidationError as error:
        raise UsageError(f"{repo_id}: there is no such folder, and it is no Hub id: {_first_line(error)}") from None
    except broken as error:
        if _is_of_the_disk(error):
            raise
        raise HubFailure(_broken(repo_id, error)) from None
    except (AssertionError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        # JSON of another kind, as a proxy or a mirror may answer: the client fails on it in any way.
        what = f"{type(error).__name__}: {_first_line(error)}"
        raise HubFailure(f"{repo_id}: the Hub's answer makes no sense ({what[:200]}); is it one?") from None


@contextmanager
def writing(repo_id: str, base: Repository | None = None) -> Iterator[None]:
    """Explain what is raised while something is written to the Hub, copied from `base` perhaps.

    Raises:
        CopyRefused: the Hub does not copy from the base.
        HubFailure: the Hub refuses or cannot be reached.
    """
    from huggingface_hub import errors

    broken = _broken_off(RuntimeError, ValueError, KeyError)
    refusal = getattr(errors, "FileDuplicationError", CopyRefused)  # older clients copy nothing and have no such error
    try:
        yield
    except refusal as error:
        raise CopyRefused(_not_copied(base, _last_line(error))) from None
    except errors.OfflineModeIsEnabled:
        raise HubFailure(f"{repo_id}: HF_HUB_OFFLINE is set; unset it to push.") from None
    except errors.HfHubHTTPError as error:
        raise _of_answer(repo_id, base, error) from None
    except broken as error:
        if _is_of_the_disk(error):
            raise
        if isinstance(error, ValueError):
            raise HubFailure(f"{repo_id}: nothing was committed: {masked(' '.join(str(error).split()))}") from None
        answer = error.__cause__  # an upload in a thread
        if isinstance(answer, errors.HfHubHTTPError):
            raise _of_answer(repo_id, None, answer) from None
        raise HubFailure(_broken(repo_id, answer or error)) from None


def _of_answer(repo_id: str, base: Repository | None, error: Any) -> HubFailure:
    """Explain an answer of the Hub that is an error."""
    status = error.response.status_code
    if (
        base
        and 400 <= status < 500
        and status not in (401, 408, 429)
        and f"/{base.repo_id}/" in str(error.response.url)
    ):
        return CopyRefused(_not_copied(base, _answer(error)))
    if status in (409, 412):
        return HubFailure(
            f"{repo_id}: somebody else has written to it meanwhile, and nothing was changed; "
            "run the same command again."
        )
    if status in (401, 403, 404):
        return HubFailure(
            f"{repo_id}: your token may not write there ({_answer(error)}): run `hf auth login` with a token "
            "that may, or name a repository of your own."
        )
    return HubFailure(_refused(repo_id, error))


def _not_copied(base: Repository | None, reason: str) -> str:
    return f"the Hub does not copy from {base.repo_id if base else 'the base'} ({reason})"


def _refused(repo_id: str, answer: Any) -> str:
    status = getattr(getattr(answer, "response", None), "status_code", 500)
    later = "; try again later" if status >= 500 or status in (408, 429) else ""
    return f"{repo_id}: the Hub answered: {_answer(answer).rstrip('.')}{later}."


def _broken(repo_id: str, error: BaseException) -> str:
    return f"{repo_id}: the Hub cannot be reached, or broke off: {_first_line(error)}; run the same command again."


def _unreachable(repo_id: str) -> str:
    from huggingface_hub import constants

    offline = constants.HF_HUB_OFFLINE
    why = "HF_HUB_OFFLINE is set" if offline else "the Hub cannot be reached"
    todo = "unset it" if offline else "check the connection"
    return f"{repo_id}: {why} and the model is not in the local cache; {todo}, or name a folder that holds the model."


def _broken_off(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """What the client lets through of the library beneath it, httpx or, before 1.0, requests; and others."""
    from huggingface_hub.errors import HfHubHTTPError

    return (*(each for each in HfHubHTTPError.__mro__[1:2] if issubclass(each, Exception)), OSError, *others)


def _is_of_the_disk(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.filename is not None


def _answer(error: BaseException | None) -> str:
    """What the Hub says of an error, else the client's first line."""
    said = getattr(error, "server_message", None)
    return masked(said) if isinstance(said, str) and said else _first_line(error)


def _first_line(error: BaseException | None) -> str:
    return masked((str(error).strip() or type(error).__name__).splitlines()[0])


def _last_line(error: BaseException) -> str:
    return masked(str(error).strip().splitlines()[-1].strip(" -"))
