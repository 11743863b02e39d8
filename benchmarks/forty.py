"""Prompts that nobody tuned on, drawn once each in the styles by turns: forty in docs/forty.png, for icons sixty in
docs/icons-sixty.png: twenty common things, then ten lines of two things, of adjectives, of actions and of phrases.

python benchmarks/forty.py [--model emoji] [--size 64] [--out FILE]
"""

from pathlib import Path

from PIL import Image, ImageDraw

import common
import inkwash
from common import QUICK, ROOT, font

EMOJI = """a lighthouse|a red bicycle|a purple cat|a cup of coffee|a snowman with a hat|a green dragon|three candles
a yellow submarine|a sleeping bear|an orange fish|a castle|a blue rose|a pirate|a slice of watermelon|a black umbrella
a robot with a heart|a mushroom house|a pink elephant|a violin|an angry cloud|a treasure chest|a brown guitar
a space rocket|a green face|a peacock|一只红色的狐狸|蓝色的苹果|一杯茶|微笑的太阳|绿色的汽车|一个礼物|紫色的花|雪人
黄色的雨伞|一条鱼|火山|粉色的心|图书馆|戴着帽子的猫|飞机"""
ICONS = """rocket|coffee cup|house|key|umbrella|camera|bicycle|guitar|anchor|scissors|mushroom|fish|alarm clock|crown
a tree|an open book|汽车|灯泡|雪人|蝴蝶
shopping cart with a heart|folder with a plus|sun behind a cloud|house with a heart|mail with a check
phone with a lock|a cat and a fish|calendar with a star|带锁的文件夹|太阳和云
broken heart|empty battery|smiling sun|bell crossed out|a sad face|a sleeping moon|a tall building|a wrapped gift
打开的信|圆形的钟
person running|hand holding a heart|sending a letter|a dog walking|swimming|cooking|a bird flying|reading a book
骑自行车|跳舞的人
good night|happy birthday|free delivery|work from home|out of order|do not disturb|a cup of hot tea|time is money
生日快乐|外卖"""


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--model", default="emoji")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    model, side, text = inkwash.load(options.model), 128, 34
    icons = model.config.distance_field
    prompts = (ICONS if icons else EMOJI).replace("\n", "|").split("|")[:: 8 if QUICK else 1]
    columns = 10 if icons else 8
    page = Image.new("RGB", (columns * (side + 12), -(-len(prompts) // columns) * (side + text)), "white")
    draw = ImageDraw.Draw(page)
    for i, prompt in enumerate(prompts):
        style = model.config.styles[i % len(model.config.styles)]
        picture = model.generate(prompt, style=style, seed=i, size=options.size)
        left, top = i % columns * (side + 12) + 6, i // columns * (side + text)
        small = picture.convert("RGBA").resize((side, side), Image.Resampling.LANCZOS)
        page.paste(small, (left, top + text - 2), small)
        draw.text((left, top + 4), f"{prompt}\n{style}", fill="black", font=font(11), spacing=1)
    name = "icons-sixty" if icons else "forty" if options.size == 64 else f"forty-{options.size}"
    file = options.out or ROOT / "docs" / f"{name}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    page.save(file)
    print(f"{len(prompts)} pictures: {file}")


if __name__ == "__main__":
    main()
