"""Texts encoded over the tree of their prefixes equal texts encoded one by one."""

import json

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from filo.clip.load import load_clip
from filo.clip.text import PLACEHOLDER, group_by_size, grow_tree, stack_trees
from filo.errors import InputError

VISION = {"image_size": 14, "layers": 1, "width": 8, "head_width": 8, "patch_size": 14}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 24, "heads": 3, "layers": 3}
EOS = {"custom_text": True, "text_cfg": {"pool_type": "eos", "eos_id": 49407}}
VARIANTS = {
    "flat": {},
    "separate tower": {"custom_text": True},
    "pooled at the end token's number": EOS,
    "projection with bias": {"custom_text": True, "text_cfg": {"proj_bias": True}},
    "no projection": {"embed_dim": 24, "custom_text": True, "text_cfg": {"proj_type": "none"}},
    "layer scale": {"text_cfg": {"ls_init_value": 0.3}},
    "short context": {"text_cfg": {"context_length": 12}},
    "another mlp and norm": {"text_cfg": {"mlp_ratio": 2.0, "norm_kwargs": {"eps": 1e-3}}},
}
TEXTS = [
    "damaged cable at top left.",
    "damaged cable at top.",
    "flawless cable",
    "damaged cable at top left.",  # the same again
    "damaged",  # a prefix of others
    "damaged cable",
    "",
    "ünïcode &amp; 3 cuts_and (bent) wires",
]


def pair(folder, **changes):
    """open_clip's model with all weights drawn, and ours loaded from a file of them."""
    text = {**TEXT, **changes.pop("text_cfg", {})}
    config = {"embed_dim": 10, "vision_cfg": VISION, "text_cfg": text, **changes}
    (folder / "clip.json").write_text(json.dumps(config))
    build = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
    theirs = build(**config, quick_gelu=False).eval().requires_grad_(False)
    for parameter in theirs.parameters():
        parameter += 0.2 * torch.randn_like(parameter)
    save_file(theirs.state_dict(), folder / "clip.safetensors")
    return theirs, load_clip(str(folder / "clip.json"), str(folder / "clip.safetensors"), 14)


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    torch.manual_seed(5)
    return pair(tmp_path_factory.mktemp("flat"))


def close(found, wanted):
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=1e-5)


def one_by_one(theirs, texts, context_length=77):
    tokens = open_clip.SimpleTokenizer()(texts, context_length=context_length)
    return torch.cat([theirs.encode_text(row[None]) for row in tokens])


def random_texts(count, seed):
    """Texts of up to nine words from a small stock, so that many begin alike."""
    words = ["a", "cut", "on", "the", "edge", "of", "scratched", "screw"]
    g = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 10, (count,), generator=g).tolist()
    return [" ".join(words[i] for i in torch.randint(8, (n,), generator=g)) for n in lengths]


@pytest.mark.parametrize("name", VARIANTS)
def test_features_equal_those_of_open_clip_one_text_at_a_time(name, tmp_path):
    theirs, ours = pair(tmp_path, **VARIANTS[name])
    texts = TEXTS if name != "short context" else TEXTS[:-1]
    found = ours.text(ours.text.grow(texts))
    wanted = one_by_one(theirs, texts, ours.text.context_length)
    assert found.shape == (1, len(texts), ours.embed_dim)
    close(found[0], wanted)


def test_many_random_texts_equal_one_at_a_time(flat):
    texts = random_texts(100, seed=1)
    close(flat[1].text(flat[1].text.grow(texts))[0], one_by_one(flat[0], texts))


@pytest.mark.parametrize("text", TEXTS)
def test_a_single_text_is_encoded(text, flat):
    close(flat[1].text(flat[1].text.grow([text]))[0], one_by_one(flat[0], [text]))


def test_identical_texts_share_every_node_and_have_one_feature(flat):
    tower = flat[1].text
    once, thrice = tower.grow(["a bent pin"]), tower.grow(["a bent pin"] * 3)
    assert torch.equal(once.tokens, thrice.tokens) and thrice.leaves.tolist() == once.leaves.tolist() * 3
    found = tower(thrice)[0]
    close(found, found[:1].expand(3, -1))


