"""Write meta.json for COVID-19 Radiography: one class, "chest", X-ray pictures of healthy and of ill lungs.

It lies at https://www.kaggle.com/datasets/tawsifurrahman/covid19-radiography-database
(licence: see there). Expected:

    ROOT/COVID-19_Radiography_Dataset/Normal/images/Normal-1.png    normal
    ROOT/COVID-19_Radiography_Dataset/COVID/images/COVID-1.png      COVID-19

or, as in the first edition, ROOT/NORMAL/IMAGE and ROOT/COVID-19/IMAGE (or COVID/). Only these two folders
count, not Lung_Opacity/ and Viral Pneumonia/. The masks that come with the images are not used: they show
where the lungs are. All images are test images.

Published figures are of the first edition, with 1341 normal and 219 ill lungs. Editions have grown since, so
--check says that today's, of 10192 and 3616, differs.
"""

from functools import partial

import forms
import layouts

OTHER_ILLNESSES = ("Lung_Opacity", "Viral Pneumonia")

LAYOUT = layouts.Layout(
    name="covid19",
    title="COVID-19 Radiography",
    expected="COVID/images/IMAGE",
    source="https://www.kaggle.com/datasets/tawsifurrahman/covid19-radiography-database",
    find=partial(
        forms.folder_of_each_kind,
        cls_name="chest",
        kinds={"good": ["Normal"], "covid": ["COVID", "COVID-19"]},
        unused=OTHER_ILLNESSES,
    ),
    counts=(1341, 219),
    folders=("COVID-19_Radiography_Dataset", "COVID-19 Radiography Database"),
    signs=("COVID", "COVID-19", *OTHER_ILLNESSES),
)

if __name__ == "__main__":
    layouts.run(LAYOUT, layouts.arguments(__doc__).parse_args())
