"""FiLo: fine-grained description and high-quality localisation on a frozen CLIP (arXiv 2404.13671)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.functional import gaussian_blur

from filo.adapter import Adapter
from filo.clip.load import CLIP
from filo.clip.vision import ImageFeatures, check_taps
from filo.errors import InputError
from filo.grounding.boxes import Boxes, cell_of, locate, map_weights
from filo.losses import dice_loss, focal_loss, squared_dice_loss
from filo.method import Method, Prediction
from filo.methods.filo_config import FiLoConfig
from filo.mmci import MultiShapeConv, MultiShapeHeads, to_grid
from filo.prompts import ClassTexts, LearnablePrompt
from filo.text_encoder import TextEncoder, TextFeatures, similarities

MAP_SCALE = 100.0  # temperature of the maps, CLIP's own
TEMPERATURE = 0.07  # of the global similarities


class FiLoModel(Method):
    """The whole model: four linear and three MMCI heads, two learnable prompts, an adapter, on a frozen CLIP.

    Its scores are about [-0.4, 0.9] with the preset `official` and [0, 2] with `paper`, its maps 0 to 1.
    """

    def __init__(self, clip: CLIP, config: FiLoConfig, texts: Mapping[str, ClassTexts]) -> None:
        super().__init__(clip, config, texts)
        check_taps(config.features_list, clip.layers)
        if config.blur_kernel // 2 >= clip.image_size:
            raise InputError(
                f"image size {clip.image_size} is too small for a blur of {config.blur_kernel} pixels: "
                f"wanted at least {config.blur_kernel // 2 + 1}"
            )
        C, D, taps = clip.vision_width, clip.embed_dim, len(config.features_list)
        self.encoder = TextEncoder(clip.text, self.texts)
        self.linear_heads = nn.ModuleList(nn.Linear(C, D) for _ in range(taps))
        heads = taps - 1 if config.mmci_shapes else 0
        self.mmci_heads = MultiShapeHeads(MultiShapeConv(C, D, config.mmci_shapes) for _ in range(heads))
        prompt = (config.n_ctx, D, clip.text_width)
        self.normal_prompt = LearnablePrompt(*prompt) if config.learned_template else None
        self.abnormal_prompt = LearnablePrompt(*prompt) if config.learned_template else None
        self.adapter = Adapter(D, config.adapter_bias, config.adapter_residual)

    def trained_parameters(self) -> dict[str, list[nn.Parameter]]:
        """The trained part by learning rate: `decoder` and `prompts` in stage 1, `adapter` in stage 2."""
        prompts = [prompt for prompt in (self.normal_prompt, self.abnormal_prompt) if prompt is not None]
        return {
            "decoder": [*self.linear_heads.parameters(), *self.mmci_heads.parameters()],
            "prompts": [parameter for prompt in prompts for parameter in prompt.parameters()],
            "adapter": [*self.adapter.parameters()],
        }

    # features

    @torch.no_grad()
    def image_features(self, images: Tensor, tapped: bool = True) -> ImageFeatures:
        taps = self.config.features_list if tapped else ()
        return self.clip.vision(images, taps, self.config.aliased_taps)

    def frozen_settings(self) -> dict:
        config = self.config
        taps = {"features_list": config.features_list, "aliased_taps": config.aliased_taps}
        return super().frozen_settings() | taps

    def frozen_numbers(self) -> int:
        clip, taps = self.clip, len(self.config.features_list)
        distinct = taps if self.config.aliased_taps else 2 * taps - 1
        return distinct * ((clip.image_size // clip.patch_size) ** 2 + 1) * clip.vision_width + clip.embed_dim

    def text_features(
        self, image: Tensor, class_names: Sequence[str], positions: Sequence[Sequence[int]] | None = None
    ) -> Tensor:
        """Give [F_n, F_a] for every image, (B, 2, D), from its global feature (B, D), class and positions.

        An image's positions are indices into `ClassTexts.positions`; none at all stands for all of them.
        """
        return self._encode_texts(image, class_names, positions).pair

    def _encode_texts(
        self, image: Tensor, class_names: Sequence[str], positions: Sequence[Sequence[int]] | None
    ) -> TextFeatures:
        unit, ctx = F.normalize(image, dim=-1), None
        if self.config.learned_template:
            ctx = torch.stack([self.normal_prompt(unit), self.abnormal_prompt(unit)], dim=1)
        n_ctx = self.config.n_ctx if self.config.learned_template else 0
        text = self.encoder.encode(unit, class_names, positions, n_ctx, ctx)
        if not self.config.joint_norm:
            return text
        return text._replace(pair=text.pair / text.pair.flatten(1).norm(dim=1)[:, None, None])

    def global_feature(self, features: ImageFeatures, adapted: bool) -> Tensor:
        """The image's global feature g, L2-normalised, (B, D); it also feeds the learnable prompts."""
        image = self.adapter(features.image) if adapted else features.image
        return F.normalize(image, dim=-1)

    # maps

    def probability_maps(self, features: ImageFeatures, text: Tensor) -> list[Tensor]:
        """Give [normal, abnormal] maps (B, 2, S, S), those of the linear heads, then of MMCI (eq. 2)."""
        linear = [
            self._probabilities(head(tap[:, 1:]), text)
            for head, tap in zip(self.linear_heads, features.ordinary, strict=True)
        ]
        return linear + self._mmci_maps(features.vv[: len(self.mmci_heads)], text)

    def _mmci_maps(self, taps: Sequence[Tensor], text: Tensor) -> list[Tensor]:
        if taps and all(tap is taps[0] for tap in taps):
            patches = [taps[0][:, 1:]] * len(taps)
        else:
            patches = [tap[:, 1:] for tap in taps]
        if self.config.mmci_combine == "features":
            return [self._probabilities(tokens, text) for tokens in self.mmci_heads(patches, self.clip.dtype)]
        return [
            torch.stack([self._probabilities(branch, text) for branch in head.each(tokens)]).mean(0)
            for head, tokens in zip(self.mmci_heads, patches, strict=True)
        ]

    def _probabilities(self, tokens: Tensor, text: Tensor) -> Tensor:
        """Compare joint-space tokens (B, N, D) with the text pair (B, 2, D): (B, 2, S, S)."""
        logits = to_grid(MAP_SCALE * F.normalize(tokens, dim=-1) @ text.transpose(1, 2))  # (B, 2, G, G)
        if self.config.softmax_at == "grid":
            return self._enlarge(logits.softmax(1))
        return self._enlarge(logits).softmax(1)

    def _enlarge(self, grid: Tensor) -> Tensor:
        return F.interpolate(grid, size=self.clip.image_size, mode="bilinear", align_corners=True)

    def anomaly_map(self, maps: Sequence[Tensor]) -> Tensor:
        """Merge the heads' maps (B, 2, S, S) into M (B, S, S): difference, mean, blur (eq. 3 and 4)."""
        mean = torch.stack(list(maps)).mean(0)
        size, sigma = self.config.blur_kernel, self.config.blur_sigma
        merged = (mean[:, 1] - mean[:, 0] + 1) / 2
        merged = gaussian_blur(merged[:, None], [size, size], [sigma, sigma])[:, 0]
        if self.config.map_norm == "minmax":
            low, high = merged.amin((1, 2), keepdim=True), merged.amax((1, 2), keepdim=True)
            merged = (merged - low) / (high - low).clamp_min(1e-12)
        return merged

    def image_scores(self, image: Tensor, text: Tensor, maps: Tensor) -> Tensor:
        """Score images (B,) from g (B, D), the text pair (B, 2, D) and M (B, S, S) (eq. 1)."""
        similarity = torch.einsum("bd,bkd->bk", image, text)
        peak = maps.flatten(1).amax(1)
        if self.config.image_score == "cosine":
            return (similarity[:, 1] + peak) / 2
        return (similarity / TEMPERATURE).softmax(1)[:, 1] + peak

    @torch.no_grad()
    def answer(
        self,
        features: ImageFeatures,
        class_names: Sequence[str],
        positions: Sequence[Sequence[int]] | None = None,
        boxes: Sequence[Boxes] | None = None,
    ) -> Prediction:
        """Score images by their features.

        An image's boxes, if a detector has looked at it, name its position, unless `positions` do, and weight
        its map (section 3.3).
        """
        side, rules = self.clip.image_size, self.config.boxes
        if boxes is not None:
            phrases = [self.encoder.texts_of(name).phrases for name in class_names]
            places = [locate(*each, side, rules) for each in zip(boxes, phrases, strict=True)]
            positions = positions or [[] if position is None else [position] for _, position in places]
        image = self.global_feature(features, adapted=True)
        text = self._encode_texts(image, class_names, positions)
        maps = weighted = self.anomaly_map(self.probability_maps(features, text.pair))
        if boxes is not None:
            weights = [torch.from_numpy(map_weights(corners, side, rules)) for corners, _ in places]
            weighted = maps * torch.stack(weights).to(maps)
        peaks = maps if rules.peak_before_weighting else weighted
        scores = self.image_scores(image, text.pair, peaks)
        positions = [()] * len(class_names) if positions is None else positions
        peaks_at = weighted.flatten(1).argmax(1).tolist()
        cells = [
            named[0] if len(named) == 1 else cell_of(pixel, side)
            for named, pixel in zip(positions, peaks_at, strict=True)
        ]
        return Prediction(scores, weighted, similarities(image, text), tuple(cells))

    # training

    def needs_taps(self, stage: int) -> bool:
        """Whether a stage's loss looks at patch tokens; otherwise the global feature is enough."""
        return stage == 1 or self.config.global_loss == "score"

    def local_loss(self, features: ImageFeatures, class_names: Sequence[str], masks: Tensor) -> Tensor:
        """Stage 1: focal and Dice losses of the maps against masks (B, S, S), at all positions (eq. 9)."""
        text = self.text_features(self.global_feature(features, adapted=False), class_names)
        maps = self.probability_maps(features, text)
        if self.config.local_loss == "mean":
            maps = [torch.stack(maps).mean(0)]
        return torch.stack([self._map_loss(each, masks) for each in maps]).sum()

    def _map_loss(self, maps: Tensor, masks: Tensor) -> Tensor:
        masks = masks.to(maps.dtype)
        return focal_loss(maps, masks) + self._dice(maps[:, 1], masks) + self._dice(maps[:, 0], 1 - masks)

    def _dice(self, p: Tensor, t: Tensor) -> Tensor:
        dice = dice_loss if self.config.dice_form == "smooth" else squared_dice_loss
        if self.config.dice_over == "rows":
            # as official: the mask is squeezed to (S, S), so that rows stand where the batch should
            p, t = p.flatten(0, 1), t.flatten(0, 1)
        return dice(p, t)

    def global_loss(self, features: ImageFeatures, class_names: Sequence[str], labels: Tensor) -> Tensor:
        """Stage 2: cross-entropy of the adapted global feature against labels (B,); texts get no gradient."""
        image = self.global_feature(features, adapted=True)
        with torch.no_grad():
            text = self.text_features(image, class_names)
        if not self.needs_taps(stage=2):
            return F.cross_entropy(torch.einsum("bd,bkd->bk", image, text) / TEMPERATURE, labels)
        with torch.no_grad():
            maps = self.anomaly_map(self.probability_maps(features, text))
        halved = (self.image_scores(image, text, maps) / 2).clamp(1e-6, 1 - 1e-6)
        return F.binary_cross_entropy(halved, labels.to(halved.dtype))
