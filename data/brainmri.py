"""Write meta.json for BrainMRI: one class, "brain", MRI slices with and without a tumour; there are no masks.

It lies at https://www.kaggle.com/datasets/navoneel/brain-mri-images-for-brain-tumor-detection
(licence: see there). Expected:

    ROOT/brain_tumor_dataset/no/1 no.jpeg     normal
    ROOT/brain_tumor_dataset/yes/Y1.jpg       tumour

The download holds a second copy of both folders, ROOT/no and ROOT/yes. They are read only where there is no
brain_tumor_dataset/. All images are test images.
"""

from functools import partial

import forms
import layouts

LAYOUT = layouts.Layout(
    name="brainmri",
    title="BrainMRI",
    expected="brain_tumor_dataset/yes/IMAGE",
    source="https://www.kaggle.com/datasets/navoneel/brain-mri-images-for-brain-tumor-detection",
    find=partial(forms.folder_of_each_kind, cls_name="brain", kinds={"good": ["no"], "tumour": ["yes"]}),
    counts=(98, 155),
    folders=("brain_tumor_dataset", "BrainMRI"),
    signs=("no/1 no.jpeg",),
)

if __name__ == "__main__":
    layouts.run(LAYOUT, layouts.arguments(__doc__).parse_args())
