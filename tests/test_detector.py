"""A small Grounding DINO: captions, batches, weights in every form, and what is refused."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from filo.errors import InputError
from filo.grounding.boxes import Detection, join_tokens
from filo.grounding.config import default_config, read_config
from filo.grounding.detector import GroundingDino, split_phrases, target_size, to_caption
from filo.grounding.load import load_detector
from tests.detectors import draw, write_config, write_vocabulary
from tests.trees import complaint

PHRASES = ("anomaly", "Bent pin", "scratched surface")
SIDE = 64


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Config, vocabulary folder and weights of one small detector, in the published form."""
    folder = tmp_path_factory.mktemp("detector")
    config, bert = write_config(folder / "small.py"), write_vocabulary(folder / "bert")
    weights = draw(bare_state(load_detector("drawn:0", config, bert, SIDE)))
    torch.save(weights, folder / "weights.pth")
    return config, bert, folder / "weights.pth"


def bare_state(detector):
    """The state dict under the names of the original model."""
    return {name.replace("bert.bert.", "bert."): t for name, t in detector.model.state_dict().items()}


@pytest.fixture(scope="module")
def detector(files):
    config, bert, weights = files
    return load_detector(str(weights), config, bert, SIDE)


@pytest.fixture(scope="module")
def weights(files):
    return torch.load(files[2], weights_only=True)


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (80, 70, 3), dtype=np.uint8)) for _ in range(3)]


def assert_same(one: Detection, other: Detection, atol=2e-6):
    assert one.tokens == other.tokens
    np.testing.assert_allclose(one.boxes, other.boxes, atol=atol)
    np.testing.assert_allclose(one.probabilities, other.probabilities, atol=atol)


# ---- captions


def test_a_caption_is_lower_case_with_phrases_apart_and_a_full_stop():
    assert to_caption(["anomaly", "Bent pin", "uneven shape "]) == "anomaly . bent pin . uneven shape."
    assert to_caption([" bent pin."]) == "bent pin."


def count_words(phrases):
    return len(to_caption(phrases).split())


def test_phrases_are_split_only_where_they_must_be():
    phrases = ["one two", "three", "four five six", "seven"]
    assert split_phrases(phrases, count_words, limit=99) == [tuple(phrases)]
    assert split_phrases(phrases, count_words, limit=5) == [("one two", "three"), ("four five six", "seven")]
    assert split_phrases(phrases, count_words, limit=3) == [
        ("one two",),
        ("three",),
        ("four five six",),
        ("seven",),
    ]


def test_a_phrase_that_is_too_long_by_itself_is_refused():
    message = complaint(lambda: split_phrases(["one", "two three four"], count_words, limit=2))
    assert "'two three four'" in message and "shorten" in message


def test_every_token_of_the_caption_has_a_column(detector, pictures):
    answer = detector.detect(pictures[:1], PHRASES)[0]
    assert answer.boxes.shape == (20, 4)
    assert answer.probabilities.shape == (20, len(answer.tokens))
    assert answer.tokens[0] == "[CLS]" and answer.tokens[-1] == "[SEP]"
    assert join_tokens(answer.tokens[1:-1]) == "anomaly. bent pin. scratched surface."
    assert (answer.boxes > 0).all() and (answer.boxes < 1).all()


def test_phrases_beyond_the_limit_go_through_in_captions_of_their_own(detector, pictures):
    phrases = [f"{'bent pin ' * 20}{number}" for number in range(10)]
    parts = split_phrases(phrases, detector._count_tokens)
    assert len(parts) == 2
    whole = detector.detect(pictures, phrases)
    first, second = (detector.detect(pictures, part) for part in parts)
    for i, answer in enumerate(whole):
        assert answer.tokens == first[i].tokens + second[i].tokens
        columns = len(first[i].tokens)
        assert_same(
            Detection(answer.boxes[:20], answer.probabilities[:20, :columns], first[i].tokens), first[i]
        )
        assert_same(
            Detection(answer.boxes[20:], answer.probabilities[20:, columns:], second[i].tokens), second[i]
        )
        assert (answer.probabilities[:20, columns:] == 0).all() and (
            answer.probabilities[20:, :columns] == 0
        ).all()


