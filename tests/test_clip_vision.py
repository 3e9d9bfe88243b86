"""The image tower against open_clip's own, and its taps against the published program's arithmetic."""

import json
import math

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from filo.clip.attention import attend, project_qkv
from filo.clip.load import load_clip
from filo.clip.vision import check_taps
from filo.errors import InputError

VISION = {"image_size": 28, "layers": 4, "width": 32, "head_width": 8, "patch_size": 7}
TEXT = {"context_length": 8, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1}
VARIANTS = {
    "plain": {},
    "mlp of another width": {"mlp_ratio": 2.5},
    "layer scale": {"ls_init_value": 0.1},
    "no first norm": {"no_ln_pre": True},
    "mean of the patches": {"pool_type": "avg"},
    "mean, then norm": {"pool_type": "avg", "final_ln_after_pool": True},
    "attention pool": {"attentional_pool": True, "attn_pooler_queries": 3, "attn_pooler_heads": 2},
    "sine positions": {"pos_embed_type": "sin_cos_2d"},
    "patch dropout in training": {"patch_dropout": 0.5},
    "another norm epsilon": {"norm_kwargs": {"eps": 1e-3}},
    "tokens beside the feature": {"output_tokens": True},
}
TAPS = [(1, 2, 4), (2, 3, 4), (1, 3), (2, 4), (1, 2, 3, 4), (1,), (3,), (4,), (3, 4), (2, 3)]


def pair(folder, activation="gelu", **changes):
    """open_clip's model with all weights drawn, and ours loaded from a file of them."""
    config = {"embed_dim": 24, "vision_cfg": {**VISION, **changes}, "text_cfg": TEXT}
    theirs = open_clip.CLIP(**config, quick_gelu=activation == "quick_gelu").eval().requires_grad_(False)
    for parameter in theirs.parameters():  # biases and norms too, which start as zeros and ones
        parameter += 0.2 * torch.randn_like(parameter)
    (folder / "clip.json").write_text(json.dumps(config))
    save_file(theirs.state_dict(), folder / "clip.safetensors")
    ours = load_clip(str(folder / "clip.json"), str(folder / "clip.safetensors"), 28, activation)
    return theirs, ours


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    torch.manual_seed(3)
    return pair(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def scaled(tmp_path_factory):
    torch.manual_seed(4)
    return pair(tmp_path_factory.mktemp("scaled"), ls_init_value=0.5)


@pytest.fixture
def images():
    return torch.randn(3, 3, 28, 28)


def close(found, wanted):
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "name, activation", [("plain", "quick_gelu"), *((name, "gelu") for name in VARIANTS)]
)
def test_the_image_feature_is_that_of_open_clip(name, activation, images, tmp_path):
    theirs, ours = pair(tmp_path, activation, **VARIANTS[name])
    wanted = theirs.encode_image(images)
    wanted = wanted[0] if isinstance(wanted, tuple) else wanted
    assert ours.embed_dim == wanted.shape[1] == 24
    close(ours.vision(images, (2, 4)).image, wanted)
    close(ours.vision(images, (2, 4), aliased=True).image, wanted)


def test_ordinary_taps_are_the_intermediate_layers_of_open_clip(plain, images):
    theirs, ours = plain
    wanted = theirs.visual.forward_intermediates(
        images, indices=[0, 2, 3], output_fmt="NLC", output_extra_tokens=True
    )
    found = ours.vision(images, (1, 3, 4)).ordinary
    for tokens, patches, token in zip(
        found, wanted["image_intermediates"], wanted["image_intermediates_prefix"], strict=True
    ):
        close(tokens, torch.cat([token, patches], 1))


def slow_embedding(visual, images):
    """One patch at a time: a dot product with every filter, the class token in front."""
    size, filters = visual.patch_size[0], visual.conv1.weight.flatten(1)
    rows = []
    for image in images:
        patches = [
            filters @ image[:, y : y + size, x : x + size].flatten()
            for y in range(0, image.shape[1], size)
            for x in range(0, image.shape[2], size)
        ]
        rows.append(torch.stack([visual.class_embedding, *patches]) + visual.positional_embedding)
    return visual.ln_pre(torch.stack(rows))


