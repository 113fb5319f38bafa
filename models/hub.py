"""Asks the Hugging Face hub once whether it can be had now; its clients retry for minutes."""

from __future__ import annotations

from functools import cache

from huggingface_hub import model_info
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

__all__ = ["out_of_reach"]

SECONDS = 5  # for a connection and for an answer


@cache
def out_of_reach(source: str) -> str | None:
    """Why the hub's model `source` is to be looked for on this machine only; None: it need not be.

    What an earlier download left in the cache is then used without asking file by file.
    """
    try:
        model_info(source, timeout=SECONDS)
    except HFValidationError:
        return "there is no such folder"
    except OfflineModeIsEnabled:
        return "HF_HUB_OFFLINE forbids asking"
    except GatedRepoError:
        return "the hub wants its terms accepted first"
    except RepositoryNotFoundError:
        return "the hub has no such model that you may read"
    except HfHubHTTPError as error:
        status = error.response.status_code
        return None if status < 500 else f"the hub is out of order: {status}"
    except Exception as error:  # of the network; the hub's client lets many kinds through
        reason = str(error).partition("\n")[0] or type(error).__name__
        return f"the hub does not answer: {reason}"
    return None
