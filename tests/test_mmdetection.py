"""Names and channel orders of MMDetection's Grounding DINO against those of groundingdino-py's."""

import itertools
import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from filo.grounding.load import load_detector
from filo.grounding.mmdetection import from_original, to_original
from filo.grounding.weights import find_form
from tests.detectors import draw, write_config, write_vocabulary
from tests.trees import complaint

GOLDEN = Path(__file__).parent / "golden" / "grounding_dino_names.json"
LABELS = "dn_query_generator.label_embedding.weight"
SCALES = [f"bbox_head.cls_branches.{i}.log_scale" for i in range(7)]
POOLER = {f"language_model.language_backbone.body.model.pooler.dense.{p}" for p in ("weight", "bias")}


def expand(rows):
    """Undo the golden file's shorthand {a-b}."""
    for template, shape in rows.items():
        texts = re.split(r"\{\d+-\d+\}", template)
        spans = [range(int(a), int(b) + 1) for a, b in re.findall(r"\{(\d+)-(\d+)\}", template)]
        for numbers in itertools.product(*spans):
            yield "".join(f"{t}{n}" for t, n in itertools.zip_longest(texts, numbers, fillvalue="")), shape


@pytest.fixture(scope="module")
def shapes():
    rows = json.loads(GOLDEN.read_text())
    return {form: dict(expand(rows[form])) for form in ("original", "mmdetection")}


def numbered(shapes, same=lambda name: name):
    """A state dict in which every tensor is filled with a number of its own, without the memory for it."""
    numbers = {name: float(i) for i, name in enumerate(dict.fromkeys(map(same, shapes)), 1)}
    return {name: torch.tensor(numbers[same(name)]).expand(shape) for name, shape in shapes.items()}


def original_state(shapes):
    return numbered(
        shapes["original"], lambda name: re.sub(r"^bbox_embed", "transformer.decoder.bbox_embed", name)
    )


def mmdetection_state(shapes):
    state = numbered(shapes["mmdetection"])
    return state | {name: torch.zeros(1) for name in SCALES}  # as it is before the first step


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    assert [
        n for n in wanted if found[n].shape != wanted[n].shape or not torch.equal(found[n], wanted[n])
    ] == []


def test_the_golden_lists_are_whole(shapes):
    assert {form: len(names) for form, names in shapes.items()} == {"original": 938, "mmdetection": 908}


def test_every_original_name_becomes_one_of_mmdetections_in_its_shape(shapes):
    renamed = from_original(original_state(shapes))
    wanted = {n: s for n, s in shapes["mmdetection"].items() if n not in (LABELS, *SCALES)}
    assert renamed.keys() - POOLER == wanted.keys()
    assert all(list(renamed[name].shape) == shape for name, shape in wanted.items())


def test_every_name_of_mmdetection_becomes_an_original_one_in_its_shape(shapes):
    renamed = to_original(mmdetection_state(shapes))
    wanted = {n: s for n, s in shapes["original"].items() if not n.startswith("bert.pooler.")}
    assert {name: list(tensor.shape) for name, tensor in renamed.items()} == wanted


def test_there_and_back_gives_the_same_weights(shapes):
    state = original_state(shapes)
    assert_same(to_original(from_original(state)), state)
    theirs = mmdetection_state(shapes)
    kept = {name: tensor for name, tensor in theirs.items() if name not in (LABELS, *SCALES)}
    assert_same(from_original(to_original(theirs)), kept)


def test_a_few_names_as_they_stand_in_both_models(shapes):
    theirs, renamed = mmdetection_state(shapes), to_original(mmdetection_state(shapes))
    pairs = {
        "backbone.0.layers.2.blocks.5.attn.qkv.bias": "backbone.stages.2.blocks.5.attn.w_msa.qkv.bias",
        "backbone.0.layers.0.blocks.1.mlp.fc2.weight": "backbone.stages.0.blocks.1.ffn.layers.1.weight",
        "input_proj.2.1.weight": "neck.convs.2.gn.weight",
        "input_proj.3.0.weight": "neck.extra_convs.0.conv.weight",
        "transformer.decoder.layers.4.norm2.weight": "decoder.layers.4.norms.0.weight",  # self-attention
        "transformer.decoder.layers.4.catext_norm.weight": "decoder.layers.4.norms.1.weight",  # text
        "transformer.decoder.layers.4.norm1.weight": "decoder.layers.4.norms.2.weight",  # image
        "transformer.decoder.layers.4.norm3.weight": "decoder.layers.4.norms.3.weight",  # ffn
        "transformer.decoder.bbox_embed.3.layers.1.bias": "bbox_head.reg_branches.3.2.bias",
        "bbox_embed.3.layers.1.bias": "bbox_head.reg_branches.3.2.bias",
        "transformer.enc_out_bbox_embed.layers.2.weight": "bbox_head.reg_branches.6.4.weight",
    }
    assert [ours for ours, name in pairs.items() if not torch.equal(renamed[ours], theirs[name])] == []


