"""English texts and the same in Chinese, with the parts that mean the same, for teaching a text encoder both."""

import random
import re
from collections.abc import Iterable
from typing import NamedTuple

Span = tuple[int, int]

# English | Chinese of the same; {c} a colour, {m} a mood, {k} a number, {s} a style, {n} and {o} things
PATTERNS = """a {n}|一个{n}
{n}|{n}
{c} {n}|{c}的{n}
a {c} {n}|{c}的{n}
a {c} {n}|一个{c}的{n}
a {c} {n}|{c}{n}
{m} {n}|{m}的{n}
a {m} {n}|一个{m}的{n}
a {m} {c} {n}|一个{m}的{c}{n}
{k} {n}s|{k}个{n}
{n} and {o}|{n}和{o}
a {n} and a {o}|一个{n}和一个{o}
a {c} {n} with a {o}|带{o}的{c}{n}
a {n} with a {o}|带{o}的{n}
a {n} on a {o}|{o}上的{n}
a {n} in a {o}|{o}里的{n}
a {n} under a {o}|{o}下的{n}
a {n} next to a {o}|{o}旁边的{n}
a {n} wearing a {o}|戴着{o}的{n}
a {n} holding a {o}|拿着{o}的{n}
a {n} without a {o}|没有{o}的{n}
a picture of a {n}|一张{n}的图片
{n} emoji|{n}表情
a {s} icon of a {n}|{s}风格的{n}图标
{n}, {s} style|{n}，{s}风格
{n}, {o}|{n}，{o}
{c} {n}, {m}|{m}，{c}{n}"""

COLOURS = """red 红色;red 红;orange 橙色;yellow 黄色;yellow 黄;green 绿色;green 绿;blue 蓝色;blue 蓝
purple 紫色;violet 紫罗兰色;pink 粉色;pink 粉红色;brown 棕色;brown 褐色;black 黑色;black 黑;white 白色
white 白;grey 灰色;gray 灰色;golden 金色;silver 银色;dark 深色;light 浅色;turquoise 青绿色;navy 藏青色
beige 米色"""
MOODS = """happy 快乐;happy 开心;sad 悲伤;sad 难过;angry 生气;angry 愤怒;funny 滑稽;sleepy 困倦
surprised 惊讶;scared 害怕;cute 可爱;old 老;old 旧;young 年轻;big 大;small 小;tiny 微小;huge 巨大
broken 破碎;shiny 闪亮;fast 快;slow 慢;hot 热;cold 冷;wet 湿;wooden 木头;metal 金属;evil 邪恶;magic 魔法
royal 皇家;lonely 孤独;flying 会飞;dancing 跳舞;sleeping 睡觉;running 奔跑;smiling 微笑;laughing 大笑
crying 哭泣;beautiful 美丽;new 新;round 圆"""
STYLES = """flat 扁平;glossy 光泽;3d 立体;simple 简单;cartoon 卡通;pixel 像素;line 线条;minimal 极简
colourful 彩色;rounded 圆润;watercolour 水彩"""
NUMBERS = """one 一;two 两;three 三;four 四;five 五;six 六;seven 七;eight 八;nine 九;ten 十"""
THINGS = """cat 猫;dog 狗;fox 狐狸;bear 熊;bird 鸟;fish 鱼;horse 马;cow 牛;pig 猪;sheep 羊;chicken 鸡
duck 鸭子;frog 青蛙;snake 蛇;mouse 老鼠;rabbit 兔子;tiger 老虎;lion 狮子;monkey 猴子;elephant 大象
panda 熊猫;whale 鲸鱼;dolphin 海豚;butterfly 蝴蝶;bee 蜜蜂;spider 蜘蛛;ant 蚂蚁;owl 猫头鹰;penguin 企鹅
turtle 乌龟;dragon 龙;unicorn 独角兽;apple 苹果;banana 香蕉;orange 橙子;pear 梨;grape 葡萄;strawberry 草莓
watermelon 西瓜;lemon 柠檬;peach 桃子;cherry 樱桃;tomato 西红柿;potato 土豆;carrot 胡萝卜;corn 玉米
mushroom 蘑菇;bread 面包;cake 蛋糕;pizza 比萨;pizza 披萨;rice 米饭;noodles 面条;egg 鸡蛋;cheese 奶酪
ice cream 冰淇淋;chocolate 巧克力;coffee 咖啡;tea 茶;beer 啤酒;wine 葡萄酒;milk 牛奶;water 水;tree 树
flower 花;rose 玫瑰;leaf 叶子;grass 草;sun 太阳;moon 月亮;star 星星;cloud 云;rain 雨;snow 雪;snowman 雪人
fire 火;mountain 山;sea 海;river 河;house 房子;car 汽车;car 车;bus 公共汽车;train 火车;plane 飞机
airplane 飞机;ship 船;boat 船;bicycle 自行车;rocket 火箭;truck 卡车;book 书;pen 笔;pencil 铅笔;phone 手机
computer 电脑;camera 相机;clock 时钟;watch 手表;key 钥匙;lock 锁;door 门;window 窗户;chair 椅子;table 桌子
bed 床;lamp 灯;cup 杯子;bottle 瓶子;knife 刀;spoon 勺子;hat 帽子;shoe 鞋;shirt 衬衫;dress 裙子;glasses 眼镜
sunglasses 太阳镜;bag 包;umbrella 雨伞;ball 球;football 足球;basketball 篮球;guitar 吉他;piano 钢琴;drum 鼓
heart 心;heart 爱心;hand 手;eye 眼睛;ear 耳朵;nose 鼻子;mouth 嘴;face 脸;smiling face 笑脸
smiling face 微笑的脸;robot 机器人;ghost 鬼;king 国王;queen 女王;man 男人;woman 女人;boy 男孩;girl 女孩
baby 婴儿;doctor 医生;teacher 老师;city 城市;flag 旗;gift 礼物;balloon 气球;candle 蜡烛;money 钱;crown 皇冠
sword 剑;hammer 锤子;scissors 剪刀;sunflower 向日葵;garden 花园;circle 圆;square 方块;arrow 箭头"""


