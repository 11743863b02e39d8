"""A sheet of pictures: the words in each row, a seed in each column. A seed draws the same, alone or among others."""

from PIL import Image

import inkwash

PROMPTS = ["a red apple", "a blue car", "a sunflower"]
COLUMNS = 4

emoji = inkwash.load("emoji-fast")
size = emoji.config.size
sheet = Image.new("RGB", (COLUMNS * size, len(PROMPTS) * size))
for row, prompt in enumerate(PROMPTS):
    for column, picture in enumerate(emoji.generate(prompt, n=COLUMNS, seed=0)):
        sheet.paste(picture, (column * size, row * size))
sheet.save("sheet.png")