def test_the_number_of_decoder_layers_is_read_from_the_names():
    state = {f"decoder.layers.{i}.norms.0.bias": torch.tensor([i]) for i in range(2)}
    state |= {f"bbox_head.reg_branches.{i}.0.bias": torch.tensor([10 + i]) for i in range(3)}
    renamed = to_original(state)
    assert renamed["transformer.enc_out_bbox_embed.layers.0.bias"].item() == 12
    assert renamed["bbox_embed.1.layers.0.bias"].item() == 11
    assert_same(from_original(renamed), state)


def test_merged_pixels_are_reordered_as_worked_out_by_hand():
    # two channels a, b of four pixels: the original has a b of (0, 0), (1, 0), (0, 1), (1, 1) (row, column)
    # one after the other; MMDetection all of a, then all of b, each as (0, 0), (0, 1), (1, 0), (1, 1)
    a00, b00, a10, b10, a01, b01, a11, b11 = range(8)
    ours, theirs = "backbone.0.layers.0.downsample.norm.weight", "backbone.stages.0.downsample.norm.weight"
    wanted = [a00, a01, a10, a11, b00, b01, b10, b11]
    assert from_original({ours: torch.arange(8)})[theirs].tolist() == wanted
    assert to_original({theirs: torch.tensor(wanted)})[ours].tolist() == list(range(8))


def test_patch_merging_gives_the_same_in_both_orders():
    image, norm, bias, reduction = (torch.randn(*s) for s in ((1, 3, 6, 4), (12,), (12,), (5, 12)))
    quarters = [image[:, :, row::2, column::2] for column in (0, 1) for row in (0, 1)]
    merged = torch.cat(quarters, 1).permute(0, 2, 3, 1)
    wanted = F.linear(F.layer_norm(merged, (12,), norm, bias), reduction)
    place = "downsample.norm.weight", "downsample.norm.bias", "downsample.reduction.weight"
    state = dict(zip((f"backbone.0.layers.1.{p}" for p in place), (norm, bias, reduction), strict=True))
    theirs = [from_original(state)[f"backbone.stages.1.{p}"] for p in place]
    unfolded = nn.Unfold(2, stride=2)(image).transpose(1, 2)
    found = F.linear(F.layer_norm(unfolded, (12,), *theirs[:2]), theirs[2])
    torch.testing.assert_close(found.view_as(wanted), wanted)


def test_the_factor_on_the_scores_changes_the_scores_and_leaves_the_boxes():
    g = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    theirs = {"decoder.layers.5.norms.0.bias": draw(8)}
    theirs |= {f"decoder.norm.{p}": draw(8) for p in ("weight", "bias")}
    theirs |= {f"bbox_head.reg_branches.5.{i}.weight": draw(n, 8) for i, n in ((0, 8), (2, 8), (4, 4))}
    theirs |= {f"bbox_head.reg_branches.5.{i}.bias": draw(n) for i, n in ((0, 8), (2, 8), (4, 4))}
    scales = {name: torch.tensor([0.1 * i - 0.2]) for i, name in enumerate(SCALES)}

    def answer(state):
        decoder = {n.removeprefix("transformer.decoder."): t for n, t in state.items()}
        out = F.layer_norm(queries, (8,), decoder["norm.weight"], decoder["norm.bias"])
        box = out
        for i in range(3):
            head = (decoder[f"bbox_embed.5.layers.{i}.{p}"] for p in ("weight", "bias"))
            box = F.linear(box.relu() if i else box, *head)
        return out @ text.T, box

    queries, text = draw(7, 8), draw(5, 8)
    scores, boxes = answer(to_original(theirs))
    scaled, same_boxes = answer(to_original(theirs | scales))
    torch.testing.assert_close(scaled, scores * torch.tensor(0.3, dtype=torch.float64).exp())  # of layer 5
    torch.testing.assert_close(same_boxes, boxes)


