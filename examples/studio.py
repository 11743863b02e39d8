"""A program that asks a studio: start one with `inkwash studio`; it may be on this machine or another."""

import inkwash

with inkwash.Studio() as studio:  # the one of this machine; else Studio("http://host:7860", key="ink-...")
    print([model.name for model in studio.models()])
    studio.generate("a red fox", style="flat", seed=7).save("fox.png")  # waits as long as the queue takes

    request = {"control": ["food=Italian"], "length": 12, "n": 2, "seed": 18}
    print(studio.plan("language", "write", **request).text)
    job = studio.start("language", "write", **request)  # in the queue: done whatever happens to this program
    for state in studio.follow(job):
        print(state.status)
    for result in state.results:
        print(result.row["text"])