def slow_attention(block, x, values_only=False):
    """Attention written out, head by head; with `values_only` the V-V form."""
    weight, bias, d = block.attn.in_proj_weight, block.attn.in_proj_bias, block.attn.head_dim
    q, k, v = (block.ln_1(x) @ weight.T + bias).chunk(3, -1)
    heads = []
    for start in range(0, x.shape[-1], d):
        head_q, head_k, head_v = (t[..., start : start + d] for t in (q, k, v))
        if values_only:
            head_q = head_k = head_v
        scores = (head_q @ head_k.transpose(1, 2) / math.sqrt(d)).exp()
        heads.append(scores / scores.sum(-1, keepdim=True) @ head_v)
    return block.ls_1(torch.cat(heads, -1) @ block.attn.out_proj.weight.T + block.attn.out_proj.bias)


def slow_mlp(block, x):
    return block.ls_2(block.mlp(block.ln_2(x)))


def slow_taps(visual, images, taps):
    """The paper's reading: every tap is the stream as it stood after its layer."""
    x, vv, ordinary, vv_taps = slow_embedding(visual, images), None, [], []
    for depth, block in enumerate(visual.transformer.resblocks, start=1):
        if depth == taps[0] + 1:
            vv = x
        if vv is not None:
            vv = vv + slow_attention(block, x, values_only=True)
        x = x + slow_attention(block, x)
        x = x + slow_mlp(block, x)
        if depth in taps:
            ordinary.append(x)
            vv_taps += [vv] if depth != taps[0] else []
    return ordinary, vv_taps


def published_taps(visual, images, taps):
    """The published program's order of operations: `+=` works on tensors that lie in the lists already."""
    x, ordinary, vv_taps = slow_embedding(visual, images), [], []
    for depth, block in enumerate(visual.transformer.resblocks, start=1):
        if isinstance(x, list):
            vv, stream = x
            vv_attention, attention = (
                slow_attention(block, stream, values_only=True),
                slow_attention(block, stream),
            )
            stream += attention
            stream = stream + slow_mlp(block, stream)
            vv += vv_attention
            x = [vv, stream]
        elif depth > taps[0]:  # the first block of two paths
            vv_attention, attention = slow_attention(block, x, values_only=True), slow_attention(block, x)
            stream = x + attention
            stream = stream + slow_mlp(block, stream)
            x += vv_attention
            x = [x, stream]
        else:
            x = x + slow_attention(block, x)
            x = x + slow_mlp(block, x)
        if depth in taps:
            if isinstance(x, list):
                vv_taps.append(x[0])
                ordinary.append(x[1])
            else:
                ordinary.append(x)
    return ordinary, vv_taps


@pytest.mark.parametrize("taps", TAPS, ids=str)
@pytest.mark.parametrize("kind", ["plain", "scaled"])
@pytest.mark.parametrize("aliased, reference", [(False, slow_taps), (True, published_taps)])
def test_the_taps_are_those_of_the_slow_reference(aliased, reference, kind, taps, images, request):
    theirs, ours = request.getfixturevalue(kind)
    features = ours.vision(images, taps, aliased)
    ordinary, vv = reference(theirs.visual, images, taps)
    assert len(features.ordinary) == len(ordinary) == len(taps)
    assert len(features.vv) == len(vv) == len(taps) - 1
    for found, wanted in zip((*features.ordinary, *features.vv), (*ordinary, *vv), strict=True):
        assert found.shape == (3, 17, 32)
        close(found, wanted)


def test_aliased_taps_are_as_few_as_in_the_published_program(plain, images):
    """Taps 1, 2, 4: the first ordinary tap and both V-V taps are one tensor; only the last tap is plain."""
    aliased, plainly = (plain[1].vision(images, (1, 2, 4), flag) for flag in (True, False))
    last_vv = plainly.vv[-1]
    assert all(torch.equal(t, last_vv) for t in (aliased.ordinary[0], *aliased.vv))
    assert torch.equal(aliased.ordinary[2], plainly.ordinary[2])
    assert not torch.equal(aliased.ordinary[1], plainly.ordinary[1])


def test_aliasing_reaches_a_vv_tap_that_is_not_the_last_layer(plain, images):
    """Taps 1, 3 of four layers: the V-V stream runs on to layer 4 and takes the stored tensors along."""
    aliased, plainly = (plain[1].vision(images, (1, 3), flag) for flag in (True, False))
    full = plain[1].vision(images, (1, 4)).vv[0]
    assert torch.equal(aliased.ordinary[0], full) and torch.equal(aliased.vv[0], full)
    assert not torch.equal(plainly.vv[0], full)


def test_equal_tokens_attend_to_their_own_value(plain):
    """Any softmax weighting of equal values gives the value itself back, V-V or not."""
    block = plain[1].vision.blocks[1]
    x = torch.randn(1, 1, 32).expand(1, 5, 32)
    value = block.ln_1(x) @ block.attn.in_proj_weight[64:].T + block.attn.in_proj_bias[64:]
    wanted = value @ block.attn.out_proj.weight.T + block.attn.out_proj.bias
    q, k, v = project_qkv(block, x)
    close(attend(block, q, k, v), wanted)
    close(attend(block, v, v, v), wanted)


