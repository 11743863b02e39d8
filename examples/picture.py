"""A picture from words, in three lines."""

import inkwash

emoji = inkwash.load("emoji")
emoji.generate("a red fox", style="flat", seed=7).save("fox.png")  # `inkwash again fox.png` makes it anew