@pytest.mark.parametrize("n_ctx", [0, 3])
def test_shuffled_texts_give_shuffled_features(n_ctx, flat):
    tower, texts = flat[1].text, TEXTS + random_texts(20, seed=2)
    ctx = torch.randn(2, n_ctx, 24) if n_ctx else None
    order = torch.randperm(len(texts)).tolist()
    straight = tower(tower.grow(texts, n_ctx), ctx)
    shuffled = tower(tower.grow([texts[i] for i in order], n_ctx), ctx)
    close(shuffled, straight[:, order])


def slow_with_ctx(theirs, tower, texts, ctx):
    """Every image and text as a full sequence of its own, `ctx` written over the placeholders."""
    rows = []
    for vectors in ctx:
        for ids in tower.tokenize(texts, ctx.shape[1]):
            x = theirs.token_embedding(ids[None])
            x = torch.cat([x[:, :1], vectors[None], x[:, 1 + len(vectors) :]], 1)
            x = theirs.transformer(x + theirs.positional_embedding, attn_mask=theirs.attn_mask)
            rows.append(theirs.ln_final(x)[0, ids.tolist().index(49407)] @ theirs.text_projection)
    return torch.stack(rows).view(len(ctx), len(texts), -1)


@pytest.mark.parametrize("n_ctx", [1, 4, 12])
def test_learned_context_equals_full_sequences(n_ctx, flat):
    theirs, ours = flat
    ctx = torch.randn(3, n_ctx, 24)  # every image has its own
    found = ours.text(ours.text.grow(TEXTS, n_ctx), ctx)
    assert found.shape == (3, len(TEXTS), 10)
    close(found, slow_with_ctx(theirs, ours.text, TEXTS, ctx))


def test_a_batch_of_contexts_equals_its_contexts_one_by_one(flat):
    tower, ctx = flat[1].text, torch.randn(4, 5, 24)
    tree = tower.grow(TEXTS, 5)
    close(tower(tree, ctx), torch.cat([tower(tree, ctx[i : i + 1]) for i in range(4)]))


def test_placeholder_embeddings_as_context_change_nothing(flat):
    tower = flat[1].text
    tree = tower.grow(TEXTS, 4)
    ctx = tower.token_embedding(tower.tokenize(TEXTS[:1], 4)[:, 1:5])
    close(tower(tree, ctx), tower(tree))


def test_gradients_of_the_context_equal_those_of_full_sequences(flat):
    theirs, ours = flat
    weight, grads = torch.randn(2, len(TEXTS), 10), []
    start = torch.randn(2, 4, 24)
    for encode in (
        lambda ctx: ours.text(ours.text.grow(TEXTS, 4), ctx),
        lambda ctx: slow_with_ctx(theirs, ours.text, TEXTS, ctx),
    ):
        ctx = start.clone().requires_grad_()
        (encode(ctx) * weight).sum().backward()
        grads.append(ctx.grad)
    assert grads[1].abs().min() > 0
    torch.testing.assert_close(*grads, atol=1e-4, rtol=1e-4)
    assert all(p.grad is None for p in ours.parameters())


def test_a_tree_worked_out_by_hand():
    """1 2 3 9, 1 2 4 9, the first again, and its beginning 1 2 3:

    node  0  1  2  3  4  5
    token 1  2  3  9  4  9      0 - 1 - 2 - 3
                                     \\ 4 - 5
    """
    tree = grow_tree([[1, 2, 3, 9], [1, 2, 4, 9], [1, 2, 3, 9], [1, 2, 3]])
    assert tree.tokens.tolist() == [1, 2, 3, 9, 4, 9]
    assert tree.depths.tolist() == [0, 1, 2, 3, 2, 3]
    assert tree.leaves.tolist() == [3, 5, 3, 2]
    assert tree.reach.int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 0, 0, 1, 0],
        [1, 1, 0, 0, 1, 1],
    ]


