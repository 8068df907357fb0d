"""Pictures to rows of the token sequence.

    pixel_values[N, C+1, 3, S, S] --used crops--> tower, second last layer, no class token -> [K, p*p, V]
      --2 x 2 neighbours--> [K, n, n, 4V] --tiles side by side, a separator after each row, then glb_GN, then the
      thumbnail, a separator after each row--> [tokens, 4V] --Linear, GELU, Linear--> [tokens, D]

    N images, C crops, K used crops of the batch, S crop pixels, p patches a side, n = p/2 tokens a side, V tower width,
    D decoder width

Source: the official ``Phi3ImageEmbedding`` (order ``sub_glb``). The tower's layers are the library's CLIP; the last one
and the post-norm exist in the published files, are never used, and so are held but not computed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig
from transformers.models.clip.modeling_clip import CLIPEncoder, CLIPVisionEmbeddings

from phisight.core.errors import ImageSlotError
from phisight.core.geometry import PIXELS_PER_TOKEN, grid_tokens
from phisight.model.configuration import Phi3VConfig


class VisionTransformer(nn.Module):
    """CLIP's vision tower under the official names, computed up to its last layer but one."""

    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__()
        self.embeddings = CLIPVisionEmbeddings(config)
        self.pre_layrnorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.encoder = CLIPEncoder(config)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels [K, 3, S, S] to features [K, p*p, V]: ``hidden_states[-2]`` without the class token."""
        hidden = self.pre_layrnorm(self.embeddings(pixels))
        for layer in self.encoder.layers[:-1]:
            hidden = layer(hidden, None)
        features: Tensor = hidden[:, 1:]
        return features


class ClipTower(nn.Module):
    """Holds the tower one level down, where the official names have it."""

    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__()
        self.vision_model = VisionTransformer(config)

    def forward(self, pixels: Tensor) -> Tensor:
        """See ``VisionTransformer``."""
        features: Tensor = self.vision_model(pixels)
        return features


class ImageEmbedding(nn.Module):
    """Tower, separators and projector: pictures to rows of width D."""

    def __init__(self, config: Phi3VConfig) -> None:
        super().__init__()
        assert isinstance(config.vision_config, CLIPVisionConfig)
        merged = 4 * config.vision_config.hidden_size
        self.crop_size = config.crop_size
        self.tower_at_rest = False
        """Stored features stand for the tower in every batch."""
        self.img_processor = ClipTower(config.vision_config)
        self.glb_GN = nn.Parameter(torch.zeros(1, 1, merged))
        self.sub_GN = nn.Parameter(torch.zeros(1, 1, 1, merged))
        self.img_projection = nn.Sequential(
            nn.Linear(merged, config.hidden_size), nn.GELU(), nn.Linear(config.hidden_size, config.hidden_size)
        )
        self.drop = nn.Dropout(config.embd_pdrop)

    def forward(
        self, pixel_values: Tensor | None, image_sizes: Tensor, image_features: Tensor | None = None
    ) -> list[Tensor]:
        """Rows [tokens, D] of each image. ``image_sizes`` int64[N, 2]: height and width after padding.

        ``image_features`` [N, C+1, n, n, 4V], what ``tower_features`` gave for these crops, stand for pixels.
        """
        grids = self.grids(image_sizes)
        if image_features is not None:
            self._check_crops("image_features", image_features, grids)
            self._check_features(image_features)
            features = [
                image[: rows * columns + 1] for image, (rows, columns) in zip(image_features, grids, strict=True)
            ]
        else:
            assert pixel_values is not None
            self._check_crops("pixel_values", pixel_values, grids)
            crops, crops_of_image = self._distinct_crops(pixel_values, grids)
            computed = self.tower_features(crops)
            features = [computed[places] for places in crops_of_image]
        laid_out = [self.lay_out(image, *grid) for image, grid in zip(features, grids, strict=True)]
        projected = self.project(torch.cat(laid_out))
        return list(torch.split(projected, [len(image) for image in laid_out]))

    def _distinct_crops(self, pixel_values: Tensor, grids: list[tuple[int, int]]) -> tuple[Tensor, list[list[int]]]:
        """Crops that need computing, [K, 3, S, S], and for each image the places of its thumbnail and tiles in them.

        Padding crops are left out. The thumbnail of a 1 x 1 grid is its only tile again: computed once, used twice.
        """
        crops: list[Tensor] = []
        crops_of_image: list[list[int]] = []
        start = 0
        for image, (rows, columns) in zip(pixel_values, grids, strict=True):
            used = rows * columns + 1
            twice = used == 2 and torch.equal(image[0], image[1])
            crops.append(image[: 1 if twice else used])
            crops_of_image.append([start, start] if twice else list(range(start, start + used)))
            start += len(crops[-1])
        return torch.cat(crops), crops_of_image

    def zero(self) -> Tensor:
        """A 0 that one blank picture computes: a batch without pictures takes part in what processes do together.

        Gradients are averaged and shards gathered by all processes or none; one that leaves out tower and projector
        would wait for ever.
        """
        side = self.crop_size // PIXELS_PER_TOKEN
        if self.tower_at_rest:
            features = self.glb_GN.new_zeros(1, side, side, self.glb_GN.shape[-1])
        else:
            features = self.tower_features(self.glb_GN.new_zeros(1, 3, self.crop_size, self.crop_size))
        return 0 * self.project(self.lay_out(features.expand(2, -1, -1, -1), 1, 1)).sum()

    def grids(self, image_sizes: Tensor) -> list[tuple[int, int]]:
        """Tile rows and columns of each image."""
        return [(height // self.crop_size, width // self.crop_size) for height, width in image_sizes.tolist()]

    def token_counts(self, image_sizes: Tensor) -> list[int]:
        """Rows that each image becomes."""
        return [grid_tokens(rows, columns, self.crop_size) for rows, columns in self.grids(image_sizes)]

    def tower_features(self, crops: Tensor) -> Tensor:
        """Crops [K, 3, S, S] to merged patches [K, n, n, 4V]: top-left, top-right, bottom-left, bottom-right."""
        weight = self.img_processor.vision_model.embeddings.patch_embedding.weight
        patches = self.img_processor(crops.to(device=weight.device, dtype=weight.dtype))
        count, area, width = patches.shape
        side = int(area**0.5) // 2
        patches = patches.reshape(count, side, 2, side, 2, width).permute(0, 1, 3, 2, 4, 5)
        merged: Tensor = patches.reshape(count, side, side, 4 * width)
        return merged

    def lay_out(self, features: Tensor, rows: int, columns: int) -> Tensor:
        """Thumbnail and tiles [1 + tiles, n, n, 4V] to the published order [tokens, 4V]."""
        side, width = features.shape[1], features.shape[-1]
        tiles = features[1:].reshape(rows, columns, side, side, width)
        picture = tiles.permute(0, 2, 1, 3, 4).reshape(rows * side, columns * side, width)
        return torch.cat([self._with_separators(picture), self.glb_GN[0], self._with_separators(features[0])])

    def _with_separators(self, picture: Tensor) -> Tensor:
        """[h, w, 4V] to [h * (w + 1), 4V]: one ``sub_GN`` after each row."""
        separators = self.sub_GN[0].expand(picture.shape[0], 1, -1)
        return torch.cat([picture, separators], dim=1).flatten(0, 1)

    def project(self, rows: Tensor) -> Tensor:
        """[tokens, 4V] to [tokens, D]."""
        projected: Tensor = self.drop(self.img_projection(rows))
        return projected

    def _check_features(self, image_features: Tensor) -> None:
        side = self.crop_size // PIXELS_PER_TOKEN
        expected = (side, side, self.glb_GN.shape[-1])
        if image_features.shape[2:] != expected:
            raise ImageSlotError(
                f"image_features hold {tuple(image_features.shape[2:])} values a crop but the projector reads "
                f"{expected}; were they computed by another tower?"
            )

    def _check_crops(self, name: str, pixel_values: Tensor, grids: list[tuple[int, int]]) -> None:
        if len(pixel_values) != len(grids):
            raise ImageSlotError(f"{name} holds {len(pixel_values)} images but image_sizes {len(grids)}")
        for number, (rows, columns) in enumerate(grids):
            if rows * columns + 1 > pixel_values.shape[1] or rows * columns == 0:
                raise ImageSlotError(
                    f"image {number}: image_sizes ask for {rows} x {columns} tiles and a thumbnail, {name} holds "
                    f"{pixel_values.shape[1]} crops; were the two made by different processors?"
                )


def pictures_given(pixel_values: Tensor | None, image_sizes: Tensor | None, image_features: Tensor | None) -> bool:
    """Whether there are pictures; ImageSlotError where they come twice, or half of what belongs together is missing."""
    if pixel_values is not None and image_features is not None:
        raise ImageSlotError("pixel_values and image_features are both given; pass pictures in one of the two forms")
    name, pictures = ("image_features", image_features) if pixel_values is None else ("pixel_values", pixel_values)
    if (pictures is None) != (image_sizes is None):
        if pictures is None:
            raise ImageSlotError("image_sizes is given without pixel_values; pass both as the processor returned them")
        raise ImageSlotError(f"{name} is given without image_sizes; pass both as the processor returned them")
    return pictures is not None