def test_a_caption_is_encoded_once(detector, pictures):
    calls = []
    handle = detector.model.bert.bert.register_forward_hook(lambda *_: calls.append(1))
    detector.detect(pictures, ["crack"])
    detector.detect(pictures, ["crack"])
    detector.detect(pictures, ["dent"])
    handle.remove()
    assert len(calls) == 2


# ---- images


def test_a_batch_gives_what_its_images_give_one_by_one(detector, pictures):
    together = detector.detect(pictures, PHRASES)
    for picture, answer in zip(pictures, together, strict=True):
        assert_same(answer, detector.detect([picture], PHRASES)[0])
    assert np.abs(together[0].probabilities - together[1].probabilities).max() > 1e-3


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_answer_is_the_packages_own(detector, pictures):
    """Preprocessing and forward pass as groundingdino-py does them."""
    from groundingdino.datasets import transforms as T

    prepare = T.Compose(
        [
            T.RandomResize([SIDE], max_size=1333),
            T.ToTensor(),
            T.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    pixels, _ = prepare(pictures[0], None)
    wrapped, detector.model.bert = detector.model.bert, detector.model.bert.bert
    with torch.no_grad():
        answer = detector.model(pixels[None], captions=["anomaly . bent pin . scratched surface."])
    detector.model.bert = wrapped
    found = detector.detect(pictures[:1], PHRASES)[0]
    np.testing.assert_allclose(found.boxes, answer["pred_boxes"][0], atol=1e-6)
    probabilities = answer["pred_logits"][0].sigmoid()
    np.testing.assert_allclose(found.probabilities, probabilities[:, : len(found.tokens)], atol=1e-6)
    assert (probabilities[:, len(found.tokens) :] == 0).all()


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1024, 1024), (518, 518)),
        ((1000, 500), (1036, 518)),
        ((500, 1000), (518, 1036)),
        ((3000, 500), (1332, 222)),
        ((518, 700), (518, 700)),
        ((333, 500), (518, 777)),
    ],
)
def test_the_shorter_side_is_brought_to_size_unless_the_longer_gets_too_long(size, expected):
    assert target_size(size, 518) == expected
    from groundingdino.datasets.transforms import resize

    assert resize(Image.new("L", size), None, 518, 1333)[0].size == expected


# ---- weights


def test_weights_are_loaded_from_every_form(files, weights, detector, pictures, tmp_path):
    config, bert, _ = files
    without_pooler = {name: t for name, t in weights.items() if not name.startswith("bert.pooler.")}
    extras = {"label_enc.weight": torch.zeros(2), "bert.embeddings.position_ids": torch.arange(3)}
    forms = {
        "model": {"model": {f"module.{name}": t for name, t in weights.items()}},
        "pooler": without_pooler,
        "extras": {"model": weights | extras},
    }
    expected = detector.detect(pictures[:1], PHRASES)[0]
    for name, content in forms.items():
        torch.save(content, tmp_path / f"{name}.pth")
        found = load_detector(str(tmp_path / f"{name}.pth"), config, bert, SIDE)
        assert_same(found.detect(pictures[:1], PHRASES)[0], expected)


def refusal(files, path, config=None):
    return complaint(lambda: load_detector(str(path), config or files[0], files[1], SIDE))


