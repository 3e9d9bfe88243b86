"""What MMDetection calls the tensors of a Grounding DINO, so that what was fine-tuned there is loaded here.

MMDetection 3.x trains Grounding DINO by `configs/grounding_dino`; its state dict holds the same tensors as
the original's under other names. `configs/mm_grounding_dino` is another model: its scores have a bias.
"""

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from filo.errors import InputError

# original name, MMDetection's name. {i} {j} {k} stand for numbers, {p} and {rest} for the rest of the name,
# {L} for the number of decoder layers. The first row that fits counts; what both call alike is listed too.
NAMES = (
    ("backbone.0.patch_embed.proj.{p}", "backbone.patch_embed.projection.{p}"),
    ("backbone.0.patch_embed.norm.{p}", "backbone.patch_embed.norm.{p}"),
    ("backbone.0.layers.{i}.blocks.{j}.norm{k}.{p}", "backbone.stages.{i}.blocks.{j}.norm{k}.{p}"),
    ("backbone.0.layers.{i}.blocks.{j}.attn.{rest}", "backbone.stages.{i}.blocks.{j}.attn.w_msa.{rest}"),
    ("backbone.0.layers.{i}.blocks.{j}.mlp.fc1.{p}", "backbone.stages.{i}.blocks.{j}.ffn.layers.0.0.{p}"),
    ("backbone.0.layers.{i}.blocks.{j}.mlp.fc2.{p}", "backbone.stages.{i}.blocks.{j}.ffn.layers.1.{p}"),
    ("backbone.0.layers.{i}.downsample.norm.{p}", "backbone.stages.{i}.downsample.norm.{p}"),
    ("backbone.0.layers.{i}.downsample.reduction.{p}", "backbone.stages.{i}.downsample.reduction.{p}"),
    ("backbone.0.norm{i}.{p}", "backbone.norm{i}.{p}"),
    ("input_proj.3.0.{p}", "neck.extra_convs.0.conv.{p}"),
    ("input_proj.3.1.{p}", "neck.extra_convs.0.gn.{p}"),
    ("input_proj.{i}.0.{p}", "neck.convs.{i}.conv.{p}"),
    ("input_proj.{i}.1.{p}", "neck.convs.{i}.gn.{p}"),
    ("bert.{rest}", "language_model.language_backbone.body.model.{rest}"),
    ("feat_map.{p}", "text_feat_map.{p}"),
    ("transformer.level_embed", "level_embed"),
    ("transformer.tgt_embed.{p}", "query_embedding.{p}"),
    ("transformer.enc_output.{p}", "memory_trans_fc.{p}"),
    ("transformer.enc_output_norm.{p}", "memory_trans_norm.{p}"),
    # the box heads, each three linear layers with ReLUs between, which MMDetection counts too: one for every
    # decoder layer and one more for the encoder's proposals
    ("transformer.enc_out_bbox_embed.layers.0.{p}", "bbox_head.reg_branches.{L}.0.{p}"),
    ("transformer.enc_out_bbox_embed.layers.1.{p}", "bbox_head.reg_branches.{L}.2.{p}"),
    ("transformer.enc_out_bbox_embed.layers.2.{p}", "bbox_head.reg_branches.{L}.4.{p}"),
    ("transformer.decoder.bbox_embed.{i}.layers.0.{p}", "bbox_head.reg_branches.{i}.0.{p}"),
    ("transformer.decoder.bbox_embed.{i}.layers.1.{p}", "bbox_head.reg_branches.{i}.2.{p}"),
    ("transformer.decoder.bbox_embed.{i}.layers.2.{p}", "bbox_head.reg_branches.{i}.4.{p}"),
    ("transformer.encoder.fusion_layers.{i}.{rest}", "encoder.fusion_layers.{i}.{rest}"),
    ("transformer.encoder.text_layers.{i}.self_attn.{rest}", "encoder.text_layers.{i}.self_attn.attn.{rest}"),
    ("transformer.encoder.text_layers.{i}.linear1.{p}", "encoder.text_layers.{i}.ffn.layers.0.0.{p}"),
    ("transformer.encoder.text_layers.{i}.linear2.{p}", "encoder.text_layers.{i}.ffn.layers.1.{p}"),
    ("transformer.encoder.text_layers.{i}.norm1.{p}", "encoder.text_layers.{i}.norms.0.{p}"),
    ("transformer.encoder.text_layers.{i}.norm2.{p}", "encoder.text_layers.{i}.norms.1.{p}"),
    ("transformer.encoder.layers.{i}.self_attn.{rest}", "encoder.layers.{i}.self_attn.{rest}"),
    ("transformer.encoder.layers.{i}.linear1.{p}", "encoder.layers.{i}.ffn.layers.0.0.{p}"),
    ("transformer.encoder.layers.{i}.linear2.{p}", "encoder.layers.{i}.ffn.layers.1.{p}"),
    ("transformer.encoder.layers.{i}.norm1.{p}", "encoder.layers.{i}.norms.0.{p}"),
    ("transformer.encoder.layers.{i}.norm2.{p}", "encoder.layers.{i}.norms.1.{p}"),
    ("transformer.decoder.layers.{i}.self_attn.{rest}", "decoder.layers.{i}.self_attn.attn.{rest}"),
    ("transformer.decoder.layers.{i}.ca_text.{rest}", "decoder.layers.{i}.cross_attn_text.attn.{rest}"),
    ("transformer.decoder.layers.{i}.cross_attn.{rest}", "decoder.layers.{i}.cross_attn.{rest}"),
    ("transformer.decoder.layers.{i}.linear1.{p}", "decoder.layers.{i}.ffn.layers.0.0.{p}"),
    ("transformer.decoder.layers.{i}.linear2.{p}", "decoder.layers.{i}.ffn.layers.1.{p}"),
    # the original's norms are not numbered in the order in which they are applied: self, text, image, ffn
    ("transformer.decoder.layers.{i}.norm2.{p}", "decoder.layers.{i}.norms.0.{p}"),
    ("transformer.decoder.layers.{i}.catext_norm.{p}", "decoder.layers.{i}.norms.1.{p}"),
    ("transformer.decoder.layers.{i}.norm1.{p}", "decoder.layers.{i}.norms.2.{p}"),
    ("transformer.decoder.layers.{i}.norm3.{p}", "decoder.layers.{i}.norms.3.{p}"),
    ("transformer.decoder.ref_point_head.{rest}", "decoder.ref_point_head.{rest}"),
    ("transformer.decoder.norm.{p}", "decoder.norm.{p}"),
)
# the original holds the decoder's box heads under two names
TWIN = ("transformer.decoder.bbox_embed.", "bbox_embed.")
# tables of the training task, which no detection needs: the original's, MMDetection's
TRAINING_ONLY = ("label_enc.weight", "dn_query_generator.label_embedding.weight")
SCALE = r"bbox_head\.cls_branches\.\d+\.log_scale"
BIAS = r"bbox_head\.cls_branches\.\d+\.bias"
# the four pixels of a patch merging, which the original takes column by column and MMDetection row by row
ORDER = [0, 2, 1, 3]


