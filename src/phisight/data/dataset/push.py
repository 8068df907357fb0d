"""Push a data set folder to the hub, as Parquet shards with the images inside."""

from __future__ import annotations

import tempfile
from pathlib import Path

from phisight.core.errors import DataError
from phisight.data.dataset.export_formats import SHARD_BYTES, export
from phisight.data.dataset.folder import DatasetFolder


def push(data: DatasetFolder, repository: str, private: bool = True, shard_bytes: int = SHARD_BYTES) -> str:
    """Create the repository where it is missing and replace its data; the address of the commit.

    Raises DataError when the hub says no; the token comes from where huggingface_hub keeps it and is never shown.
    """
    from huggingface_hub import HfApi

    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "files"
        export(data, files, "parquet", shard_bytes)
        try:
            api = HfApi()
            api.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
            done = api.upload_folder(
                repo_id=repository,
                repo_type="dataset",
                folder_path=files,
                delete_patterns=["data/*.parquet"],
                commit_message=f"phisight data set of {len(data)} rows",
            )
        except (OSError, ValueError) as error:
            raise DataError(
                f"{repository} could not be pushed: {type(error).__name__}: {str(error).splitlines()[0][:200]}; "
                "check the name and `hf auth login`"
            ) from error
    return str(done.commit_url)
