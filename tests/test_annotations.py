"""Boxes and phrases for fine-tuning: files worked out by hand, published schemas, pycocotools as a reader."""

import json
import re

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from filo.grounding import annotations, forms
from filo.grounding.detector import to_caption
from filo.grounding.forms import Picture
from filo.grounding.regions import Regions
from filo.meta import read_meta
from filo.prompts import PromptBook, find_prompt_file
from filo.transforms import open_image
from tests.commands import flags, run
from tests.trees import make_root, rewrite

FILES = ["args.json", "coco.json", "label_map.json", "odvg_detection.jsonl", "odvg_grounding.jsonl"]
GENERAL = ["anomaly", "damage", "broken", "defect", "contamination"]
KINDS = {"nut": ["good", "crack", "bad", "bent_corner"], "bolt": ["good", "crack", "Worn-out"]}
PROMPTS = {
    "nut": {"name": "hex nut", "descriptions": [{"text": "a crack across it"}, {"text": "a Dent"}]},
    "bolt": {"name": "bolt", "descriptions": [{"text": "cracks"}]},
}


@pytest.fixture
def root(tmp_path):
    """Images of 8 x 6 pixels; the masks of anomalous ones mark their left half."""
    return make_root(tmp_path / "parts", KINDS)


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "parts.json"
    path.write_text(json.dumps({"classes": PROMPTS}))
    return path


@pytest.fixture
def annotate(root, prompts, tmp_path, monkeypatch, capfd):
    """Run the command on the small tree: (status, stdout, stderr)."""
    usual = {"meta": root / "meta.json", "prompts": prompts, "out": tmp_path / "out"}

    def call(**changes):
        return run(monkeypatch, capfd, "filo/grounding/annotations.py", *flags(**usual | changes))

    return call


def read(folder):
    parts = {name: (folder / name).read_text() for name in FILES}
    return {
        n: [json.loads(x) for x in t.splitlines()] if "odvg" in n else json.loads(t) for n, t in parts.items()
    }


def picture(phrase="crack", boxes=((1, 2, 4, 6),), class_name="nut", size=(8, 6)):
    areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in boxes]
    regions = Regions(np.array(boxes, int).reshape(-1, 4), np.array(areas, int), 0)
    return Picture("nut/1.png", *size, class_name, phrase, regions)


# ---- words


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("crack", "crack"),
        ("Bent_Corner", "bent corner"),
        ("metal-contamination", "metal contamination"),
        ("cut (inner)  insulation.", "cut inner insulation"),
        ("bad", "anomaly"),
        ("Anomaly", "anomaly"),
        ("combined", "anomaly"),
        ("", "anomaly"),
        ("_", "anomaly"),
        ("007", "anomaly"),
        ("type_2", "type 2"),
        ("rayé", "rayé"),
    ],
)
def test_a_kind_becomes_words_or_the_general_word_where_it_tells_nothing(kind, words):
    assert forms.name_kind(kind, "anomaly") == words


def test_words_are_found_as_whole_words_wherever_they_stand():
    assert forms.find_spans("crack . a crack . cracks . crack-like.", "crack") == [[0, 5], [10, 15], [27, 32]]
    assert forms.find_spans("a dark crack.", "dark crack") == [[2, 12]]
    assert forms.find_spans("a dark . crack.", "dark crack") == []
    assert forms.find_spans("pinhole . holes . hole.", "hole") == [[18, 22]]


def test_a_caption_is_the_tests_own_with_the_kinds_that_it_does_not_name():
    given = {"nut": [*GENERAL, "a crack across it", "a Dent"]}
    general = "anomaly . damage . broken . defect . contamination . "
    unchanged = [picture("crack"), picture("dent"), picture("anomaly")]
    assert forms.make_captions(unchanged, GENERAL, given) == {"nut": f"{general}a crack across it . a dent."}
    assert forms.make_captions(unchanged, GENERAL, given)["nut"] == to_caption(given["nut"])
    more = [picture("scratch"), picture("bent pin"), picture("scratch"), picture("stain", boxes=())]
    assert forms.make_captions(more, GENERAL, given) == {
        "nut": f"{general}scratch . bent pin . a crack across it . a dent."
    }


def test_kinds_of_one_class_stay_out_of_the_caption_of_another():
    given = {"nut": [*GENERAL, "a"], "bolt": [*GENERAL, "b"]}
    captions = forms.make_captions([picture("crack", class_name="bolt")], GENERAL, given)
    assert "crack" in captions["bolt"] and "crack" not in captions["nut"]


