"""Write meta.json for CVC-ClinicDB: one class, "colon", a polyp in every picture of a colonoscope.

It lies at https://figshare.com/articles/figure/Polyp_DataSet_zip/21221579 (licence: see there). Expected:

    ROOT/CVC-ClinicDB/images/1.png
    ROOT/CVC-ClinicDB/masks/1.png

or, as it comes elsewhere, Original/1.png and "Ground Truth"/1.png, both perhaps in a folder PNG/ or TIF/; the
first form that is there counts. ROOT may also be CVC-ClinicDB/ itself, or lie around the folder that holds
all sets of polyps. There are no normal images, so only metrics per pixel are defined.
"""

from functools import partial

import forms
import layouts

PLACES = (
    ("images", "masks"),
    ("Original", "Ground Truth"),
    ("PNG/Original", "PNG/Ground Truth"),
    ("TIF/Original", "TIF/Ground Truth"),
)

LAYOUT = layouts.Layout(
    name="clinicdb",
    title="CVC-ClinicDB",
    expected="CVC-ClinicDB/images/IMAGE",
    source="https://figshare.com/articles/figure/Polyp_DataSet_zip/21221579",
    find=partial(forms.image_and_mask, cls_name="colon", kind="polyp", places=PLACES),
    counts=(0, 612),
    folders=forms.polyp_folders("CVC-ClinicDB"),
    signs=("CVC-ClinicDB", "Ground Truth", "*/Ground Truth"),
)

if __name__ == "__main__":
    layouts.run(LAYOUT, layouts.arguments(__doc__).parse_args())
