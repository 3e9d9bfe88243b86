"""Write meta.json for MVTec AD: 15 classes of industrial objects and textures.

Ask for it at https://www.mvtec.com/company/research/datasets/mvtec-ad (licence CC BY-NC-SA 4.0). Expected:

    ROOT/bottle/train/good/000.png
    ROOT/bottle/test/good/000.png
    ROOT/bottle/test/broken_large/000.png
    ROOT/bottle/ground_truth/broken_large/000_mask.png

Every folder in ROOT is a class, so sets of the same form (MPDD, DTD-Synthetic) can be read too.
"""

import layouts


def find(walk: layouts.Walk, normal: str = "good") -> list[layouts.Item]:
    items = []
    for folder in walk.folders(walk.root):
        if (folder / "train").is_dir() or (folder / "test").is_dir():
            items += layouts.ClassFolder(walk, folder, folder.name, normal).items()
        else:
            walk.classes.add(folder.name)  # becomes an "empty class" in the summary
    return items


LAYOUT = layouts.Layout(
    name="mvtec",
    title="MVTec AD",
    expected="CLASS/test/KIND/IMAGE",
    source="https://www.mvtec.com/company/research/datasets/mvtec-ad",
    find=find,
)

if __name__ == "__main__":
    layouts.run(LAYOUT, layouts.arguments(__doc__).parse_args())