def test_an_mm_grounding_dino_is_refused_by_the_name_that_does_not_fit(shapes):
    state = mmdetection_state(shapes)
    state |= {name.replace("log_scale", "bias"): state.pop(name) for name in SCALES}
    message = complaint(lambda: to_original(state))
    assert message.startswith("bbox_head.cls_branches.0.bias: ")
    assert "configs/mm_grounding_dino" in message and "fine-tune from configs/grounding_dino" in message


@pytest.mark.parametrize(
    "name", ["backbone.layer1.0.conv1.weight", "roi_head.fc.weight", "decoder.layers.x.norm"]
)
def test_a_name_of_another_model_is_refused_by_name(shapes, name):
    for rename, form in ((to_original, mmdetection_state), (from_original, original_state)):
        message = complaint(lambda rename=rename, form=form: rename(form(shapes) | {name: torch.zeros(1)}))
        assert message.startswith(f"{name} is no tensor of ")


def test_what_only_training_needs_is_left_out(shapes):
    assert not [name for name in to_original(mmdetection_state(shapes)) if "label" in name]
    assert from_original({"label_enc.weight": torch.zeros(2001, 256)}) == {}


def test_either_name_of_a_shared_box_head_is_enough_and_both_must_agree():
    ours, twin = "transformer.decoder.bbox_embed.0.layers.0.bias", "bbox_embed.0.layers.0.bias"
    for name in (ours, twin):
        assert list(from_original({name: torch.ones(4)})) == ["bbox_head.reg_branches.0.0.bias"]
    assert len(from_original({ours: torch.ones(4), twin: torch.ones(4)})) == 1
    assert twin in complaint(lambda: from_original({ours: torch.ones(4), twin: torch.zeros(4)}))


def test_the_form_is_told_by_the_names(shapes):
    assert [find_form(shapes[form]) for form in ("original", "mmdetection")] == ["original", "mmdetection"]
    assert (
        find_form({"level_embed": 0, "memory_trans_fc.weight": 0, "backbone.conv1.weight": 0}) is None
    )  # DINO


def test_a_file_in_either_form_gives_the_same_detector_but_for_the_factor_on_its_scores(tmp_path):
    bert = write_vocabulary(tmp_path / "bert")
    config = write_config(tmp_path / "unshared.py", dec_pred_bbox_embed_share=False)
    empty = load_detector("drawn:0", config, bert, 96).model
    names = {name.replace("bert.bert.", "bert."): tensor for name, tensor in empty.state_dict().items()}
    state = draw(names)
    state |= {f"transformer.decoder.{name}": t for name, t in state.items() if name.startswith("bbox_embed.")}
    theirs = from_original(state) | {LABELS: torch.randn(80, 256)}
    files = {
        "original.pth": state,
        "theirs.pth": {"meta": {"epoch": 1}, "state_dict": theirs},
        "scaled.pth": {"state_dict": theirs | {SCALES[1]: torch.tensor([0.5])}},
    }
    answers = []
    for name, content in files.items():
        torch.save(content, tmp_path / name)
        detector = load_detector(str(tmp_path / name), config, bert, 96)
        noise = (torch.rand(96, 96, 3, generator=torch.Generator().manual_seed(1)) * 255).byte().numpy()
        answers += detector.detect([Image.fromarray(noise)], ["bent pin", "scratch"])
    original, same, scaled = answers
    assert (same.boxes == original.boxes).all() and (same.probabilities == original.probabilities).all()
    assert abs(scaled.boxes - original.boxes).max() < 1e-5
    logits = torch.from_numpy(original.probabilities).double().logit()
    wanted = (logits * torch.tensor(0.5).exp()).sigmoid()
    assert abs(wanted.numpy() - original.probabilities).max() > 0.01
    assert abs(wanted.numpy() - scaled.probabilities).max() < 1e-4


def test_the_golden_list_is_that_of_the_installed_model(shapes, tmp_path):
    model = load_detector("drawn:0", None, write_vocabulary(tmp_path / "bert"), 518).model
    found = {
        n: list(t.shape) for n, t in model.state_dict().items() if not n.startswith(("bert.", "feat_map."))
    }
    wanted = {n: s for n, s in shapes["original"].items() if not n.startswith(("bert.", "feat_map."))}
    assert found == wanted
