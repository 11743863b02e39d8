"""Forty prompts that nobody tuned on, drawn once each in the styles by turns: docs/forty.png.

python benchmarks/forty.py [--model emoji] [--size 64]
"""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

import common
import inkwash
from common import QUICK, ROOT

PROMPTS = """a lighthouse|a red bicycle|a purple cat|a cup of coffee|a snowman with a hat|a green dragon|three candles
a yellow submarine|a sleeping bear|an orange fish|a castle|a blue rose|a pirate|a slice of watermelon|a black umbrella
a robot with a heart|a mushroom house|a pink elephant|a violin|an angry cloud|a treasure chest|a brown guitar
a space rocket|a green face|a peacock|一只红色的狐狸|蓝色的苹果|一杯茶|微笑的太阳|绿色的汽车|一个礼物|紫色的花|雪人
黄色的雨伞|一条鱼|火山|粉色的心|图书馆|戴着帽子的猫|飞机""".replace("\n", "|").split("|")[:: 8 if QUICK else 1]


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--model", default="emoji")
    parser.add_argument("--size", type=int, default=64)
    options = parser.parse_args()
    model, side, text = inkwash.load(options.model), 128, 34
    page = Image.new("RGB", (8 * (side + 12), 5 * (side + text)), "white")
    draw = ImageDraw.Draw(page)
    for i, prompt in enumerate(PROMPTS):
        style = model.config.styles[i % len(model.config.styles)]
        picture = model.generate(prompt, style=style, seed=i, size=options.size)
        left, top = i % 8 * (side + 12) + 6, i // 8 * (side + text)
        page.paste(picture.resize((side, side), Image.Resampling.LANCZOS), (left, top + text - 2))
        draw.text((left, top + 4), f"{prompt}\n{style}", fill="black", font=font(11), spacing=1)
    file = ROOT / "docs" / ("forty.png" if options.size == 64 else f"forty-{options.size}.png")
    file.parent.mkdir(parents=True, exist_ok=True)
    page.save(file)
    print(f"{len(PROMPTS)} pictures: {file}")


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """One with Chinese characters, if the machine has it."""
    for file in Path("/usr/share/fonts").rglob("*"):
        if file.suffix in (".ttc", ".ttf", ".otf") and any(word in file.name for word in ("CJK", "wqy", "Droid")):
            return ImageFont.truetype(str(file), size)
    return ImageFont.load_default(size)


if __name__ == "__main__":
    main()
