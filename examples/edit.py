"""Pictures from a picture: a part of it drawn anew, and variations."""

from PIL import Image, ImageDraw

import inkwash

emoji = inkwash.load("emoji")
house = emoji.generate("a house", style="flat", seed=3)

mask = Image.new("L", house.size)  # black is kept
ImageDraw.Draw(mask).rectangle((0, 0, house.width, house.height // 2), fill=255)  # white is drawn anew
emoji.generate("a house with a blue roof", style="flat", image=house, mask=mask, seed=1).save("roof.png")

for strength in (0.4, 0.7):  # how much may change
    emoji.generate("a house", image=house, strength=strength, seed=2).save(f"varied-{strength}.png")