def test_texts_without_a_common_beginning_are_a_forest():
    tree = grow_tree([[5, 6], [6, 5]])
    assert tree.tokens.tolist() == [5, 6, 6, 5] and tree.depths.tolist() == [0, 1, 0, 1]
    assert tree.reach.int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]


def test_one_text_is_a_chain():
    tree = grow_tree([[7, 7, 7, 7]])
    assert torch.equal(tree.reach, torch.ones(4, 4).tril().bool())
    assert tree.depths.tolist() == [0, 1, 2, 3] and tree.leaves.tolist() == [3]


def test_a_tree_has_one_node_for_each_different_prefix_and_gives_every_text_back():
    g = torch.Generator().manual_seed(9)
    texts = [torch.randint(3, (n,), generator=g).tolist() for n in torch.randint(1, 8, (60,), generator=g)]
    tree = grow_tree(texts)
    prefixes = {tuple(text[:n]) for text in texts for n in range(1, len(text) + 1)}
    assert len(tree.tokens) == len(prefixes)
    assert torch.equal(tree.reach.sum(1), tree.depths + 1)
    assert not tree.reach.triu(1).any()  # parents stand before their children
    for text, leaf in zip(texts, tree.leaves, strict=True):
        assert tree.tokens[tree.reach[leaf]].tolist() == text


def test_prompts_that_begin_alike_take_fewer_nodes_than_tokens(flat):
    texts = [f"abnormal cable with a bent wire at {place}." for place in ("top", "bottom", "left", "right")]
    tree = flat[1].text.grow(texts, 12)
    # start, 12 placeholders and 7 words in common; then a place, a full stop and the end for each text
    assert len(tree.tokens) == 1 + 12 + 7 + 4 * 3
    assert (flat[1].text.tokenize(texts, 12) > 0).sum() == 4 * (1 + 12 + 7 + 3)


@pytest.mark.parametrize("text", [*TEXTS, "'s edge", "x", "12 cuts", ". . .", "-x"])
def test_a_placeholder_is_one_token_whatever_follows(text, flat):
    plain, prompted = flat[1].text.tokenize([text])[0], flat[1].text.tokenize([text], 5)[0]
    mark = open_clip.SimpleTokenizer().encode(PLACEHOLDER)
    assert len(mark) == 1
    assert prompted.tolist() == [plain[0].item(), *mark * 5, *plain[1:72].tolist()]


@pytest.mark.parametrize("n_ctx", [0, 12])
def test_a_text_of_exactly_the_context_fits_and_one_word_more_does_not(n_ctx, flat):
    theirs, ours = flat
    fits = " ".join(["dog"] * (75 - n_ctx))
    ids = ours.text.tokenize(["cat", fits], n_ctx)
    assert ids.shape == (2, 77) and ids[1, 76] == 49407 and ids[1].min() > 0
    if not n_ctx:
        close(ours.text(ours.text.grow(["cat", fits]))[0], one_by_one(theirs, ["cat", fits]))
    with pytest.raises(InputError) as caught:
        ours.text.grow(["cat", f"{fits} dog", "dog"], n_ctx)
    message = str(caught.value)
    assert repr(f"{fits} dog") in message and "77" in message and len(message.splitlines()) == 1


def test_a_text_far_too_long_is_refused(flat):
    with pytest.raises(InputError, match="more than the 77 tokens"):
        flat[1].text.tokenize(["a " * 500])


# ---- several trees, and several sides, in one call


def test_trees_of_several_images_go_in_one_call(flat):
    tower, n_ctx = flat[1].text, 3
    trees = [tower.grow(texts, n_ctx) for texts in (TEXTS, ["a cut"], random_texts(6, 1))]
    ctx = torch.randn(3, n_ctx, tower.width)
    together = tower(stack_trees(trees), ctx)
    assert together.shape == (3, len(TEXTS), 10)
    for i, tree in enumerate(trees):
        close(together[i, : len(tree.leaves)], tower(tree, ctx[i : i + 1])[0])


