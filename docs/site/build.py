"""Builds the site of the documents in build/docs, and proves it whole: no link is dead, nothing comes from elsewhere.

The pages are gathered in build/pages, in the folders where they lie here, so that their links stay what they are on
GitHub. A link to a file leads to a copy of it, one to a folder to its README, or else it becomes its name.
"""

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parents[2]
PAGES, SITE = ROOT / "build" / "pages", ROOT / "build" / "docs"
WRITTEN = ("*.md", "docs/*.md", "docs/results/*.md", "docs/zh/*.md", "examples/*.md", "src/inkwash/weights/*/card.md")
# pages of the reference: names; or "package: modules", all that the package names of these; or "module:", all of it
REFERENCE = {
    "inkwash": ["inkwash.load", "inkwash.Studio", "inkwash.AsyncStudio", "inkwash.studio.client.StudioError"],
    "Pictures": ["inkwash.systems.pictures.pipeline.Pipeline"],
    "Series": [
        "inkwash.systems.series.train.fit_forecaster",
        "inkwash.systems.series.cross_validation.cross_validate",
        "inkwash.systems.series.backtest.Backtest",
        "inkwash.systems.series.model.Forecaster",
        "inkwash.systems.series.model.Forecast",
    ],
    "Language": [
        "inkwash.systems.language.model.Writer",
        "inkwash.systems.language.controls.parse_constraints",
        "inkwash.systems.language.controls.Constraints",
    ],
    "Crystals": [
        "inkwash.systems.crystals.model.CrystalModel",
        "inkwash.systems.crystals.generation.generate",
        "inkwash.systems.crystals.files.read_crystals",
        "inkwash.systems.crystals.data.Crystal",
    ],
    "Proteins": [
        "inkwash.systems.protein.model.BackboneModel",
        "inkwash.systems.protein.scaffold.scaffold",
        "inkwash.systems.protein.scaffold.Scaffold",
    ],
    "Segmentation": ["inkwash.systems.segmentation.model.SegmentationModel"],
    "Detection": ["inkwash.systems.detection.model.DetectionModel"],
    "Restoration": [
        "inkwash.systems.restoration.upscaler.Upscaler",
        "inkwash.systems.restoration.editor.Editor",
        "inkwash.systems.restoration.editor.Edited",
        "inkwash.systems.restoration.cascade.Cascade",
    ],
    "Systems": ["inkwash.systems.base:", "inkwash.systems.report:"],
    "Processes": ["inkwash.diffusion: schedule process categorical"],
    "Denoisers": ["inkwash.diffusion: parametrization denoiser losses"],
    "Grids": ["inkwash.diffusion: grid"],
    "Samplers": ["inkwash.diffusion: samplers multistep"],
    "Guides": ["inkwash.diffusion: guides"],
    "Sampling": ["inkwash.diffusion: driver noise errors"],
    "Inference": ["inkwash.inference: likelihood particles"],
}


def main() -> int:
    shutil.rmtree(PAGES, ignore_errors=True)
    for page in (page for pattern in WRITTEN for page in ROOT.glob(pattern)):
        write(page.relative_to(ROOT), gathered(page) + (programs() if page.parent.name == "examples" else ""))
    for name, parts in REFERENCE.items():
        write(Path("reference", f"{name.lower()}.md"), f"# {name}\n" + "".join(map(reference, parts)))
    subprocess.run([sys.executable, "-m", "zensical", "build", "--clean", "--strict"], cwd=ROOT, check=True)
    found = mistakes(SITE)
    print(*found, f"{len(list(SITE.rglob('*.html')))} pages, {len(found)} mistakes: {SITE}/index.html", sep="\n")
    return bool(found)


def write(page: Path, text: str) -> None:
    (PAGES / page).parent.mkdir(parents=True, exist_ok=True)
    (PAGES / page).write_text(text, encoding="utf-8")


def gathered(page: Path) -> str:
    """The text of a page, whose linked files are copied beside it."""

    def link(found: re.Match[str]) -> str:
        target = (page.parent / found[2]).resolve()
        if target.is_dir():
            return f"[{found[1]}]({found[2]}/README.md)" if (target / "README.md").exists() else found[1]
        if target.is_file() and target.suffix != ".md":
            copy = PAGES / target.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(target, copy)
        return found[0]

    text = re.sub(
        "(?<=[\u3000-\uffff])\n(?=[\u3000-\uffff])", "", page.read_text(encoding="utf-8")
    )  # Chinese has no spaces
    return re.sub(r"\[([^]]*)]\(([^)#:\s]+)\)", link, text)


def programs() -> str:
    """The examples, whole, each under its name."""
    files = sorted(ROOT.glob("examples/*.py"))
    return "".join(f"\n## {file.name}\n\n```python\n{file.read_text(encoding='utf-8')}```\n" for file in files)


def reference(part: str) -> str:
    """What mkdocstrings is asked for: see REFERENCE."""
    face, colon, modules = part.partition(":")
    if not colon:
        return f"\n::: {face}\n"
    text = ""
    for module in map(import_module, [f"{face}.{name}" for name in modules.split()] or [face]):
        own = [name for name, thing in vars(module).items() if getattr(thing, "__module__", "") == module.__name__]
        public = [name for name in own if name[0] != "_" and name in vars(import_module(face))]
        text += f"\n## {module.__name__}\n\n{module.__doc__}\n"
        text += "".join(f"\n::: {module.__name__}.{name}\n    options:\n      heading_level: 3\n" for name in public)
    return text


class Page(HTMLParser):
    """Of a page, its anchors, where its links lead, and what it loads."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.anchors, self.links, self.loaded = {""}, set(), set()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        target = given.get("href", given.get("src"))
        if target is not None:
            (self.links if tag == "a" or given.get("rel") == "alternate" else self.loaded).add(target)


def mistakes(site: Path) -> list[str]:
    """Each in a line: links within the site that lead nowhere, and what is loaded from another host."""
    pages = {file: Page(file) for file in sorted(site.rglob("*.html"))}
    found = []
    for file, page in pages.items():
        name = file.relative_to(site)
        found += [f"{name} loads {url}" for url in page.loaded if urlsplit(url).netloc]
        for link in sorted(page.links | page.loaded):
            url = urlsplit(link)
            if url.scheme or url.netloc:
                continue
            path = unquote(url.path)
            target = (site / path[1:] if path.startswith("/") else file.parent / path if path else file).resolve()
            if not target.is_file() or (target in pages and unquote(url.fragment) not in pages[target].anchors):
                found.append(f"{name} has a dead link: {link}")
    for file in site.rglob("*.css"):
        sources = re.findall(r"(?:@import|url\()\s*[\"']?((?:https?:)?//[^\"')]+)", file.read_text(encoding="utf-8"))
        found += [f"{file.relative_to(site)} loads {url}" for url in sources]
    return found


if __name__ == "__main__":
    sys.exit(main())