def to_original(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a state dict of MMDetection's Grounding DINO (`configs/grounding_dino`) to the original names.

    MMDetection trains a box head for every decoder layer, which the original shares by default: the model to
    be filled needs `dec_pred_bbox_embed_share = False`. It also trains a factor on the scores, which the
    original has no place for: it is worked into the decoder's last norm and box head, exactly.

    Raises:
        InputError: a name is not one of this model's, such as the bias of `configs/mm_grounding_dino`.
    """
    if biased := [name for name in state if re.fullmatch(BIAS, name)]:
        raise InputError(
            f"{biased[0]}: these weights are an MM Grounding DINO (configs/mm_grounding_dino), whose scores "
            "have a bias that Grounding DINO has no place for; fine-tune from configs/grounding_dino instead"
        )
    last = _count_decoder_layers(state) - 1
    rules = _compile([(theirs, original) for original, theirs in NAMES], last + 1)
    renamed = {}
    for name, tensor in state.items():
        if name in TRAINING_ONLY or re.fullmatch(SCALE, name):
            continue
        original = _rename(name, rules, "MMDetection's Grounding DINO")
        renamed[original] = _by_columns(tensor) if ".downsample." in original else tensor
    if (scale := state.get(f"bbox_head.cls_branches.{last}.log_scale")) is not None:
        _scale_scores(renamed, last, scale.exp())
    twins = {name.replace(*TWIN): t for name, t in renamed.items() if name.startswith(TWIN[0])}
    return renamed | twins


def from_original(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a state dict in the original names to MMDetection's, the inverse of `to_original`.

    Raises:
        InputError: a name is not one of Grounding DINO's, or two names of one tensor hold different values.
    """
    rules = _compile(NAMES, _count_decoder_layers(state))
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name in TRAINING_ONLY:
            continue
        full = TWIN[0] + name.removeprefix(TWIN[1]) if name.startswith(TWIN[1]) else name
        theirs = _rename(full, rules, "Grounding DINO")
        if theirs in renamed and not torch.equal(renamed[theirs], tensor):
            raise InputError(f"{TWIN[1]}* and {TWIN[0]}* are one tensor, but {name} holds other values")
        renamed[theirs] = _by_rows(tensor) if ".downsample." in theirs else tensor
    return renamed


def _count_decoder_layers(names: Iterable[str]) -> int:
    found = (re.match(r"(?:transformer\.)?decoder\.layers\.(\d+)\.", name) for name in names)
    return 1 + max((int(match[1]) for match in found if match), default=5)


def _compile(pairs: Iterable[tuple[str, str]], layers: int) -> list[tuple[re.Pattern, str]]:
    """Turn pairs of templates into pairs of a pattern and a template to be filled with what it finds."""
    rules = []
    for pair in pairs:
        source, target = (template.replace("{L}", str(layers)) for template in pair)
        pattern = re.sub(r"\\\{(p|rest)\\\}", r"(?P<\1>.+)", re.escape(source))
        rules.append((re.compile(re.sub(r"\\\{(\w)\\\}", r"(?P<\1>\\d+)", pattern)), target))
    return rules


def _rename(name: str, rules: list[tuple[re.Pattern, str]], model: str) -> str:
    for pattern, target in rules:
        if match := pattern.fullmatch(name):
            return target.format_map(match.groupdict())
    raise InputError(
        f"{name} is no tensor of {model}; wanted a Grounding DINO on a Swin Transformer, such as MMDetection "
        "makes by configs/grounding_dino"
    )


def _by_rows(tensor: Tensor) -> Tensor:
    """Reorder channels from (pixel, channel), pixels column by column, to (channel, pixel), row by row."""
    return tensor.unflatten(-1, (4, -1))[..., ORDER, :].transpose(-1, -2).flatten(-2)


def _by_columns(tensor: Tensor) -> Tensor:
    """Undo `_by_rows`."""
    return tensor.unflatten(-1, (-1, 4)).transpose(-1, -2)[..., ORDER, :].flatten(-2)


def _scale_scores(state: dict[str, Tensor], last: int, factor: Tensor) -> None:
    """Multiply the last layer's scores, which are products of the last norm's output with the text, and leave
    its boxes, which a head makes from the same output. The norm also follows the other layers, but only the
    last one's answer is used; a factor on the encoder's proposals does not change their order.
    """
    head = f"transformer.decoder.bbox_embed.{last}.layers.0.weight"
    norm = ("transformer.decoder.norm.weight", "transformer.decoder.norm.bias")
    state |= {name: state[name] * factor for name in norm if name in state}
    state |= {name: state[name] / factor for name in (head,) if name in state}
