"""The photographs of the recipe `photos`, as a folder, the longer side 1,000 pixels: cameras blur single pixels.

    apt-get download lomiri-wallpapers-16.04 lomiri-wallpapers-20.04
    curl -O https://deb.debian.org/debian/pool/main/b/budgie-backgrounds/budgie-backgrounds_3.0-1_all.deb
    for package in *.deb; do dpkg -x $package wallpapers; done
    python benchmarks/photos_data.py --wallpapers wallpapers/usr/share/backgrounds --out data/photos

Learned from are those under CC BY 4.0 and CC0; those under CC BY-SA are for the table alone.
"""

import csv
from pathlib import Path

from PIL import Image

import common
from common import QUICK

LONGER = 1000
TRAINING = [
    "aitzgorri_by_Aitzol_Berasategi",
    "friends_by_Aitzol_Berasategi",
    "life_by_Aitzol_Berasategi",
    "picosdeeuropa_by_Aitzol_Berasategi",
    "sunset_by_Aitzol_Berasategi",
    "Picture_0B_by_freespace",
    "Picture_1A_by_freespace",
    "Wine_by_Jakkub_Mede",
    "seeding_by_Clements_Engelhardt",
    "budgie/abstract-spiral",
    "budgie/beacon-street-sunset",
    "budgie/blue-periwinkle",
    "budgie/canyon-wren",
    "budgie/casa-mila",
    "budgie/extreme-desert-hike",
    "budgie/high-trestle-trail",
    "budgie/lake-sherburne",
    "budgie/oakland-zoo-otters",
    "budgie/perched-osprey",
    "budgie/piazza-gae-aulenti",
    "budgie/roman-colosseum",
    "budgie/singaporean-cityscape",
    "budgie/tea-gardens",
]
TABLE = [
    "Bridge_by_Sander_Klootwijk",
    "Dragonfly_by_Bolly",
    "Kleiber_by_Lukas_Baubkus",
    "free_by_Peter_Nerlich",
    "greentock_by_Peter_Nerlich",
]


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--wallpapers", type=Path, help="the folder of the packages' photographs")
    options.add_argument("--out", type=Path, default=Path("data/photos"))
    args = options.parse_args()
    if QUICK:
        print("of 1 set of photographs: nothing to try without them")
        return
    if args.wallpapers is None:
        options.error("--wallpapers is needed")
    common.new_folder(args.out)
    with (args.out / "split.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["name", "split"])
        for names, part in ((TRAINING, "train"), (TABLE, "test")):
            for name in names:
                photograph = Image.open(args.wallpapers / f"{name}.jpg").convert("RGB")
                photograph.thumbnail((LONGER, LONGER), Image.Resampling.LANCZOS)
                photograph.save(args.out / f"{Path(name).name}.png")
                lines.writerow([Path(name).name, part])


if __name__ == "__main__":
    main()