def test_a_box_belongs_to_every_place_of_its_kind_and_to_the_general_word():
    line = forms.to_grounding(picture("crack"), "anomaly . damage . a crack . a crack line.", "anomaly")
    assert line["grounding"]["regions"] == [
        {"bbox": [[1, 2, 4, 6]], "phrase": "crack", "tokens_positive": [[0, 7], [21, 26], [31, 36]]}
    ]
    line = forms.to_grounding(picture("anomaly"), "anomaly . damage.", "anomaly")
    assert line["grounding"]["regions"][0]["tokens_positive"] == [[0, 7]]


# ---- the command


def test_the_files_of_a_small_tree_as_worked_out_by_hand(annotate, tmp_path):
    status, out, err = annotate()
    assert (status, err) == (0, "")
    found = read(tmp_path / "out")
    general = "anomaly . damage . broken . defect . contamination . "
    nut, bolt = f"{general}bent corner . a crack across it . a dent.", f"{general}crack . worn out . cracks."

    def line(name, caption, phrase=None, spans=()):
        region = {"bbox": [[0, 0, 4, 6]], "phrase": phrase, "tokens_positive": [[0, 7], *spans]}
        grounding = {"caption": caption, "regions": [region] if phrase else []}
        return {"filename": name, "height": 6, "width": 8, "grounding": grounding}

    assert found["odvg_grounding.jsonl"] == [
        line("nut/0.png", nut),
        line("nut/1.png", nut, "crack", [[nut.index("crack"), nut.index("crack") + 5]]),
        line("nut/2.png", nut, "anomaly"),
        line("nut/3.png", nut, "bent corner", [[53, 64]]),
        line("bolt/0.png", bolt),
        line("bolt/1.png", bolt, "crack", [[53, 58]]),
        line("bolt/2.png", bolt, "worn out", [[61, 69]]),
    ]
    labels = ["crack", "anomaly", "bent corner", "worn out"]
    assert found["label_map.json"] == {"0": "crack", "1": "anomaly", "2": "bent corner", "3": "worn out"}
    assert [x["detection"]["instances"] for x in found["odvg_detection.jsonl"]] == [
        [] if i is None else [{"bbox": [0, 0, 4, 6], "label": i, "category": labels[i]}]
        for i in (None, 0, 1, 2, None, 0, 3)
    ]
    assert [(x["id"], x["name"]) for x in found["coco.json"]["categories"]] == list(enumerate(labels, 1))
    assert found["coco.json"]["annotations"][2] == {
        "id": 3,
        "image_id": 4,
        "category_id": 3,
        "bbox": [0, 0, 4, 6],
        "area": 24,
        "segmentation": [],
        "iscrowd": 0,
    }
    assert out.splitlines()[:2] == [
        "5 images with 5 boxes, 2 without",
        "boxes: crack 2, anomaly 1, bent corner 1, worn out 1",
    ]


def is_box(value, width, height):
    x1, y1, x2, y2 = value
    return all(type(v) is int for v in value) and 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height


def assert_odvg_header(line, form):
    assert line.keys() == {"filename", "height", "width", form}
    assert isinstance(line["filename"], str) and type(line["height"]) is type(line["width"]) is int


def assert_grounding_schema(lines):
    """As MMDetection documents it, and as its ODVGDataset and RandomSamplingNegPos use it."""
    for line in lines:
        assert_odvg_header(line, "grounding")
        assert line["grounding"].keys() == {"caption", "regions"}
        caption = line["grounding"]["caption"]
        assert caption == caption.lower().strip() and caption.endswith(".")  # or spans would shift when read
        for region in line["grounding"]["regions"]:
            assert region.keys() == {"bbox", "phrase", "tokens_positive"}
            assert region["bbox"] and all(is_box(b, line["width"], line["height"]) for b in region["bbox"])
            texts = [caption[start:end] for start, end in region["tokens_positive"]]
            assert region["phrase"] in texts and set(texts) <= {region["phrase"], "anomaly"}
            assert all(re.fullmatch(r"\W?", caption[e : e + 1]) for _, e in region["tokens_positive"])


