"""Write meta.json for Br35H: one class, "brain", MRI slices with and without a tumour; there are no masks.

It lies at https://www.kaggle.com/datasets/ahmedhamada0/brain-tumor-detection (licence: see there). Expected:

    ROOT/no/no0.jpg      normal
    ROOT/yes/y0.jpg      tumour

The folders pred/ and Br35H-Mask-RCNN/ of the download are not used: they hold images without label and copies
of those in yes/. All images are test images.
"""

from functools import partial

import forms
import layouts

LAYOUT = layouts.Layout(
    name="br35h",
    title="Br35H",
    expected="yes/IMAGE",
    source="https://www.kaggle.com/datasets/ahmedhamada0/brain-tumor-detection",
    find=partial(
        forms.folder_of_each_kind,
        cls_name="brain",
        kinds={"good": ["no"], "tumour": ["yes"]},
        unused=("pred", "Br35H-Mask-RCNN"),
    ),
    counts=(1500, 1500),
    folders=("Br35H", "br35"),
    signs=("Br35H-Mask-RCNN", "no/no0.jpg"),
)

if __name__ == "__main__":
    layouts.run(LAYOUT, layouts.arguments(__doc__).parse_args())
