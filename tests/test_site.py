"""What `make docs` refuses: links that lead nowhere, and what would be loaded from another host."""

import runpy
from pathlib import Path

SITE = runpy.run_path(str(Path(__file__).parents[1] / "docs" / "site" / "build.py"))


def mistakes(folder, body, style=""):
    (folder / "a.html").write_text(f"<h1 id='top'>A</h1>{body}", encoding="utf-8")
    (folder / "b.html").write_text("<h2 id='甲'>B</h2>", encoding="utf-8")
    (folder / "c.css").write_text(style, encoding="utf-8")
    return SITE["mistakes"](folder)


def test_a_whole_site_has_no_mistakes(tmp_path):
    body = """<link rel=stylesheet href=c.css><img src="data:,"><a href="#top">1</a><a href="b.html#%E7%94%B2">2</a>
        <a href="/b.html">3</a><a href="https://example.org/x">4</a><a href="mailto:a@example.org">5</a>"""
    assert mistakes(tmp_path, body, "a { background: url(data:,) } b { background: url(c.css) }") == []


def test_dead_links_are_named(tmp_path):
    body = "<a href='d.html'>1</a><a href='b.html#top'>2</a><a href='#x'>3</a><img src='d.png'><a href='.'>4</a>"
    links = [line.removeprefix("a.html has a dead link: ") for line in mistakes(tmp_path, body)]
    assert links == ["#x", ".", "b.html#top", "d.html", "d.png"]


def test_what_is_loaded_from_elsewhere_is_named(tmp_path):
    body = (
        "<script src='https://x.org/a.js'></script><img src='//x.org/a.png'><link rel=preconnect href=https://x.org>"
    )
    assert len(mistakes(tmp_path, body)) == 3
    assert mistakes(tmp_path, "", "@import url('https://x.org/a.css'); a { src: url(//x.org/f.woff) }") == [
        "c.css loads https://x.org/a.css",
        "c.css loads //x.org/f.woff",
    ]


def test_the_reference_shows_what_the_package_names():
    text = SITE["reference"]("inkwash.diffusion: grid")
    assert "::: inkwash.diffusion.grid.karras" in text and "::: inkwash.diffusion.grid.Grid" in text
    assert "NoiseLevel" not in text  # of another module