def assert_detection_schema(lines, label_map):
    assert list(label_map) == [str(i) for i in range(len(label_map))]
    for line in lines:
        assert_odvg_header(line, "detection")
        assert line["detection"].keys() == {"instances"}
        for instance in line["detection"]["instances"]:
            assert instance.keys() == {"bbox", "label", "category"}
            assert is_box(instance["bbox"], line["width"], line["height"])
            assert label_map[str(instance["label"])] == instance["category"]


def assert_coco_schema(content):
    """The keys that COCO and MMDetection's documentation name, of the types they name."""
    assert content.keys() == {"info", "licenses", "images", "annotations", "categories"}
    kinds = {
        "images": {"id": int, "file_name": str, "width": int, "height": int},
        "categories": {"id": int, "name": str, "supercategory": str},
        "annotations": {
            "id": int,
            "image_id": int,
            "category_id": int,
            "bbox": list,
            "area": int,
            "segmentation": list,
            "iscrowd": int,
        },
    }
    for part, wanted in kinds.items():
        assert all({k: type(v) for k, v in row.items()} == wanted for row in content[part])
        assert len({row["id"] for row in content[part]}) == len(content[part])
    assert len({row["name"] for row in content["categories"]}) == len(content["categories"])
    size = {row["id"]: (row["width"], row["height"]) for row in content["images"]}
    for row in content["annotations"]:
        x, y, w, h = row["bbox"]
        assert is_box([x, y, x + w, y + h], *size[row["image_id"]]) and 0 < row["area"] <= w * h
        assert row["iscrowd"] == 0 and row["category_id"] in {c["id"] for c in content["categories"]}


@pytest.fixture(scope="module", params=["mvtec", "visa"])
def demo(request, data, tmp_path_factory):
    """The annotations of a demo dataset: its name, its root, the files."""
    out = tmp_path_factory.mktemp("boxes") / "out"
    given = {"meta": data[request.param], "dataset": f"demo_{request.param}", "out": out}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["annotations", *flags(**given)])
        annotations.main()
    return request.param, data[request.param], read(out), out


def test_all_files_keep_to_the_published_schemas(demo):
    _, _, files, _ = demo
    assert_coco_schema(files["coco.json"])
    assert_grounding_schema(files["odvg_grounding.jsonl"])
    assert_detection_schema(files["odvg_detection.jsonl"], files["label_map.json"])


def test_pycocotools_reads_the_same_boxes_and_labels_as_stand_in_both_odvg_files(demo):
    _, _, files, out = demo
    coco = COCO(str(out / "coco.json"))
    rows = zip(coco.getImgIds(), files["odvg_detection.jsonl"], files["odvg_grounding.jsonl"], strict=True)
    for image_id, detection, grounding in rows:
        image = coco.loadImgs([image_id])[0]
        names = {image["file_name"], detection["filename"], grounding["filename"]}
        sizes = {(x["width"], x["height"]) for x in (image, detection, grounding)}
        assert len(names) == len(sizes) == 1
        found = [
            ([x, y, x + w, y + h], coco.loadCats([a["category_id"]])[0]["name"])
            for a in coco.loadAnns(coco.getAnnIds([image_id]))
            for x, y, w, h in [a["bbox"]]
        ]
        instances = detection["detection"]["instances"]
        regions = grounding["grounding"]["regions"]
        assert found == [(i["bbox"], i["category"]) for i in instances]
        assert found == [(box, r["phrase"]) for r in regions for box in r["bbox"]]


def test_every_image_is_there_and_only_the_anomalous_ones_have_boxes(demo):
    name, root, files, _ = demo
    meta = read_meta(root, "test")
    lines = files["odvg_grounding.jsonl"]
    assert [root / line["filename"] for line in lines] == [
        root / e.image.relative_to(root) for e in meta.entries
    ]
    assert [len(line["grounding"]["regions"]) for line in lines] == [entry.label for entry in meta.entries]
    first = lines[0]
    assert open_image(root / first["filename"]).size == (first["width"], first["height"])
    phrases = {region["phrase"] for line in lines for region in line["grounding"]["regions"]}
    assert (phrases == {"anomaly"}) if name == "visa" else {"crack", "missing part"} <= phrases


def test_captions_begin_and_go_on_as_those_of_the_test(demo):
    name, root, files, _ = demo
    book = PromptBook([find_prompt_file(f"demo_{name}")])
    classes = [entry.class_name for entry in read_meta(root, "test").entries]
    for line, class_name in zip(files["odvg_grounding.jsonl"], classes, strict=True):
        parts = line["grounding"]["caption"].removesuffix(".").split(" . ")
        wanted = to_caption(book.phrases(class_name)).removesuffix(".").split(" . ")
        assert parts[:5] == wanted[:5] == GENERAL
        assert [part for part in parts if part in wanted] == wanted


