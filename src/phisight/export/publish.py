"""An exported folder to the hub."""

from __future__ import annotations

from pathlib import Path

from phisight.core.errors import SettingsError, StorageError
from phisight.export.origins import ORIGINS
from phisight.model.checkpoint import HUB_TIMEOUT_S, within

STALE = ["*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json", "adapter_config.json", "config.json"]
"""Files of an earlier export that would be loaded in place of this one's, where this one has none of that name."""


def require_repository_name(repository: str) -> None:
    """SettingsError for what cannot be the name of a repository; asked before hours of work."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # documented, not listed

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise SettingsError(f"--push {repository!r}: {str(error).splitlines()[0]}; write OWNER/NAME") from error
    if repository.count("/") != 1:
        raise SettingsError(f"--push {repository!r} names no owner; write OWNER/NAME")


def publish_model(folder: Path, repository: str, *, private: bool = True) -> str:
    """Upload a folder as a model repository, made where it is missing; the address of the commit.

    StorageError when the hub says no; the token comes from where huggingface_hub keeps it and is never shown. Places on
    this machine (``origins.json``) stay here.
    """
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        within(
            HUB_TIMEOUT_S * 5,
            lambda: api.create_repo(repository, repo_type="model", private=private, exist_ok=True),
        )
        done = api.upload_folder(
            repo_id=repository, repo_type="model", folder_path=folder, commit_message="phisight export",
            ignore_patterns=[ORIGINS], delete_patterns=STALE,
        )  # fmt: skip
    except Exception as error:  # OSError, ValueError, and whatever the HTTP library calls an unreachable host
        reason = (str(error).strip().splitlines() or ["no reason given"])[0][:200]
        raise StorageError(
            f"{repository} could not be pushed: {type(error).__name__}: {reason}; the export stands in {folder}: check "
            f"the name and `hf auth login`, then `hf upload {repository} {folder}`"
        ) from error
    return str(done.commit_url)