def test_a_tensor_too_few_or_too_many_is_refused(files, weights, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({name: t for name, t in weights.items() if name != "bert.embeddings.LayerNorm.bias"}, path)
    assert re.search(r"1 of \d+ tensors .* bert.embeddings.LayerNorm.bias .*found none", refusal(files, path))
    torch.save(weights | {"something.else": torch.zeros(1)}, path)
    assert "something.else (wanted none, found (1,))" in refusal(files, path)


def test_one_name_of_a_shared_tensor_is_enough(files, weights, detector, pictures, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({name: t for name, t in weights.items() if not name.startswith("bbox_embed.")}, path)
    found = load_detector(str(path), files[0], files[1], SIDE)
    assert_same(found.detect(pictures[:1], PHRASES)[0], detector.detect(pictures[:1], PHRASES)[0])


def test_of_box_heads_that_differ_the_last_is_taken_as_the_program_does_and_that_is_said(
    files, weights, pictures, tmp_path, capsys
):
    differing = {n: t + 0.1 if "bbox_embed.1." in n else t for n, t in weights.items()}
    torch.save(differing, tmp_path / "differing.pth")
    found = load_detector(str(tmp_path / "differing.pth"), files[0], files[1], SIDE)
    assert "bbox_embed.0.layers.0.weight" in capsys.readouterr().err
    last = {
        n: differing[re.sub(r"bbox_embed\.0\.", "bbox_embed.1.", n)] if "bbox_embed.0." in n else t
        for n, t in differing.items()
    }
    torch.save(last, tmp_path / "last.pth")
    expected = load_detector(str(tmp_path / "last.pth"), files[0], files[1], SIDE)
    assert capsys.readouterr().err == ""
    assert_same(found.detect(pictures[:1], PHRASES)[0], expected.detect(pictures[:1], PHRASES)[0])
    apart = write_config(tmp_path / "apart.py", dec_pred_bbox_embed_share=False)
    both = load_detector(str(tmp_path / "differing.pth"), apart, files[1], SIDE)
    assert capsys.readouterr().err == ""
    one, other = (m.detect(pictures[:1], PHRASES)[0] for m in (both, found))
    assert np.abs(one.boxes - other.boxes).max() > 1e-3


def test_pictures_too_small_or_too_thin_are_explained(detector, files, tmp_path):
    assert detector.explain_misfit((80, 70)) is None
    assert "too thin a strip" in detector.explain_misfit((1, 5000))
    many = write_config(tmp_path / "many.py", num_queries=86)
    wants_more = load_detector("drawn:0", many, files[1], SIDE)
    assert "has 85 places to look at and wants 86" in wants_more.explain_misfit((64, 64))  # 64 + 16 + 4 + 1
    with pytest.raises(RuntimeError):  # what the package itself says
        wants_more.detect([Image.new("RGB", (64, 64))], PHRASES)
    enough = load_detector("drawn:0", write_config(tmp_path / "enough.py", num_queries=85), files[1], SIDE)
    assert enough.explain_misfit((64, 64)) is None
    assert len(enough.detect([Image.new("RGB", (64, 64))], PHRASES)[0].boxes) == 85


def test_another_bert_than_the_weights_hold_points_to_its_flag(files, tmp_path):
    bert = write_vocabulary(tmp_path / "bert")
    sizes = json.loads((bert / "config.json").read_text())
    (bert / "config.json").write_text(json.dumps(sizes | {"intermediate_size": 48}))
    message = complaint(lambda: load_detector(str(files[2]), files[0], bert, SIDE))
    assert "--bert" in message and "intermediate" in message


def test_weights_of_swin_b_are_named_as_such(files, weights, tmp_path):
    wide = torch.zeros(128, 3, 4, 4)
    torch.save(weights | {"backbone.0.patch_embed.proj.weight": wide}, tmp_path / "swinb.pth")
    message = refusal(files, tmp_path / "swinb.pth")
    assert "GroundingDINO_SwinB_cfg.py" in message and "wanted (96, 3, 4, 4), found (128, 3, 4, 4)" in message


def test_a_filo_checkpoint_is_no_detector(files, tmp_path):
    names = ("decoder_linear.fc.0.weight", "normal_prompt_learner.ctx")
    torch.save({"filo": {name: torch.zeros(1) for name in names}}, tmp_path / "filo.pth")
    assert "--ckpt_path" in refusal(files, tmp_path / "filo.pth")
    torch.save({"some.weight": torch.zeros(1)}, tmp_path / "other.pth")
    assert "some other model, its first tensor is some.weight" in refusal(files, tmp_path / "other.pth")


def test_a_file_that_is_cut_off_is_refused(files, tmp_path):
    content = files[2].read_bytes()
    (tmp_path / "short.pth").write_bytes(content[: len(content) // 2])
    assert str(tmp_path / "short.pth") in refusal(files, tmp_path / "short.pth")


class _Probe:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_pickle_that_would_run_code_is_refused_and_not_run(files, tmp_path):
    torch.save({"model": {"feat_map.weight": _Probe(tmp_path / "ran")}}, tmp_path / "evil.pth")
    assert "nothing else is ever loaded" in refusal(files, tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def test_weights_that_are_not_finite_are_said_when_they_speak(files, weights, pictures, tmp_path):
    broken = weights | {"feat_map.bias": torch.full_like(weights["feat_map.bias"], float("nan"))}
    torch.save(broken, tmp_path / "nan.pth")
    found = load_detector(str(tmp_path / "nan.pth"), files[0], files[1], SIDE)
    assert "not finite" in complaint(lambda: found.detect(pictures[:1], PHRASES))


def test_drawn_weights_follow_the_seed_and_leave_the_generator_alone(files, pictures):
    before = torch.random.get_rng_state()
    one, same, other = (load_detector(f"drawn:{seed}", files[0], files[1], SIDE) for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    name = "feat_map.weight"
    assert torch.equal(one.model.state_dict()[name], same.model.state_dict()[name])
    assert not torch.equal(one.model.state_dict()[name], other.model.state_dict()[name])
    assert "drawn:0" in refusal(files, "drawn:x")


# ---- config and vocabulary


def test_the_packages_config_is_read_without_running_it(tmp_path):
    settings = read_config(default_config())
    assert settings["backbone"] == "swin_T_224_1k" and settings["return_interm_indices"] == [1, 2, 3]
    (tmp_path / "evil.py").write_text(f"hidden_dim = open({str(tmp_path / 'ran')!r}, 'w')\n")
    assert "evil.py" in complaint(lambda: read_config(tmp_path / "evil.py"))
    (tmp_path / "evil.py").write_text("import os\n")
    complaint(lambda: read_config(tmp_path / "evil.py"))
    assert not (tmp_path / "ran").exists()
    assert "SwinT-OGC" in complaint(lambda: read_config(tmp_path / "none.py"))


def test_a_config_that_is_no_model_is_one_line(files, tmp_path):
    config = write_config(tmp_path / "odd.py", backbone="swin_X")
    assert "odd.py is no config" in refusal(files, "drawn:0", config)
    (tmp_path / "short.py").write_text("hidden_dim = 256\n")
    assert "short.py is no config" in refusal(files, "drawn:0", tmp_path / "short.py")


def test_a_vocabulary_is_a_file_or_its_folder(files):
    config, bert, _ = files
    one, other = (load_detector("drawn:0", config, path, SIDE) for path in (bert, bert / "vocab.txt"))
    assert one.model.tokenizer.get_vocab() == other.model.tokenizer.get_vocab()


def test_a_missing_or_other_vocabulary_is_one_line(files, tmp_path):
    config, bert, _ = files
    assert "vocab.txt does not exist" in complaint(lambda: load_detector("drawn:0", config, tmp_path, SIDE))
    words = (bert / "vocab.txt").read_text()
    (tmp_path / "vocab.txt").write_text(words + "extra\n")
    count = len(words.split())
    (tmp_path / "config.json").write_text((bert / "config.json").read_text())
    assert f"holds {count + 1} words, BERT knows {count}" in complaint(
        lambda: load_detector("drawn:0", config, tmp_path, SIDE)
    )
    (tmp_path / "config.json").write_text("{")
    assert "is not BERT's" in complaint(lambda: load_detector("drawn:0", config, tmp_path, SIDE))


def test_without_network_the_missing_vocabulary_names_the_way_out(files, monkeypatch):
    def unreachable(*args, local_files_only=False, **kwargs):
        raise OSError("no such host")

    monkeypatch.setattr("filo.grounding.bert.hf_hub_download", unreachable)
    message = complaint(lambda: load_detector("drawn:0", files[0], None, SIDE))
    assert "--bert PATH" in message and "--detector none" in message


def test_the_vocabulary_of_the_hub_is_used_once_it_is_there(files, monkeypatch):
    asked = []

    def local(name, file, local_files_only=False):
        asked.append((name, local_files_only))
        if len(asked) == 1:
            raise OSError("not in the cache")
        return str(files[1] / "vocab.txt")

    monkeypatch.setattr("filo.grounding.bert.hf_hub_download", local)
    # BERT's own sizes are wanted then, which this vocabulary is too small for
    assert "BERT knows 30522" in complaint(lambda: load_detector("drawn:0", files[0], None, SIDE))
    assert asked == [("google-bert/bert-base-uncased", True), ("bert-base-uncased", True)]


def test_a_detector_is_never_in_training_mode(detector):
    assert isinstance(detector, GroundingDino) and not any(m.training for m in detector.model.modules())


def test_loading_a_missing_file_is_one_line(files, tmp_path):
    with pytest.raises(InputError, match=r"no such weights file"):
        load_detector(str(tmp_path / "none.pth"), files[0], files[1], SIDE)
