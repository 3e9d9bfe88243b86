"""Write meta.json for BTAD (beanTech): three industrial products, classes 01, 02 and 03.

It lies at http://avires.dimi.uniud.it/papers/btad/btad.zip (no licence is stated there). Expected, as in
MVTec AD, but normal images are in folders ok, anomalous ones in ko:

    ROOT/01/train/ok/0000.bmp
    ROOT/01/test/ok/0000.bmp
    ROOT/01/test/ko/0000.bmp
    ROOT/01/ground_truth/ko/0000.png      of the same name; the suffix may be another one
    ROOT/02, 03                           the same

ROOT may also be the folder around BTech_Dataset_transformed/.
"""

from functools import partial

import forms
import layouts

LAYOUT = layouts.Layout(
    name="btad",
    title="BTAD",
    expected="01/test/ko/IMAGE",
    source="http://avires.dimi.uniud.it/papers/btad/btad.zip",
    find=partial(forms.class_folders, names=("01", "02", "03"), normal="ok"),
    counts=(451, 290),
    folders=("BTech_Dataset_transformed",),
    signs=("0[123]/train/ok", "0[123]/test/ko"),
)

if __name__ == "__main__":
    layouts.run(LAYOUT, layouts.arguments(__doc__).parse_args())
