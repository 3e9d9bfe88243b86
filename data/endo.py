"""Write meta.json for Endo, the EndoTect test set: one class, "colon", a polyp in every picture.

It lies at https://drive.google.com/file/d/1LNpLkv5ZlEUzr_RPN5rdOHaqk0SkZa3m/view (licence: see
https://endotect.com). Expected:

    ROOT/EndoTect_2020_Segmentation_Test_Dataset/images/IMAGE.jpg
    ROOT/EndoTect_2020_Segmentation_Test_Dataset/masks/IMAGE.jpg

or images in other folders beside masks/, whatever they are called. The segmented images of HyperKvasir come
in the same form, ROOT/segmented-images/images and masks, and are read too; they are 1000, so --check says
that they differ. ROOT may also be one of these folders itself. There are no normal images, so only metrics
per pixel are defined.
"""

from functools import partial

import forms
import layouts

LAYOUT = layouts.Layout(
    name="endo",
    title="Endo",
    expected="images/IMAGE",
    source="https://drive.google.com/file/d/1LNpLkv5ZlEUzr_RPN5rdOHaqk0SkZa3m/view",
    find=partial(
        forms.image_and_mask, cls_name="colon", kind="polyp", places=(("images", "masks"), ("*", "masks"))
    ),
    counts=(0, 200),
    folders=("EndoTect_2020_Segmentation_Test_Dataset", "hyper-kvasir-segmented-images", "segmented-images"),
    signs=("bounding-boxes.json",),
)

if __name__ == "__main__":
    layouts.run(LAYOUT, layouts.arguments(__doc__).parse_args())
