"""Write meta.json for Kvasir-SEG: one class, "colon", a polyp in every picture of a colonoscope.

It lies at https://datasets.simula.no/kvasir-seg (licence: see there). Expected:

    ROOT/Kvasir-SEG/images/cju0qkwl35piu0993l0dewei2.jpg
    ROOT/Kvasir-SEG/masks/cju0qkwl35piu0993l0dewei2.jpg

ROOT may also be Kvasir-SEG/ itself, or lie around the folder that holds all sets of polyps. Masks are JPEG
files, whose edges are smeared; as in the published program every value above 0 counts as defect. There are no
normal images, so only metrics per pixel are defined.
"""

from functools import partial

import forms
import layouts

LAYOUT = layouts.Layout(
    name="kvasir",
    title="Kvasir",
    expected="Kvasir-SEG/images/IMAGE",
    source="https://datasets.simula.no/kvasir-seg",
    find=partial(forms.image_and_mask, cls_name="colon", kind="polyp"),
    counts=(0, 1000),
    folders=forms.polyp_folders("Kvasir-SEG", "Kvasir"),
    signs=("kavsir_bboxes.json", "images/cju*.jpg"),
)

if __name__ == "__main__":
    layouts.run(LAYOUT, layouts.arguments(__doc__).parse_args())
