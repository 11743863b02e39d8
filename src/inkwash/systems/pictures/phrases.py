"""What people type for things that have an emoji: how well does a model understand words that it was not taught?

Written by hand, without a look at what any model makes of them, and never used to choose anything.
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from inkwash.systems.pictures.captions import COLOURS, COLOURS_ZH, PATTERNS, PATTERNS_ZH
from inkwash.systems.pictures.emoji_data import Emoji

# phrase=what it means, by the English names of the concepts, the first the likeliest
PHRASES = """
coffee=hot beverage; a cup of coffee=hot beverage; espresso=hot beverage; golden crown=crown
pink pig=pig/pig face; piggy=pig face/pig; kitty=cat face/cat; a little kitten=cat/cat face
bunny=rabbit face/rabbit; brown bear=bear; teddy=teddy bear; king of the jungle=lion; baby elephant=elephant
a long-necked giraffe=giraffe; reindeer=deer; sea turtle=turtle; bumblebee=honeybee; ladybug=lady beetle
crocodile with open mouth=crocodile; dinosaur=sauropod/T-Rex; killer whale=orca; clownfish=tropical fish
goldfish=tropical fish; hawk=eagle; wise old owl=owl; love bird=parrot; merlot=wine glass; lager=beer mug
champagne=bottle with popping cork/clinking glasses; orange juice=beverage box; burger=hamburger
fries=french fries; slice of pizza=pizza; donut=doughnut; pink donut with sprinkles=doughnut
birthday cake with candles=birthday cake; gelato=soft ice cream/ice cream; ramen=steaming bowl
spaghetti and meatballs=spaghetti; aubergine=eggplant; a juicy apple=red apple; satsuma=tangerine
bunch of grapes=grapes; half an avocado=avocado; bouquet of roses=bouquet
christmas tree with lights=Christmas tree; oak tree=deciduous tree; autumn leaf=maple leaf/fallen leaf
campfire=fire; big wave=water wave; rainy cloud=cloud with rain; snowfall=cloud with snow/snowflake
saturn=ringed planet; half moon=first quarter moon/last quarter moon/crescent moon
spaceship=rocket/flying saucer; ufo=flying saucer; firetruck=fire engine; chopper=helicopter
cosy cottage=house/house with garden; skyscraper=office building; medieval castle=castle; pc=desktop computer
tv=television; lightbulb idea=light bulb; a golden key=key; trash can=wastebasket; settings=gear
dollars=dollar banknote/money bag/money with wings; sneaker=running shoe; trainers=running shoe
stilettos=high-heeled shoe; shades=sunglasses; spectacles=glasses; first prize cup=trophy; hoops=basketball
dartboard=bullseye; fiddle=violin; headphones=headphone; halloween pumpkin=jack-o-lantern; martian=alien
angry man=angry face/enraged face; cool guy with shades=smiling face with sunglasses
broken-hearted=broken heart; present=wrapped gift; poop=pile of poo; android robot=robot; newsletter=newspaper
pushbike=bicycle; taco tuesday=taco; paint brush=paintbrush; sushi roll=sushi; peak=mountain; pooch=dog/dog face
moggy=cat/cat face; tabby kitten=cat/cat face; hog=pig/boar; stallion=horse/horse face; cobra=snake
mallard=duck; tarantula=spider; gecko=lizard; cappuccino=hot beverage; a mug of cocoa=hot beverage
cabernet=wine glass; pale ale=beer mug; gateau=birthday cake/shortcake; omelette=cooking; linguine=spaghetti
zucchini=cucumber; capsicum=bell pepper; spud=potato; clementine=tangerine; cantaloupe=melon
conifer=evergreen tree; saguaro=cactus; bonfire=fire; blizzard=cloud with snow; downpour=cloud with rain
twister=tornado; brolly=umbrella; limousine=automobile; moped=motor scooter; airliner=airplane; bungalow=house
fortress=castle; loudhailer=megaphone; computer monitor=desktop computer; dslr=camera; camcorder=video camera
loupe=magnifying glass tilted left/magnifying glass tilted right; spanner=wrench; hatchet=axe
dustbin=wastebasket; satchel=backpack; tiara=crown; woolly mittens=gloves; overcoat=coat; denim trousers=jeans
evening gown=dress; vaccine shot=syringe; sticking plaster=adhesive bandage; ukulele=guitar
bongo=drum/long drum; cranium=skull; spooky phantom=ghost; extraterrestrial=alien; iguana=lizard; python=snake
sedan=automobile; cathedral=church; noodles=steaming bowl; pachyderm=elephant; primate=monkey/gorilla/orangutan
quill=feather; galleon=ship; cockerel=rooster; bovine=cow/ox; tricycle=bicycle; dungarees=jeans
eyeglasses=glasses; 咖啡=hot beverage; 一杯咖啡=hot beverage; 金色的皇冠=crown; 粉红色的小猪=pig/pig face
猫咪=cat face/cat; 小狗=dog face/dog; 乌龟=turtle; 鲨鱼=shark; 薯条=french fries; 披萨=pizza
生日蛋糕=birthday cake; 冰淇淋=soft ice cream/ice cream; 红酒=wine glass; 啤酒=beer mug; 奶茶=bubble tea
玫瑰=rose; 火焰=fire; 闪电=high voltage; 雪人=snowman/snowman without snow
月亮=crescent moon/full moon/first quarter moon; 小汽车=automobile; 消防车=fire engine; 房子=house
电视机=television; 钥匙=key; 拿铁=hot beverage; 一只小老虎=tiger/tiger face; 红色的跑车=automobile/racing car
巧克力甜甜圈=doughnut; 烤鸡腿=poultry leg; 意面=spaghetti; 单车=bicycle; 的士=taxi; 垃圾箱=wastebasket
游轮=passenger ship; 电吉他=guitar; 钻戒=ring; 球鞋=running shoe; 手电=flashlight; 外星生物=alien
"""
LITTLE = frozenset(["a", "an", "of", "the", "with", "in", "on", "s"])  # words that name nothing


class Phrase(NamedTuple):
    """A phrase, the concepts that it may mean, and a picture of the first of them: a row of the data.

    new   whether it says a word, in Chinese a character, that no caption of these concepts holds
    """

    text: str
    concepts: list[str]
    row: int
    new: bool


def phrases(data: Emoji) -> list[Phrase]:
    """The phrases whose first concept the data show in two styles or more; the styles come by turns."""
    rows_of: dict[str, list[int]] = {}
    for row, name in enumerate(data.name.tolist()):
        rows_of.setdefault(name, []).append(row)
    result: list[Phrase] = []
    for text, names in entries():
        rows = rows_of.get(names[0], [])
        if len(rows) > 1:
            firsts = [rows_of[name][0] for name in names if name in rows_of]
            concepts = [str(data.concept[row]) for row in firsts]
            result.append(Phrase(text, concepts, rows[len(result) % len(rows)], is_new(text, data, firsts)))
    return result


def is_new(text: str, data: Emoji, rows: list[int]) -> bool:
    """Whether the text says a word that no caption of these rows can hold; held-out ones have no captions."""
    rows = [row for row in rows if data.split[row] in ("train", "combination")]
    if not text.isascii():
        captions = [PATTERNS_ZH, COLOURS_ZH, *(" ".join([str(data.name_zh[i]), *data.tags_zh[i]]) for i in rows)]
        return not rows or not {*text} <= {*"".join(captions)}
    captions = [
        PATTERNS,
        COLOURS,
        *(" ".join([str(data.name[i]), *data.tags[i], *caption_kinds(data, i)]) for i in rows),
    ]
    return not rows or not words(text) <= words(" ".join(captions)) | LITTLE


def entries() -> Iterator[tuple[str, list[str]]]:
    """Each phrase, and the names of what it means."""
    for entry in re.split(r";\s|\n", PHRASES.strip()):
        text, _, meaning = entry.partition("=")
        yield text, meaning.split("/")


@cache
def phrase_words() -> frozenset[str]:
    return words(" ".join(text for text, _ in entries()))


def caption_kinds(data: Emoji, row: int) -> list[str]:
    """The words for kinds of a thing, but for those with a word that only a phrase says, which is for the test."""
    taught = words(" ".join([str(data.name[row]), *data.tags[row]]))
    for_the_test = phrase_words() - taught
    return [kind for kind in data.kinds[row] if not words(kind) & for_the_test]


def words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower()))
