"""Every dataset in small, in each form in which it comes: names, depths and suffixes as in the real set."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import layouts
from tests.folders import entry, picture, text


class Row(NamedTuple):
    """One image; an empty `mask` is none, an empty `split` means that the image is not of the set."""

    split: str
    cls: str
    kind: str
    image: str
    mask: str = ""


class Form(NamedTuple):
    """A dataset in one form: the name of its root, its images, and other files with their content."""

    script: str
    root: str
    rows: list[Row]
    texts: Mapping[str, str] = MappingProxyType({})

    @property
    def layout(self) -> layouts.Layout:
        return importlib.import_module(self.script).LAYOUT

    def make(self, folder: Path) -> Path:
        """Draw the set below `folder` and give its root."""
        root = folder / self.root
        for row in self.rows:
            for name in filter(None, (row.image, row.mask)):
                picture(root / name)
        for name, content in self.texts.items():
            text(root / name, content)
        return root

    def meta(self) -> dict:
        """The meta.json that belongs to it."""
        content: dict = {"train": {}, "test": {}}
        for row in sorted(self.rows, key=lambda row: (row.cls, row.image)):
            if row.split:
                made = entry(row.image, row.mask, row.cls, row.kind, int(row.kind != "good"))
                content[row.split].setdefault(row.cls, []).append(made)
        return content


def mvtec_like(
    top: str, cls: str, kind: str, suffix: str = ".png", mask: str = "_mask.png", normal: str = "good"
):
    """Rows of one class in the form of MVTec AD."""
    folder = f"{top}{cls}"
    return [
        Row("train", cls, "good", f"{folder}/train/{normal}/000{suffix}"),
        Row("test", cls, "good", f"{folder}/test/{normal}/000{suffix}"),
        Row("test", cls, "good", f"{folder}/test/{normal}/001{suffix}"),
        Row(
            "test", cls, kind, f"{folder}/test/{kind}/000{suffix}", f"{folder}/ground_truth/{kind}/000{mask}"
        ),
        Row(
            "test", cls, kind, f"{folder}/test/{kind}/002{suffix}", f"{folder}/ground_truth/{kind}/002{mask}"
        ),
    ]


MPDD = ("bracket_black", "bracket_brown", "bracket_white", "connector", "metal_plate", "tubes")
DTD = ("Blotchy_099", "Fibrous_183", "Marbled_078", "Matted_069", "Mesh_114", "Perforated_037")
DTD += ("Stratified_154", "Woven_001", "Woven_068", "Woven_104", "Woven_125", "Woven_127")


def mpdd(top: str) -> list[Row]:
    return [row for cls in MPDD for row in mvtec_like(top, cls, "scratches")]


def dtd(top: str) -> list[Row]:
    return [row for cls in DTD for row in mvtec_like(top, cls, "bad")]


def btad(top: str) -> list[Row]:
    suffixes = {"01": (".bmp", ".png"), "02": (".png", ".png"), "03": (".bmp", ".bmp")}
    return [
        row
        for cls, (image, mask) in suffixes.items()
        for row in mvtec_like(top, cls, "ko", image, mask, "ok")
    ]


def commutators(folder: str) -> list[Row]:
    """The set cut beforehand; its class is named with an underscore whatever the folder is."""
    return [row._replace(cls="electrical_commutators") for row in mvtec_like("", folder, "defect")]


def dagm(inner: str = "{}") -> list[Row]:
    rows = []
    for cls in (f"Class{number}" for number in range(1, 11)):
        top = inner.format(cls)
        rows += [
            Row("train", cls, "good", f"{top}/Train/0576.PNG"),
            Row("", cls, "defect", f"{top}/Train/0577.PNG", f"{top}/Train/Label/0577_label.PNG"),
            Row("test", cls, "good", f"{top}/Test/0001.PNG"),
            Row("test", cls, "defect", f"{top}/Test/0002.PNG", f"{top}/Test/Label/0002_label.PNG"),
            Row("test", cls, "defect", f"{top}/Test/0010.PNG", f"{top}/Test/Label/0010_label.PNG"),
        ]
    return rows


def of_kinds(cls: str, *images: str, kind: str) -> list[Row]:
    """Test images without masks; those of the first half are normal."""
    half = len(images) // 2
    kinds = ["good"] * half + [kind] * (len(images) - half)
    return [Row("test", cls, kind, image) for kind, image in zip(kinds, images, strict=True)]


def others(*images: str) -> list[Row]:
    """Pictures that come with a set but do not belong to it."""
    return [Row("", "", "", image) for image in images]


def pairs(cls: str, kind: str, image: str, mask: str, names: tuple[str, ...]) -> list[Row]:
    return [Row("test", cls, kind, image.format(name), mask.format(name)) for name in names]


def polyps(folder: str, suffix: str = ".png", names: tuple[str, ...] = ("1", "2", "10")) -> list[Row]:
    return pairs("colon", "polyp", f"{folder}images/{{}}{suffix}", f"{folder}masks/{{}}{suffix}", names)


HEAD_CT = of_kinds(
    "brain", *(f"head_ct/head_ct/{number}.png" for number in ("100", "101", "000", "001")), kind="hemorrhage"
)
LABELS = "id, hemorrhage\n0,1\n1,1\n100,0\n101,0\n"
CJU = ("cju0qkwl35piu0993l0dewei2", "cju0qoxqj9q6s0835b43399p4")
ISIC = ("ISIC_0000003", "ISIC_0000012")
LESION = "ISBI2016_ISIC_Part1_Test_GroundTruth/{}_Segmentation.png"
COVID = "COVID-19_Radiography_Dataset/"
MRI = of_kinds(
    "brain",
    *("brain_tumor_dataset/no/1 no.jpeg", "brain_tumor_dataset/no/No11.jpg"),
    *("brain_tumor_dataset/yes/Y1.jpg", "brain_tumor_dataset/yes/Y10.JPG"),
    kind="tumour",
)

FORMS = {
    "mpdd": Form("mpdd", "root", mpdd("MPDD/")),
    "mpdd, the folder itself": Form("mpdd", "root", mpdd("")),
    "btad": Form("btad", "root", btad("BTech_Dataset_transformed/")),
    "btad, the folder itself": Form("btad", "root", btad("")),
    "dtd_synthetic": Form("dtd_synthetic", "root", dtd("DTD-Synthetic/")),
    "dtd_synthetic, the folder itself": Form("dtd_synthetic", "root", dtd("")),
    "sdd, cut": Form("sdd", "SDD", commutators("electrical commutators")),
    "sdd, cut, with an underscore": Form("sdd", "SDD", commutators("electrical_commutators")),
    "dagm": Form("dagm", "root", dagm("DAGM_KaggleUpload/{}")),
    "dagm, a folder in each": Form("dagm", "root", dagm("{0}/{0}")),
    "headct": Form("headct", "root", HEAD_CT, {"labels.csv": LABELS}),
    "headct, sorted": Form(
        "headct",
        "HeadCT_anomaly_detection",
        of_kinds("brain", "brain/test/good/100.png", "brain/test/hemorrhage/000.png", kind="hemorrhage"),
    ),
    "brainmri": Form(
        "brainmri", "root", MRI + others("no/1 no.jpeg", "no/No11.jpg", "yes/Y1.jpg", "yes/Y10.JPG")
    ),
    "brainmri, nested": Form(
        "brainmri", "root", [row._replace(image=f"brain_tumor_dataset/{row.image}") for row in MRI]
    ),
    "br35h": Form(
        "br35h",
        "root",
        [
            *of_kinds("brain", "no/no0.jpg", "no/no1.jpg", "yes/y0.jpg", "yes/y1.jpg", kind="tumour"),
            *others("pred/pred0.jpg", "Br35H-Mask-RCNN/TRAIN/y0.jpg"),
        ],
    ),
    "covid19": Form(
        "covid19",
        "root",
        [
            *of_kinds(
                "chest",
                f"{COVID}Normal/images/Normal-1.png",
                f"{COVID}COVID/images/COVID-1.png",
                kind="covid",
            ),
            *others(f"{COVID}COVID/masks/COVID-1.png", f"{COVID}Normal/masks/Normal-1.png"),
            *others(f"{COVID}Lung_Opacity/images/Lung_Opacity-1.png", f"{COVID}Viral Pneumonia/images/1.png"),
        ],
    ),
    "covid19, first edition": Form(
        "covid19",
        "root",
        [
            *of_kinds("chest", "NORMAL/NORMAL (1).png", "COVID-19/COVID-19 (1).png", kind="covid"),
            *others("Viral Pneumonia/Viral Pneumonia (1).png"),
        ],
    ),
    "isic": Form(
        "isic",
        "root",
        [
            *pairs("skin", "lesion", "ISBI2016_ISIC_Part1_Test_Data/{}.jpg", LESION, ISIC),
            *others("ISBI2016_ISIC_Part1_Training_Data/ISIC_0000000.jpg"),
        ],
    ),
    "isic, sorted": Form(
        "isic", "ISBI", pairs("skin", "lesion", "skin/test/skin/{}.jpg", f"skin/{LESION}", ISIC)
    ),
    "colondb": Form("colondb", "root", polyps("CVC-ColonDB/")),
    "colondb, the folder itself": Form("colondb", "CVC-ColonDB", polyps("")),
    "colondb, among others": Form("colondb", "root", polyps("TestDataset/CVC-ColonDB/")),
    "clinicdb": Form("clinicdb", "CVC-ClinicDB", polyps("")),
    "clinicdb, PNG and TIF": Form(
        "clinicdb",
        "root",
        [
            *pairs("colon", "polyp", "PNG/Original/{}.png", "PNG/Ground Truth/{}.png", ("1", "2", "10")),
            *others("TIF/Original/1.tif", "TIF/Ground Truth/1.tif"),
        ],
    ),
    "clinicdb, TIF": Form(
        "clinicdb",
        "CVC-ClinicDB",
        pairs("colon", "polyp", "Original/{}.tif", "Ground Truth/{}.tif", ("1", "2")),
    ),
    "kvasir": Form(
        "kvasir", "root", polyps("Kvasir-SEG/", ".jpg", CJU), {"Kvasir-SEG/kavsir_bboxes.json": "{}"}
    ),
    "kvasir, the folder itself": Form("kvasir", "root", polyps("", ".jpg", CJU)),
    "endo": Form("endo", "root", polyps("EndoTect_2020_Segmentation_Test_Dataset/", ".jpg", ("a1", "b2"))),
    "endo, another folder of images": Form(
        "endo",
        "EndoTect_2020_Segmentation_Test_Dataset",
        pairs("colon", "polyp", "polyps/{}.jpg", "masks/{}.jpg", ("a1", "b2")),
    ),
    "endo, HyperKvasir": Form(
        "endo",
        "root",
        polyps("segmented-images/", ".jpg", CJU),
        {"segmented-images/bounding-boxes.json": "{}"},
    ),
    "tn3k": Form(
        "tn3k",
        "root",
        [
            *pairs(
                "thyroid",
                "nodule",
                "Thyroid Dataset/tn3k/test-image/{}.jpg",
                "Thyroid Dataset/tn3k/test-mask/{}.jpg",
                ("0000", "0001"),
            ),
            *others(
                "Thyroid Dataset/tn3k/trainval-image/0000.jpg", "Thyroid Dataset/tn3k/trainval-mask/0000.jpg"
            ),
        ],
    ),
    "tn3k, the folder itself": Form(
        "tn3k", "root", pairs("thyroid", "nodule", "test-image/{}.jpg", "test-mask/{}.jpg", ("0000", "0001"))
    ),
    "mvtec": Form("mvtec", "root", mvtec_like("mvtec_anomaly_detection/", "metal_nut", "scratch")),
    "visa": Form(
        "visa",
        "root",
        [
            Row("train", "candle", "good", "VisA_20220922/candle/Data/Images/Normal/0000.JPG"),
            Row("test", "candle", "good", "VisA_20220922/candle/Data/Images/Normal/0001.JPG"),
            Row(
                "test",
                "candle",
                "anomaly",
                "VisA_20220922/candle/Data/Images/Anomaly/000.JPG",
                "VisA_20220922/candle/Data/Masks/Anomaly/000.png",
            ),
        ],
        {
            "VisA_20220922/split_csv/1cls.csv": "object,split,label,image,mask\n"
            "candle,train,normal,candle/Data/Images/Normal/0000.JPG,\n"
            "candle,test,normal,candle/Data/Images/Normal/0001.JPG,\n"
            "candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png\n"
        },
    ),
}