def test_the_same_masks_give_the_same_bytes(annotate, tmp_path):
    assert annotate()[0] == annotate(out=tmp_path / "again")[0] == 0
    for name in FILES:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_the_folder_of_meta_json_will_do(annotate, root, tmp_path):
    assert annotate(meta=root)[0] == annotate(out=tmp_path / "again")[0] == 0
    assert read(tmp_path / "out") == read(tmp_path / "again")


def test_specks_and_blank_masks_are_counted(annotate, root, tmp_path):
    mask = np.zeros((6, 8), np.uint8)
    Image.fromarray(mask).save(root / "nut" / "1_mask.png")
    mask[:2, :3] = mask[5, 7] = 255
    Image.fromarray(mask).save(root / "nut" / "2_mask.png")
    status, out, _ = annotate(min_area=0.05)  # of 48 pixels: 3
    assert status == 0
    assert "dropped: 1 specks smaller than 0.05 of their image\n" in out
    assert "left out: 1 anomalous images with a blank mask, the first is nut/1.png\n" in out
    lines = read(tmp_path / "out")["odvg_grounding.jsonl"]
    assert "nut/1.png" not in [line["filename"] for line in lines]
    assert lines[1]["grounding"]["regions"][0]["bbox"] == [[0, 0, 3, 2]]


def test_a_finished_folder_is_replaced_only_on_demand(annotate, tmp_path):
    assert annotate()[0] == 0
    before = (tmp_path / "out" / "coco.json").read_bytes()
    status, _, err = annotate(min_area=0.9)
    assert status == 2 and "already holds odvg_grounding.jsonl" in err and "--overwrite" in err
    assert (tmp_path / "out" / "coco.json").read_bytes() == before
    assert annotate(min_area=0.5, overwrite=True)[0] == 0
    assert json.loads((tmp_path / "out" / "args.json").read_text())["min_area"] == 0.5


def test_wrong_input_is_one_line_that_says_what_to_do(annotate, root, tmp_path):
    def rejected(**changes):
        status, out, err = annotate(**changes)
        assert (status, out) == (2, "") and len(err.splitlines()) == 1
        assert not (tmp_path / "out").exists()
        return err

    assert "no such dataset folder" in rejected(meta=tmp_path / "nowhere" / "meta.json")
    (tmp_path / "few.json").write_text(json.dumps({"classes": {"nut": PROMPTS["nut"]}}))
    assert "the class 'bolt' has no prompts" in rejected(prompts=tmp_path / "few.json")
    (tmp_path / "file").write_text("")
    assert "cannot be made" in rejected(out=tmp_path / "file" / "out")
    assert "wanted 'train' -> class -> entries" in rejected(split="train")


def test_an_anomalous_image_without_a_mask_is_refused(annotate, root):
    rewrite(root, lambda meta: meta["test"]["nut"][1].update(mask_path=""))
    status, _, err = annotate()
    assert status == 2 and "1 anomalous images" in err and "nut/1.png" in err


def test_an_image_that_other_programs_turn_is_refused(annotate, root):
    image = Image.open(root / "nut" / "0.png")
    exif = image.getexif()
    exif[0x0112] = 6  # a quarter turn
    image.save(root / "nut" / "0.png", exif=exif)
    status, _, err = annotate()
    assert status == 2 and "nut/0.png is stored turned" in err and len(err.splitlines()) == 1


def test_a_dataset_without_a_marked_defect_is_refused(annotate, root):
    for mask in root.glob("*/*_mask.png"):
        Image.new("L", (8, 6)).save(mask)
    status, _, err = annotate()
    assert status == 2 and "marks no defect under 'test'" in err


def test_the_prompts_are_those_of_the_folders_name_unless_a_dataset_is_named(
    annotate, root, monkeypatch, capfd
):
    usual = {"meta": root, "out": root.parent / "out"}
    status, _, err = run(monkeypatch, capfd, "filo/grounding/annotations.py", *flags(**usual))
    assert status == 2 and "no prompts for the dataset 'parts'" in err
    command = flags(**usual, dataset="visa")
    assert (
        "the class 'nut' has no prompts"
        in run(monkeypatch, capfd, "filo/grounding/annotations.py", *command)[2]
    )
