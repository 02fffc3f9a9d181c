"""Makes a folder of photographs, for training clips, of packages of Debian 13 and PyPI.

    mkdir packages && cd packages
    apt-get download budgie-backgrounds lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 \\
        lxqt-themes mate-backgrounds opencv-doc palapeli-data plasma-workspace-wallpapers
    for package in *.deb; do dpkg -x $package .; done
    pip download --no-deps scikit-image==0.26.0 scikit-learn==1.9.1
    for wheel in *.whl; do python -m zipfile -e $wheel .; done
    cd .. && python -m benchmarks.photos packages photos

Each photograph is reduced to at most 1400 pixels on its longer side. Their authors and licenses
(CC0, CC BY, CC BY-SA, GPL, LGPL, Apache, BSD) are in the copyright files and the metadata of the
packages; no photograph is part of this project.
"""

import argparse
import pathlib
from collections.abc import Sequence

from PIL import Image

LONGEST, QUALITY = 1400, 95
# Photographs only: the packages have drawings, too. Of each folder, the names without suffix.
CHOSEN = {
    "usr/share/backgrounds/budgie": (
        "abstract-spiral beacon-street-sunset blue-periwinkle canyon-wren casa-mila "
        "extreme-desert-hike high-trestle-trail lake-sherburne oakland-zoo-otters perched-osprey "
        "piazza-gae-aulenti roman-colosseum singaporean-cityscape tea-gardens"
    ),
    "usr/share/backgrounds": (
        "Bridge_by_Sander_Klootwijk Dragonfly_by_Bolly Picture_0B_by_freespace "
        "Picture_1A_by_freespace Wine_by_Jakkub_Mede aitzgorri_by_Aitzol_Berasategi "
        "analogpattern_by_Peter_Nerlich free_by_Peter_Nerlich friends_by_Aitzol_Berasategi "
        "greentock_by_Peter_Nerlich life_by_Aitzol_Berasategi picosdeeuropa_by_Aitzol_Berasategi "
        "seeding_by_Clements_Engelhardt sunset_by_Aitzol_Berasategi umang_by_Abhishek_Mudgal "
        "Kleiber_by_Lukas_Baubkus"
    ),
    "usr/share/lxqt/wallpapers": (
        "Butterfly-Kenneth-Wimer Valendas after-the-rain appleflower beam butterfly cloud drop "
        "flowers fog this-is-not-windows"
    ),
    "usr/share/backgrounds/mate": (
        "nature/Aqua nature/Blinds nature/Dune nature/FreshFlower "
        "nature/Garden nature/GreenMeadow nature/LadyBird nature/RainDrops nature/Storm "
        "nature/TwoWings nature/Wood nature/YellowFlower"
    ),
    "usr/share/doc/opencv-doc/examples": (
        "alphamat/input_images/plant data/aero1 data/aero3 data/aloeL data/board data/building "
        "data/chicky_512 data/ela_original data/fruits data/graf1 data/leuvenA data/squirrel_cls "
        "text/scenetext01 text/scenetext02 text/scenetext03 text/scenetext04 text/scenetext05 "
        "text/scenetext06 text/scenetext_segmented_word01 text/scenetext_segmented_word02 "
        "text/scenetext_segmented_word03"
    ),
    "usr/share/palapeli/collection": (
        "castle-maintenon cincinnati-bridge citrus-fruits european-honey-bee "
        "panther-chameleon-female"
    ),
    "usr/share/wallpapers": (
        "BytheWater ColdRipple ColorfulCups EveningGlow FallenLeaf Grey Kite OneStandsOut Path "
        "summer_1am"
    ),
    "skimage/data": "astronaut brick chelsea coffee grass gravel rocket",
    "sklearn/datasets/images": "china flower",
}


def collect(packages: pathlib.Path, folder: pathlib.Path) -> int:
    """Reduces the photographs below `packages` into the folder; returns how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for parent, names in CHOSEN.items():
        for name in names.split():
            ends = (".jpg", ".png", "/contents/images/2560x1600.jpg")
            paths = [packages / parent / f"{name}{end}" for end in ends]
            found = next(filter(pathlib.Path.is_file, paths), None)
            if found is None:
                print(f"missing: {packages / parent / name}")
                continue
            image = Image.open(found).convert("RGB")
            image.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
            image.save(folder / f"{pathlib.Path(name).name}.jpg", quality=QUALITY, subsampling=0)
            count += 1
    return count


def main(argv: Sequence[str] | None = None) -> None:
    """Fills the folder."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.photos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("packages", type=pathlib.Path, help="where the packages are unpacked")
    parser.add_argument("folder", type=pathlib.Path, help="gets the photographs")
    given = parser.parse_args(argv)
    print(f"{given.folder}: {collect(given.packages, given.folder)} photographs")


if __name__ == "__main__":
    main()
