"""CLIP tower, HD layout and projector: images to image embeddings in the decoder's width.

    ImageEmbedding.forward
    ├── tower_features    crops [K, 3, S, S]: second last layer of CLIP without class token, 2 x 2 patches merged
    │                     -> [K, n, n, M]
    ├── lay_out           of each image: tiles side by side with a separator after each row, glb_GN, the thumbnail with
    │                     a separator after each row -> [tokens, M]
    └── project           Linear, GELU, Linear -> [tokens, D]

Shapes: I images, C crops, K crops computed for the batch, S pixels of a crop's side, p patches of a side, n = p / 2
tokens of a side, V tower width, M = 4 V merged width, D decoder width

Source: the official ``Phi3ImageEmbedding`` (order ``sub_glb``). The tower's layers are the library's CLIP; the last one
and the post-norm exist in the published files but are never used, so they are held and not computed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig
from transformers.models.clip.modeling_clip import CLIPAttention, CLIPEncoder, CLIPVisionEmbeddings

from phisight.core.errors import ImagePlaceholderError
from phisight.core.geometry import PIXELS_PER_TOKEN, grid_tokens
from phisight.model.configuration import Phi3VConfig


class VisionTransformer(nn.Module):
    """CLIP's vision tower under the official names, computed up to its second last layer."""

    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__()
        self.embeddings = CLIPVisionEmbeddings(config)
        self.pre_layrnorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.encoder = CLIPEncoder(config)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, pixels_K3SS: Tensor) -> Tensor:
        """Patch features [K, p*p, V]: ``hidden_states[-2]`` without the class token."""
        hidden = self.pre_layrnorm(self.embeddings(pixels_K3SS))
        for layer in self.encoder.layers[:-1]:
            hidden = layer(hidden, None)
        patches_KPV: Tensor = hidden[:, 1:]
        return patches_KPV


class ClipTower(nn.Module):
    """Holds the tower one level down, where the official names have it."""

    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__()
        self.vision_model = VisionTransformer(config)

    def forward(self, pixels_K3SS: Tensor) -> Tensor:
        """See ``VisionTransformer``."""
        patches_KPV: Tensor = self.vision_model(pixels_K3SS)
        return patches_KPV


