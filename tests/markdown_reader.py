"""Our Markdown documents in pieces: fenced blocks, links, inline code, the commands that they give."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Inline code is a command if it begins with one of these and has more to say.
PROGRAMS = (
    "python", "pip", "conda", "source", "torchrun", "voila", "jupyter", "pytest", "ruff", "mypy", "git", "for",
    "./run_experiments.sh", ".ci/run",
)  # fmt: skip


def documents() -> list[Path]:
    """Every Markdown file that we wrote; the front page once, not by its second name."""
    found = [p for folder in (".", "docs", "benchmarks", "results/[!.]*") for p in ROOT.glob(f"{folder}/*.md")]
    return sorted(p for p in found if not p.is_symlink())


def notebooks() -> list[Document]:
    """The prose of each notebook."""
    found = []
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        found.append(Document(path, "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")))
    return found


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the rest of its first line, its text, and where it stands in the document."""

    language: str
    name: str
    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Document:
    path: Path
    given: str | None = None  # the text, where it is not the file's

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8") if self.given is None else self.given

    @cached_property
    def blocks(self) -> list[Block]:
        found = []
        for m in FENCE.finditer(self.text):
            language, _, name = m.group(1).strip().partition(" ")
            found.append(Block(language, name, m.group(2), m.start(), m.end()))
        return found

    @cached_property
    def prose(self) -> str:
        """The text without fenced blocks and comments."""
        return re.sub(r"<!--.*?-->", "", FENCE.sub("", self.text), flags=re.DOTALL)

    @property
    def inline_code(self) -> list[str]:
        return [" ".join(m.split()) for m in re.findall(r"(?<!`)`([^`]+)`(?!`)", self.prose)]

    @property
    def links(self) -> list[str]:
        return re.findall(r"!?\[[^\]]*\]\(([^)\s]+)\)", self.prose)

    @property
    def images(self) -> list[tuple[str, str]]:
        """Alternative text and path."""
        return re.findall(r"!\[([^\]]*)\]\(([^)\s]+)\)", self.prose)

    @cached_property
    def anchors(self) -> set[str]:
        """The headings as GitHub names them in addresses."""
        titles = re.findall(r"^#+ (.+)$", self.prose, re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles}

    @property
    def commands(self) -> list[str]:
        """Every command of its shell blocks and of its inline code, one by one."""
        found = []
        for block in self.blocks:
            if block.language == "bash":
                for line in block.text.replace("\\\n", " ").splitlines():
                    found += split(line)
        for code in self.inline_code:
            first, _, rest = code.partition(" ")
            if first in PROGRAMS and (rest or first.startswith(".")):
                found += split(code)
        return found

    def outputs(self) -> list[tuple[Block, Block]]:
        """Blocks of shell or Python, each with the block of text that directly follows and shows what it prints."""
        pairs = zip(self.blocks, self.blocks[1:], strict=False)
        return [
            (a, b)
            for a, b in pairs
            if a.language in ("bash", "python") and b.language == "text" and not self.text[a.end : b.start].strip()
        ]


def split(line: str) -> list[str]:
    """The commands of a line of shell: without comments and redirections, each ``&&`` apart, a loop by its passes."""
    loop = re.fullmatch(r"for (\w+) in ([^;]+); do (.+); done", line.strip())
    if loop:
        name, values, body = loop.groups()
        return [c for value in values.split() for c in split(body.replace(f"${name}", value))]
    words = shlex.split(line, comments=True)
    if ">" in words:
        words = words[: words.index(">")]
    found: list[list[str]] = [[]]
    for word in words:
        if word == "&&":
            found.append([])
        else:
            found[-1].append(word)
    return [shlex.join(c) for c in found if c]
