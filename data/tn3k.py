"""Write meta.json for TN3K: one class, "thyroid", a nodule in every ultrasound picture of the test set.

It is linked from https://github.com/haifangong/TRFE-Net-for-thyroid-nodule-segmentation (licence: ask there).
Expected:

    ROOT/Thyroid Dataset/tn3k/test-image/0000.jpg
    ROOT/Thyroid Dataset/tn3k/test-mask/0000.jpg

ROOT may also be tn3k/ itself. The training set in trainval-image/ is not used. Masks are JPEG files, whose
edges are smeared; as in the published program every value above 0 counts as defect. There are no normal
images, so only metrics per pixel are defined.
"""

from functools import partial

import forms
import layouts

LAYOUT = layouts.Layout(
    name="tn3k",
    title="TN3K",
    expected="test-image/IMAGE",
    source="https://github.com/haifangong/TRFE-Net-for-thyroid-nodule-segmentation",
    find=partial(
        forms.image_and_mask, cls_name="thyroid", kind="nodule", places=(("test-image", "test-mask"),)
    ),
    counts=(0, 614),
    folders=("Thyroid Dataset", "TN3K", "tn3k"),
    signs=("test-image", "trainval-image"),
)

if __name__ == "__main__":
    layouts.run(LAYOUT, layouts.arguments(__doc__).parse_args())
