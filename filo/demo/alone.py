"""How far CLIP gets without any training: generic words against the image and its patch tokens.

python -m filo.demo.alone --dataset demo_mvtec --data_path data/demo/mvtec --save_path checkpoints/demo_alone
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from filo import options
from filo.clip.load import CLIP, load_clip
from filo.clip.vision import ImageFeatures
from filo.datasets import AnomalyDataset
from filo.errors import exit_clearly
from filo.evaluate import evaluate, format_table
from filo.files import write_json
from filo.grounding.boxes import Boxes, cell_of
from filo.logs import pick_device
from filo.meta import read_meta
from filo.method import Method, Prediction
from filo.methods.filo import MAP_SCALE
from filo.methods.filo_config import PRESETS, ablate
from filo.metrics import mean_metrics
from filo.prompts import ClassTexts
from filo.text_encoder import TextEncoder, similarities

GENERIC = replace(ablate(PRESETS["official"], ["descriptions", "template"]), features_list=(1,))


class ClipAlone(Method):
    """A frozen CLIP that compares features with the mean normal and the mean abnormal text of a class.

    The map compares the last block's patch tokens, taken as the class token is: after the last norm and the
    projection. `texts` are those of `GENERIC`.
    """

    def __init__(self, clip: CLIP, texts: Mapping[str, ClassTexts]) -> None:
        super().__init__(clip, GENERIC, texts)
        self.encoder = TextEncoder(clip.text, texts)

    @torch.no_grad()
    def image_features(self, images: Tensor, tapped: bool = True) -> ImageFeatures:
        return self.clip.vision(images, [self.clip.layers])

    @torch.no_grad()
    def answer(
        self,
        features: ImageFeatures,
        class_names: Sequence[str],
        positions: Sequence[Sequence[int]] | None = None,
        boxes: Sequence[Boxes] | None = None,
    ) -> Prediction:
        """Score a batch, each image of its own class; boxes are not looked at."""
        visual, side = self.clip.vision.visual, self.clip.image_size
        image = F.normalize(features.image, dim=-1)
        text = self.encoder.encode(image, class_names, positions)
        similarity = torch.einsum("bd,bkd->bk", image, text.pair)
        scores = similarity[:, 1] - similarity[:, 0]  # orders images as a softmax would, without its ends
        tokens = F.normalize(visual.ln_post(features.ordinary[0][:, 1:]) @ visual.proj, dim=-1)  # (B, N, D)
        grid = math.isqrt(tokens.shape[1])
        abnormal = (MAP_SCALE * tokens @ text.pair.transpose(1, 2)).softmax(2)[..., 1]
        maps = F.interpolate(abnormal.reshape(-1, 1, grid, grid), side, mode="bilinear", align_corners=True)
        cells = tuple(cell_of(pixel, side) for pixel in maps.flatten(1).argmax(1).tolist())
        return Prediction(scores, maps[:, 0], similarities(image, text), cells)


def parse_args() -> argparse.Namespace:
    parser = options.make_parser(__doc__)
    add = parser.add_argument_group("data: what it is tested on").add_argument
    add("--dataset", default="demo_mvtec", help="name of the dataset; picks prompts/<dataset>.json")
    add("--data_path", type=Path, default=Path("data/demo/mvtec"), help="its root, which holds meta.json")
    options.add_prompt_option(add)
    add = parser.add_argument_group("method: what is tested").add_argument
    add("--clip_model", default="checkpoints/demo/clip.json", help="an open_clip ViT, or a JSON file")
    add("--clip_pretrained", default="checkpoints/demo/clip.safetensors", help="file of its weights")
    add("--image_size", type=options.side, default=176, help="side of the square images, in pixels")
    add = parser.add_argument_group("run: where and how it runs").add_argument
    add("--save_path", type=Path, required=True, help="folder of results.json")
    add("--batch_size", type=options.positive, default=8, help="images at once")
    options.add_run_options(add)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    device = pick_device(args.device)
    meta = read_meta(args.data_path, "test")
    clip = load_clip(args.clip_model, args.clip_pretrained, args.image_size, GENERIC.activation, device)
    dataset = AnomalyDataset(meta, clip.image_size, clip.mean, clip.std)
    method = ClipAlone(clip, options.read_texts(args, meta.classes, GENERIC)).to(device)
    workers = options.count_workers(args, device.type)
    results = evaluate(method, dataset, args.batch_size, device, workers)
    classes = {result.class_name: result.metrics for result in results}
    mean = mean_metrics([result.metrics for result in results])
    write_json(args.save_path / "results.json", {"classes": classes, "mean": mean})
    print(format_table(results))


if __name__ == "__main__":
    exit_clearly(main)
