"""How unlike the training images an image is, from the vision tower's features of its thumbnail.

    features    mean and standard deviation of the thumbnail's patches, means of its quarters, float32[D]
    distance    Mahalanobis distance to the training images: along their principal components each by its own variance,
                across them by the variance that is left
    unfamiliar  distance / threshold; above 1 an image is less familiar than all but ``false_alarms`` of the
                validation images, and a task whose answers may abstain refuses it

``unfamiliar.safetensors`` beside the weights holds all of it; a model without the file has no such score.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from phisight.core.errors import CheckpointError
from phisight.core.run_folder import UNFAMILIAR, atomic_file

FORMAT = "phisight-unfamiliar/1"
MOST_COMPONENTS = 512
_SMALLEST = 1e-6
_TENSORS = ("mean", "scale", "components", "variances")

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Familiarity:
    """What training images look like to the tower."""

    mean: Array
    """float32[D]"""
    scale: Array
    """float32[D]: standard deviation of each feature."""
    components: Array
    """float32[q, D]: principal components of the scaled features."""
    variances: Array
    """float32[q + 1]: variance along each component, and the mean one across them."""
    threshold: float
    """Distance that ``false_alarms`` of the validation images exceed."""
    false_alarms: float
    training_images: int
    validation_images: int

    @classmethod
    def fit(cls, training: Array, validation: Array, false_alarms: float) -> Self:
        """From features float32[N, D] of training images and of validation images.

        The threshold is the conformal one: of new images like those of validation at most ``false_alarms`` exceed it
        on average. With fewer than 1 / false_alarms of them it is the largest distance, which is exceeded more often.
        """
        mean, scale = training.mean(axis=0), training.std(axis=0) + _SMALLEST
        scaled = (training - mean) / scale
        _, singular, components = np.linalg.svd(scaled, full_matrices=False)
        variances = singular.astype(np.float64) ** 2 / len(training)
        count = min(max(1, min(MOST_COMPONENTS, len(training) // 2, training.shape[1] - 1)), len(variances))
        left = (float((scaled**2).sum()) / len(training) - variances[:count].sum()) / max(1, scaled.shape[1] - count)
        kept = np.maximum([*variances[:count], left], _SMALLEST).astype(np.float32)
        found = cls(mean, scale, components[:count], kept, 1.0, false_alarms, len(training), len(validation))
        distances = np.sort(found.distances(validation))
        rank = min(len(distances), math.ceil((len(distances) + 1) * (1 - false_alarms)))
        return replace(found, threshold=max(float(distances[rank - 1]), _SMALLEST))

    def distances(self, features: Array) -> NDArray[np.float64]:
        """float64[N]: distance of features float32[N, D] to the training images.

        Files of earlier versions know the first features only, and ask for no others.
        """
        scaled = (features[:, : len(self.mean)] - self.mean) / self.scale
        # By torch, whose threads a lane decides; numpy's would take every core for each image.
        along = (torch.from_numpy(scaled) @ torch.from_numpy(self.components).T).numpy()
        across = np.maximum((scaled**2).sum(axis=1) - (along**2).sum(axis=1), 0)
        squared = (along**2 / self.variances[:-1]).sum(axis=1) + across / self.variances[-1]
        return np.asarray(np.sqrt(squared), np.float64)

    def score(self, features: Array) -> float:
        """Of the images of one answer, float32[N, D], how unfamiliar the least familiar one is; 1 is the threshold."""
        return float(self.distances(features).max()) / self.threshold

    def facts(self) -> dict[str, Any]:
        """What it was fitted on, as JSON."""
        names = ("threshold", "false_alarms", "training_images", "validation_images")
        return {name: getattr(self, name) for name in names}

    def write(self, folder: Path) -> None:
        """Write the file into a folder, whole or not at all."""
        tensors = {name: np.ascontiguousarray(getattr(self, name), np.float32) for name in _TENSORS}
        with atomic_file(folder / UNFAMILIAR) as file:
            file.write(save(tensors, {"format": FORMAT, "facts": json.dumps(self.facts())}))

    @classmethod
    def read(cls, path: Path | None) -> Self | None:
        """The file at a path, None without one; CheckpointError where it cannot be used."""
        if path is None or not path.is_file():
            return None
        try:
            with safe_open(path, framework="np") as file:
                about = file.metadata() or {}
                if about.get("format") != FORMAT:
                    raise ValueError(f"its format is {about.get('format')!r}, not {FORMAT!r}")
                tensors = {name: file.get_tensor(name) for name in _TENSORS}
            found = cls(**tensors, **json.loads(about["facts"]))
            width = len(found.mean)
            if found.components.shape != (len(found.variances) - 1, width) or found.scale.shape != (width,):
                raise ValueError(f"its tensors do not fit together: {found.components.shape} for {width} features")
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:160]
            raise CheckpointError(
                f"{path} cannot be used: {reason}; evaluate the run again, or delete the file"
            ) from error
        return found