def test_stacked_trees_say_which_of_their_leaves_are_filled_up():
    stacked = stack_trees([grow_tree([[1, 2], [1, 3]], sides=[0, 1]), grow_tree([[1, 2, 3]])])
    assert stacked.leaf_sides.tolist() == [[0, 1], [0, -1]]
    assert len(stacked) == 4  # the two sides share nothing
    assert stacked.reach[1].tolist() == [
        [True, False, False, False],
        [True, True, False, False],
        [True, True, True, False],
        [False, False, False, True],
    ]


def test_each_side_has_learned_vectors_of_its_own(flat):
    tower, n_ctx = flat[1].text, 2
    texts, sides = ["a cut", "a cut", "a bent wire"], [0, 1, 1]
    ctx = torch.randn(2, 2, n_ctx, tower.width)
    found = tower(tower.grow(texts, n_ctx, sides), ctx)
    for i, (text, side) in enumerate(zip(texts, sides, strict=True)):
        close(found[:, i], tower(tower.grow([text], n_ctx), ctx[:, side])[:, 0])
    assert not torch.allclose(found[:, 0], found[:, 1])


def test_gradients_reach_the_vectors_of_their_own_image_and_side_alone(flat):
    tower = flat[1].text
    trees = [tower.grow(["a cut", "a bent wire"], 2, [0, 1]), tower.grow(["rust"], 2)]
    ctx = torch.randn(2, 2, 2, tower.width, requires_grad=True)
    features = tower(stack_trees(trees), ctx)
    grads = [
        torch.autograd.grad(features[b, k].sum(), ctx, retain_graph=True)[0] for b, k in ((0, 1), (1, 0))
    ]
    touched = [grad.abs().sum((-2, -1)).nonzero().tolist() for grad in grads]
    assert touched == [[[0, 1]], [[1, 0]]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_another_number_format_is_close_and_lets_gradients_through(dtype, tiny_config):
    tower = load_clip(str(tiny_config), "drawn:3", 56).text
    tree, ctx = tower.grow(TEXTS, 2), torch.randn(1, 2, tower.width, requires_grad=True)
    found = []
    for each in (torch.float32, dtype):
        tower.set_dtype(each)
        features = tower(tree, ctx)
        assert features.dtype == torch.float32
        found.append((features, *torch.autograd.grad(features.square().sum(), ctx)))
    for one, other in zip(*found, strict=True):
        assert 0 < (one - other).abs().max() < 0.05 * one.abs().max()


def test_trees_are_stacked_with_those_of_about_their_size():
    assert group_by_size([100, 80, 20, 99, 19]) == [[0, 3, 1], [2, 4]]
    assert group_by_size([5]) == [[0]]
    assert sorted(i for group in group_by_size([3, 1, 4, 1, 5, 9, 2, 6]) for i in group) == list(range(8))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_deep_tokens_equal_states_put_over_full_sequences(count, flat):
    theirs, ours = flat
    deep = [torch.randn(count, 24) for _ in range(5)]  # for the last three of them there is no block
    texts = ["X X X damaged cable at top.", "X X X flawless", "X X X damaged"]
    x = theirs.token_embedding(open_clip.tokenize(texts)) + theirs.positional_embedding
    for number, block in enumerate(theirs.transformer.resblocks):
        if number:
            x[:, 1 : 1 + count] = deep[number - 1]
        x = block(x, attn_mask=theirs.attn_mask)
    ends = open_clip.tokenize(texts).argmax(1)
    wanted = theirs.ln_final(x)[torch.arange(3), ends] @ theirs.text_projection
    close(ours.text(ours.text.grow(texts), deep=deep)[0], wanted)
    trees = stack_trees([ours.text.grow(texts), ours.text.grow(texts[1:])])
    close(ours.text(trees, deep=deep)[0], wanted)