class ImageEmbedding(nn.Module):
    """Tower, separators and projector: images to embeddings of width D."""

    def __init__(self, config: Phi3VConfig) -> None:
        super().__init__()
        assert isinstance(config.vision_config, CLIPVisionConfig)
        merged = 4 * config.vision_config.hidden_size
        self.crop_size = config.crop_size
        self.features_precomputed = False
        """Every batch brings precomputed features, so no forward pass needs the tower."""
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
        """Embeddings [tokens, D] of each image.

        Args:
            pixel_values: float[I, C, 3, S, S], or None where features are given.
            image_sizes: int64[I, 2], height and width after padding.
            image_features: [I, C, n, n, M], what ``tower_features`` returned for these crops.
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
            features = self.crop_features(pixel_values, image_sizes)
        laid_out = [self.lay_out(image, *grid) for image, grid in zip(features, grids, strict=True)]
        projected = self.project(torch.cat(laid_out))
        return list(torch.split(projected, [len(image) for image in laid_out]))

    def crop_features(self, pixel_values: Tensor, image_sizes: Tensor) -> list[Tensor]:
        """[1 + tiles, n, n, M] of each image, the thumbnail first; padded together they are ``image_features``."""
        grids = self.grids(image_sizes)
        self._check_crops("pixel_values", pixel_values, grids)
        crops_K3SS, crops_of_image = self._distinct_crops(pixel_values, grids)
        computed_KnnM = self.tower_features(crops_K3SS)
        return [computed_KnnM[indices] for indices in crops_of_image]

    def _distinct_crops(self, pixel_values: Tensor, grids: list[tuple[int, int]]) -> tuple[Tensor, list[list[int]]]:
        """Crops that need computing, [K, 3, S, S], and for each image the indices of its thumbnail and tiles in them.

        Padding crops are left out. The thumbnail of a 1 x 1 grid equals its only tile: computed once, used twice.
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
        """A 0 that depends on tower and projector through one blank image.

        [Contract] Added to a batch without images, it makes every rank run the image part. Gradients are reduced and
        shards gathered by all ranks or none; a rank that skipped this part would leave the others waiting.
        """
        side = self.crop_size // PIXELS_PER_TOKEN
        if self.features_precomputed:
            features = self.glb_GN.new_zeros(1, side, side, self.glb_GN.shape[-1])
        else:
            features = self.tower_features(self.glb_GN.new_zeros(1, 3, self.crop_size, self.crop_size))
        return 0 * self.project(self.lay_out(features.expand(2, -1, -1, -1), 1, 1)).sum()

    def grids(self, image_sizes: Tensor) -> list[tuple[int, int]]:
        """Tile rows and columns of each image."""
        return [(height // self.crop_size, width // self.crop_size) for height, width in image_sizes.tolist()]

    def token_counts(self, image_sizes: Tensor) -> list[int]:
        """Image tokens of each image."""
        return [grid_tokens(rows, columns, self.crop_size) for rows, columns in self.grids(image_sizes)]

    def tower_features(self, crops_K3SS: Tensor) -> Tensor:
        """Merged patches [K, n, n, M]: top-left, top-right, bottom-left, bottom-right of each 2 x 2 block."""
        weight = self.img_processor.vision_model.embeddings.patch_embedding.weight
        patches_KPV = self.img_processor(crops_K3SS.to(device=weight.device, dtype=weight.dtype))
        K, area, V = patches_KPV.shape
        n = int(area**0.5) // 2
        blocks = patches_KPV.reshape(K, n, 2, n, 2, V).permute(0, 1, 3, 2, 4, 5)
        merged_KnnM: Tensor = blocks.reshape(K, n, n, 4 * V)
        return merged_KnnM

    def lay_out(self, features_CnnM: Tensor, rows: int, columns: int) -> Tensor:
        """Thumbnail and tiles of one image in the published order, [tokens, M]."""
        n, M = features_CnnM.shape[1], features_CnnM.shape[-1]
        tiles = features_CnnM[1:].reshape(rows, columns, n, n, M)
        image = tiles.permute(0, 2, 1, 3, 4).reshape(rows * n, columns * n, M)
        return torch.cat([self._with_separators(image), self.glb_GN[0], self._with_separators(features_CnnM[0])])

    def _with_separators(self, image_hwM: Tensor) -> Tensor:
        """[h * (w + 1), M]: one ``sub_GN`` after each row."""
        separators = self.sub_GN[0].expand(image_hwM.shape[0], 1, -1)
        return torch.cat([image_hwM, separators], dim=1).flatten(0, 1)

    def project(self, laid_out: Tensor) -> Tensor:
        """[tokens, M] to [tokens, D]."""
        projected: Tensor = self.drop(self.img_projection(laid_out))
        return projected

    def _check_features(self, image_features: Tensor) -> None:
        side = self.crop_size // PIXELS_PER_TOKEN
        expected = (side, side, self.glb_GN.shape[-1])
        if image_features.shape[2:] != expected:
            raise ImagePlaceholderError(
                f"image_features hold {tuple(image_features.shape[2:])} values per crop but the projector reads "
                f"{expected}; were they computed by another tower?"
            )

    def _check_crops(self, name: str, crops: Tensor, grids: list[tuple[int, int]]) -> None:
        if len(crops) != len(grids):
            raise ImagePlaceholderError(f"{name} holds {len(crops)} images but image_sizes {len(grids)}")
        for index, (rows, columns) in enumerate(grids):
            if rows * columns + 1 > crops.shape[1] or rows * columns == 0:
                raise ImagePlaceholderError(
                    f"image {index}: image_sizes ask for {rows} x {columns} tiles and a thumbnail, {name} holds "
                    f"{crops.shape[1]} crops; were the two made by different processors?"
                )


def images_given(pixel_values: Tensor | None, image_sizes: Tensor | None, image_features: Tensor | None) -> bool:
    """Whether there are images; ImagePlaceholderError where they come in both forms or incomplete."""
    if pixel_values is not None and image_features is not None:
        raise ImagePlaceholderError(
            "pixel_values and image_features are both given; pass the images in one of the two forms"
        )
    name, images = ("image_features", image_features) if pixel_values is None else ("pixel_values", pixel_values)
    if (images is None) != (image_sizes is None):
        if images is None:
            raise ImagePlaceholderError(
                "image_sizes is given without pixel_values; pass both as the processor returned them"
            )
        raise ImagePlaceholderError(f"{name} is given without image_sizes; pass both as the processor returned them")
    return images is not None


def pooled_patches(features_KnnM: Tensor) -> Tensor:
    """float32[K, 6M]: mean and standard deviation of each crop's merged patches, and the means of its quarters."""
    patches_KnnM = features_KnnM.float()
    patches = patches_KnnM.flatten(1, 2)
    quarters = nn.functional.adaptive_avg_pool2d(patches_KnnM.permute(0, 3, 1, 2), 2).flatten(1)
    return torch.cat([patches.mean(dim=1), patches.std(dim=1), quarters], dim=1)


def initialize_vision(module: nn.Module, std: float) -> None:
    """Initial values of a module of the tower or the image embedding that no checkpoint brought."""
    if isinstance(module, CLIPVisionEmbeddings):
        draw(module.class_embedding, module.embed_dim**-0.5)
        fill(module.position_ids, torch.arange(module.num_positions).expand(1, -1))
    elif isinstance(module, CLIPAttention):
        draw(module.out_proj.weight, std / (2 * module.config.num_hidden_layers) ** 0.5)
    elif isinstance(module, ImageEmbedding):
        draw(module.glb_GN, std)
        draw(module.sub_GN, std)


def draw(parameter: Tensor, std: float) -> None:
    """Normal values, unless the parameter was loaded."""
    if not _loaded(parameter):
        parameter.normal_(0.0, std)


def fill(buffer: Tensor, values: Tensor) -> None:
    """These values, unless the buffer was loaded."""
    if not _loaded(buffer):
        buffer.copy_(values)


def _loaded(tensor: Tensor) -> bool:
    return bool(getattr(tensor, "_is_hf_initialized", False))
