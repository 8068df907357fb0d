"""An exported folder to the hub."""

from __future__ import annotations

from pathlib import Path

from phisight.core.errors import StorageError


def publish_model(folder: Path, repository: str, *, private: bool = True) -> str:
    """Upload a folder as a model repository, made where it is missing; the address of the commit.

    StorageError when the hub says no; the token comes from where huggingface_hub keeps it and is never shown.
    """
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        api.create_repo(repository, repo_type="model", private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=repository, repo_type="model", folder_path=folder, commit_message="phisight export"
        )
    except (OSError, ValueError) as error:
        raise StorageError(
            f"{repository} could not be pushed: {type(error).__name__}: {str(error).splitlines()[0][:200]}; the export "
            f"stands in {folder}: check the name and `hf auth login`, then `hf upload {repository} {folder}`"
        ) from error
    return str(done.commit_url)