@pytest.mark.parametrize("aliased", [False, True])
def test_a_batch_equals_its_images_one_by_one(aliased, plain, images):
    whole = plain[1].vision(images, (1, 2, 4), aliased)
    for i in range(3):
        one = plain[1].vision(images[i : i + 1], (1, 2, 4), aliased)
        close(one.image[0], whole.image[i])
        for found, wanted in zip((*one.ordinary, *one.vv), (*whole.ordinary, *whole.vv), strict=True):
            close(found[0], wanted[i])


def test_shuffled_patches_move_with_their_positions(plain, images):
    """Attention does not know an order: tokens and positions shuffled together are only shuffled."""
    tower = plain[1].vision
    table = tower.visual.positional_embedding
    before, order = tower(images, (1, 4)), torch.randperm(16)
    cut = images.unfold(2, 7, 7).unfold(3, 7, 7).reshape(3, 3, 16, 7, 7)[:, :, order]
    shuffled = cut.view(3, 3, 4, 4, 7, 7).permute(0, 1, 2, 4, 3, 5).reshape(3, 3, 28, 28)
    kept = table.clone()
    try:
        table[1:] = kept[1:][order]
        after = tower(shuffled, (1, 4))
    finally:
        table.copy_(kept)
    close(after.image, before.image)
    close(after.vv[0][:, 1:], before.vv[0][:, 1:][:, order])


def test_the_images_are_not_changed(plain, images):
    kept = images.clone()
    plain[1].vision(images, (1, 2, 4), aliased=True)
    assert torch.equal(images, kept)


@pytest.mark.parametrize(
    "shape", [(1, 3, 28, 35), (1, 3, 14, 14), (1, 3, 56, 56), (1, 1, 28, 28), (3, 28, 28)]
)
def test_another_image_shape_is_refused(shape, plain):
    with pytest.raises(InputError, match=r"built for \(B, 3, 28, 28\)") as caught:
        plain[1].vision(torch.zeros(shape), (1, 4))
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize("taps", [(0, 1), (-1,), (1, 5), (5,), (2, 1), (2, 2), (1, 3, 3)])
def test_taps_that_do_not_rise_within_the_layers_are_refused(taps, plain, images):
    for check in (lambda: check_taps(taps, 4), lambda: plain[1].vision(images, taps)):
        with pytest.raises(InputError, match="between 1 and 4"):
            check()


def test_every_rising_choice_of_layers_is_accepted():
    for taps in TAPS:
        check_taps(taps, 4)
        check_taps(list(taps), 4)


def test_without_taps_there_is_the_global_feature_alone(plain, images):
    tower = plain[1].vision
    for aliased in (False, True):
        alone = tower(images, (), aliased)
        assert alone.ordinary == alone.vv == ()
        torch.testing.assert_close(alone.image, tower(images, (1, 4), aliased).image)


@pytest.mark.parametrize("start", [0, 1, 2, 3])
def test_the_second_stream_starts_after_the_block_that_is_asked_for(plain, images, start):
    theirs, ours = plain
    found = ours.vision(images, (1, 3, 4), vv_after=start)
    x, vv, wanted = slow_embedding(theirs.visual, images), None, {}
    for depth, block in enumerate(theirs.visual.transformer.resblocks, start=1):
        vv = x if depth == start + 1 else vv
        if vv is not None:
            vv = vv + slow_attention(block, x, values_only=True)
            wanted[depth] = vv
        x = x + slow_attention(block, x)
        x = x + slow_mlp(block, x)
    assert len(found.vv) == sum(tap > start for tap in (1, 3, 4))
    for tokens, tap in zip(found.vv, [tap for tap in (1, 3, 4) if tap > start], strict=True):
        close(tokens, wanted[tap])
    plainly = ours.vision(images, (1, 3, 4))
    assert torch.equal(found.image, plainly.image) and torch.equal(found.ordinary[2], plainly.ordinary[2])


def test_a_class_token_without_the_last_norm_is_projected_as_it_is(plain, images):
    theirs, ours = plain
    last = ours.vision(images, (4,)).ordinary[0]
    close(ours.vision(images, (), norm_image=False).image, last[:, 0] @ theirs.visual.proj)
    close(ours.vision.project(last)[:, 0], ours.vision(images, ()).image)
