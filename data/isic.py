"""Write meta.json for ISIC 2016, task 1: one class, "skin", a lesion in every picture of the test set.

It lies at https://challenge.isic-archive.com/data/#2016 (licence CC0). Expected:

    ROOT/ISBI2016_ISIC_Part1_Test_Data/ISIC_0000003.jpg
    ROOT/ISBI2016_ISIC_Part1_Test_GroundTruth/ISIC_0000003_Segmentation.png

or, as the published program wants it, images in ROOT/skin/test/KIND/ and masks in
ROOT/skin/ISBI2016_ISIC_Part1_Test_GroundTruth/. The training set, if it is there, is not used. There are no
normal images, so only metrics per pixel are defined.
"""

from functools import partial

import forms
import layouts

MASKS = "ISBI2016_ISIC_Part1_Test_GroundTruth"

LAYOUT = layouts.Layout(
    name="isic",
    title="ISIC 2016",
    expected="ISBI2016_ISIC_Part1_Test_Data/IMAGE",
    source="https://challenge.isic-archive.com/data/#2016",
    find=partial(
        forms.image_and_mask,
        cls_name="skin",
        kind="lesion",
        places=(("ISBI2016_ISIC_Part1_Test_Data", MASKS), ("skin/test/*", f"skin/{MASKS}")),
    ),
    counts=(0, 379),
    folders=("ISBI", "ISIC", "ISIC2016"),
    signs=("ISBI2016_ISIC_Part1_*", f"skin/{MASKS}"),
)

if __name__ == "__main__":
    layouts.run(LAYOUT, layouts.arguments(__doc__).parse_args())
