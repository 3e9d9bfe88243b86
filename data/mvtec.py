"""Write meta.json for MVTec AD: 15 classes of industrial objects and textures.

Ask for it at https://www.mvtec.com/company/research/datasets/mvtec-ad (licence CC BY-NC-SA 4.0). Expected:

    ROOT/bottle/train/good/000.png
    ROOT/bottle/test/good/000.png
    ROOT/bottle/test/broken_large/000.png
    ROOT/bottle/ground_truth/broken_large/000_mask.png

Every folder in ROOT is a class, so a set of your own in the same form can be read too.
"""

import forms
import layouts

LAYOUT = layouts.Layout(
    name="mvtec",
    title="MVTec AD",
    expected="CLASS/test/KIND/IMAGE",
    source="https://www.mvtec.com/company/research/datasets/mvtec-ad",
    find=forms.class_folders,
    counts=(467, 1258),
    folders=("mvtec_anomaly_detection",),
    signs=(
        *("bottle/test", "cable/test", "capsule/test", "carpet/test", "grid/test", "hazelnut/test"),
        *("leather/test", "metal_nut/test", "pill/test", "screw/test", "tile/test", "toothbrush/test"),
        *("transistor/test", "wood/test", "zipper/test"),
    ),
)

if __name__ == "__main__":
    layouts.run(LAYOUT, layouts.arguments(__doc__).parse_args())