class Pair(NamedTuple):
    """A text in both languages, and the parts of either (characters from, to) that mean the same."""

    english: str
    chinese: str
    spans: list[tuple[Span, Span]]


def parse_words(words: str) -> list[tuple[str, str]]:
    """ "red 红色;ice cream 冰淇淋" -> [("red", "红色"), ("ice cream", "冰淇淋")]"""
    return [tuple(entry.rsplit(" ", 1)) for entry in re.split(r"[;\n]", words)]


def fill(pattern: str, words: dict[str, str]) -> tuple[str, dict[str, Span]]:
    """The pattern with its slots filled, and where each filling lies."""
    text, spans = "", {}
    for plain, slot in re.findall(r"([^{]*)(?:{(\w)})?", pattern):
        text += plain
        if slot:
            spans[slot] = (len(text), len(text) + len(words[slot]))
            text += words[slot]
    return text, spans


def whole_pair(english: str, chinese: str) -> Pair:
    """Two texts that mean the same, of which no more is known."""
    return Pair(english, chinese, [((0, len(english)), (0, len(chinese)))])


def pairs(emoji: Iterable[tuple[str, list[str], str, list[str]]], count: int, seed: int) -> list[Pair]:
    """Names and tags of emoji, all the words above, and `count` filled patterns.

    emoji: English name, English tags, Chinese name, Chinese tags. A Chinese tag stands for all that is said of its
    emoji in English: which tag it translates is not known, but over many emoji the mean is what it means.
    """
    rng, result = random.Random(seed), []
    things = parse_words(THINGS)
    names = []
    for name, tags, name_zh, tags_zh in emoji:
        if name_zh:
            result.append(whole_pair(name, name_zh))
            names.append((name, name_zh))
            result += [whole_pair(", ".join([name, *tags][:4]), tag) for tag in tags_zh]
            if tags and tags_zh:
                result.append(whole_pair(" ".join(tags), "，".join(tags_zh)))
    slots = {"c": parse_words(COLOURS), "m": parse_words(MOODS), "s": parse_words(STYLES), "k": parse_words(NUMBERS)}
    result += [whole_pair(*words) for words in (*things, *slots["c"], *slots["m"], *slots["s"], *slots["k"])]
    patterns = [line.split("|") for line in PATTERNS.split("\n")]

    def word(slot: str) -> tuple[str, str]:
        return rng.choice(slots.get(slot) or (things if rng.random() < 0.6 else names))

    for _ in range(count):
        english, chinese = rng.choice(patterns)
        words = {slot: word(slot) for slot in re.findall(r"{(\w)}", english)}
        text, spans = fill(english, {slot: both[0] for slot, both in words.items()})
        text_zh, spans_zh = fill(chinese, {slot: both[1] for slot, both in words.items()})
        result.append(Pair(text, text_zh, [(spans[slot], spans_zh[slot]) for slot in words]))
    return list({pair.chinese: pair for pair in result}.values())
