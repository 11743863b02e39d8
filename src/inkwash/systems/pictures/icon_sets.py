"""The sets of icons: pinned packages, their licences and makers, and the styles in each.

Left out are sets whose licences are share-alike (openmoji, arcticons) or not settled: ri (two licences), solar
(CC-BY-4.0 in one place, GPL-3.0 in another), mdi (a part is under licences of others that it does not name). So are
those of two tones or more colours (duo-icons, icon-park-twotone, fluent-color, meteocons and others).
"""

from typing import NamedTuple

from inkwash.systems.pictures.packages import Package


class Set(NamedTuple):
    """A set of icons. A style is its name and one of the suffixes of its icons: "ph-fill"."""

    package: Package
    suffixes: tuple[str, ...]
    out: tuple[str, ...] = ()  # of icons that are left out: another size, or two tones


def iconify(
    name: str,
    version: str,
    sha256: str,
    licence: str,
    credit: str,
    suffixes: tuple[str, ...],
    out: tuple[str, ...] = (),
) -> tuple[str, Set]:
    return name, Set(Package(f"@iconify-json/{name}", version, sha256, licence, credit), suffixes, out)


SETS = dict(
    [
        iconify(
            "tabler",
            "1.2.41",
            "3bf99af156d28d05568aff524a35ed1ba238df640a7835a5e02e1f8e439685f6",
            "MIT",
            "Tabler Icons, Copyright (c) 2020-2026 Paweł Kuna",
            ("", "-filled"),
        ),
        iconify(
            "lucide",
            "1.2.137",
            "e74db8c3a55fff55bc82de21268c4bced9f65ff10aacc0d5f3a395b0e93243c3",
            "ISC AND MIT",
            "Lucide, Copyright (c) 2026 Lucide Icons and Contributors; in part Feather, (c) 2013-present Cole Bemis",
            ("",),
        ),
        iconify(
            "ph",
            "1.2.2",
            "e3a582a047d9829fc7e8842c660d8065e598d1b68bb58cb68e75a1f1e5a614cc",
            "MIT",
            "Phosphor Icons, Copyright (c) 2023 Phosphor Icons",
            ("", "-fill", "-thin", "-light", "-bold"),
            out=("-duotone",),
        ),
        iconify(
            "mingcute",
            "1.2.8",
            "fec65f4430ac70a968e0e7fc7741e7064ba91e6da992b905f75c9d70c717bd2c",
            "Apache-2.0",
            "MingCute Icon, MingCute Design",
            ("-line", "-fill"),
        ),
        iconify(
            "fluent-emoji-high-contrast",
            "1.2.6",
            "0b92d48c90d2200bd499e3cdd09a127ca6a8c8ddefd34c35eb5a1e4994012ae0",
            "MIT",
            "Fluent Emoji, Copyright (c) Microsoft Corporation",
            ("",),
        ),
        iconify(
            "icon-park-outline",
            "1.2.4",
            "e4c29776086e46ed7d113b7d44798a36ca74df6dcfb949da142db34714ab7c8a",
            "Apache-2.0",
            "IconPark, ByteDance Ltd.",
            ("",),
        ),
        iconify(
            "icon-park-solid",
            "1.2.4",
            "3af17a63c120891842d272ec34b4bec414e6c4801af8158a460b4c3cb4dc1248",
            "Apache-2.0",
            "IconPark, ByteDance Ltd.",
            ("",),
        ),
        iconify(
            "hugeicons",
            "1.2.35",
            "cca09de913319938961fa0613a8eb42952f76c3ee13a7c68ef411091590c5d8b",
            "MIT",
            "Hugeicons, Copyright (c) 2025 Hugeicons",
            ("",),
        ),
        iconify(
            "iconoir",
            "1.2.11",
            "8e5d3bfbd55aa8ef3878f0c2f248cf71fe99822172fd07990e32ab7fe7a68b1e",
            "MIT",
            "Iconoir, Copyright (c) 2021 Luca Burgio",
            ("", "-solid"),
        ),
        iconify(
            "carbon",
            "1.2.29",
            "8e3059dc90933875439c29ff36ae4370767bc02d8beca6923b1f2bb856cf327a",
            "Apache-2.0",
            "Carbon Design System icons, IBM Corp.",
            ("", "-filled"),
            out=("-filled-alt",),
        ),
        iconify(
            "bi",
            "1.2.7",
            "86a7f213711c929169dbcd64318cd678a0845385156fc707401ba07cbde4da0d",
            "MIT",
            "Bootstrap Icons, Copyright (c) 2019-2024 The Bootstrap Authors",
            ("", "-fill"),
        ),
        iconify(
            "ion",
            "1.2.7",
            "4103445dba712aa0f6d119706df00b2e821634f9ca96faac5ddbfb3bad65927f",
            "MIT",
            "Ionicons, Copyright (c) 2015-present Ionic",
            ("", "-outline", "-sharp"),
        ),
        iconify(
            "material-symbols",
            "1.2.98",
            "142d50bf28e7db85362795be335ebc29dac611d73c404fc1e6fc5cc198e2b3d0",
            "Apache-2.0",
            "Material Symbols, Google LLC and Contributors",
            ("", "-outline", "-rounded", "-sharp", "-outline-rounded", "-outline-sharp"),
        ),
        iconify(
            "fluent",
            "1.2.60",
            "9a7cad7adb15288c1fd5e2e1835f1b17f2a8764bb1f31971bffa7c9df1349d6d",
            "MIT",
            "Fluent UI System Icons, Copyright (c) Microsoft Corporation",
            ("-24-regular", "-24-filled"),
        ),
        iconify(
            "healthicons",
            "1.2.13",
            "4c2552c45737788a6599da3c5b72610c7fb4e7f87075d401c56fa16d487d4caf",
            "MIT",
            "Health Icons, Copyright (c) 2021 Resolve to Save Lives",
            ("", "-outline"),
            out=("-24px",),
        ),
        iconify(
            "maki",
            "1.2.5",
            "cbf41d1b7262fad2eecdc6425ae5afed2de9b3512093c4c778fb456e788d7e12",
            "CC0-1.0",
            "Maki, Mapbox",
            ("",),
            out=("-11", "-15"),
        ),
        iconify(
            "fa7-solid",
            "1.2.5",
            "2a5c09e0094306e42c357d5b9da1feb39b46cd16d5df6f3d1a89f3093e074d91",
            "CC-BY-4.0",
            "Font Awesome Free, Fonticons, Inc.",
            ("",),
        ),
        iconify(
            "streamline",
            "1.2.5",
            "b64ca35d4d9fb1f6e730d260ab59e1ded79b23d9f156f8d2f458df6a7aa4cf53",
            "CC-BY-4.0",
            "Streamline, webalys; https://github.com/webalys-hq/streamline-vectors",
            ("", "-solid", "-remix"),
        ),
        iconify(
            "streamline-plump",
            "1.2.0",
            "e158c4e47a0fd030b028c511b6eebb27ee4fad68710e47670b0099604fd5077c",
            "CC-BY-4.0",
            "Streamline, webalys; https://github.com/webalys-hq/streamline-vectors",
            ("", "-solid", "-remix"),
        ),
        iconify(
            "streamline-flex",
            "1.2.3",
            "ac9e29b9d1ad1b483fbf5ad1923c9a0aa49378fd72badaa2e849ab20d7e8f0fd",
            "CC-BY-4.0",
            "Streamline, webalys; https://github.com/webalys-hq/streamline-vectors",
            ("", "-solid", "-remix"),
        ),
        iconify(
            "streamline-ultimate",
            "1.2.2",
            "e09225d443837eddfed5ba6c4d5bd454aa7167a914ea6c45db270fd4eecc7c0f",
            "CC-BY-4.0",
            "Streamline, webalys; https://github.com/webalys-hq/streamline-vectors",
            ("", "-bold"),
        ),
        iconify(
            "game-icons",
            "1.2.4",
            "f5758efb34d91c4f50b941f355f16ee73938625e5996fabc25171288404460a4",
            "CC-BY-3.0",
            "Game-icons.net, made by Lorc, Delapouite and contributors",
            ("",),
        ),
    ]
)
WORDS = {
    "lucide": Package(
        "lucide-static",
        "1.62.0",
        "386f9080c440d6f5049cefe3456ae8357f7a0c7f76e59670cd1cb83bc7050a44",
        "ISC",
        "Lucide, Copyright (c) 2026 Lucide Icons and Contributors",
    ),
    "tabler": Package(
        "@tabler/icons",
        "3.52.0",
        "626620c7d42afd2f294fba167ce4653b5cb946336d186b4991c70b700e5616af",
        "MIT",
        "Tabler Icons, Copyright (c) 2020-2026 Paweł Kuna",
    ),
    "ph": Package(
        "@phosphor-icons/core",
        "2.1.1",
        "313332be6190b724da24107addd781799b48bf76b13963f24501112ffe1baadd",
        "MIT",
        "Phosphor Icons, Copyright (c) 2023 Phosphor Icons",
    ),
    "mdi": Package(
        "@mdi/svg",
        "7.4.47",
        "de92e5dc9ce46c392ab5c53aa7190b19f82b40cb48872a083f788c7e13e91fef",
        "Apache-2.0",
        "Material Design Icons, Pictogrammers",
    ),
    "icon-park": Package(
        "@icon-park/svg",
        "1.4.2",
        "fbd548c2d6c3830a56828c9cf09787d61ce2a74a4f398919059e111de17c504b",
        "Apache-2.0",
        "IconPark, ByteDance Ltd.",
    ),
}
EMOJI = "fluent-emoji-high-contrast"
DEFAULT = (
    *("tabler", "tabler-filled", "lucide", "ph", "ph-fill", "mingcute-line", "mingcute-fill"),
    *(EMOJI, "icon-park-outline"),
)
SET_OF = {f"{name}{suffix}": name for name, one in SETS.items() for suffix in one.suffixes}  # by style
