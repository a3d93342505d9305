"""Everything that documents, docstrings and comments name exists: files, names of the code, boards, sections, links.

tests/test_doc_commands.py checks commands and options, tests/hw/test_latencies.py checks latencies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import lutern
from documents import (
    FENCE,
    FOLDERS,
    PAGES,
    ROOT,
    SOURCES,
    Passage,
    classes,
    code_words,
    messages,
    passages,
    words_of_class,
)
from lutern.boards.catalog import BOARDS
from lutern.hw.presets import PRESETS

SUFFIXES = r"cpp|h|json|md|png|py|sv|svg|toml|txt|v|vlt"
PATH = re.compile(
    rf"(?<![\w/.~-])((?:{'|'.join(FOLDERS)})/(?:[\w.-]+/)*(?:[\w-]+\.(?:{SUFFIXES})\b|(?=[\s`|,.;:)]|$)))"
)
"""A path from the root: `folder/file.py`, or a folder followed by a slash."""
FILE = re.compile(r"[\w-]+\.(?:cpp|h|py|sv|v|vlt)")
"""A file name without a folder."""
ROOMS = "|".join(folder for folder in FOLDERS if folder != "lutern")
NAME = re.compile(rf"(?:lutern\.)?((?:{ROOMS})\.[\w.]*\w)(?:\(.*\))?")
"""A module, or a name in a module: `hw.config`, ``model_ref.norm.quantise``."""
FRONT = re.compile(r"lutern\.([A-Za-z_]\w*)")
"""A name of the package `lutern`, as `import lutern` offers it."""
WORD = re.compile(r"(?<![\w.:/%{}<>-])(?=\w*[a-z])(?:[A-Za-z]\w*_\w+|[A-Z][a-z0-9]+[A-Z]\w*)(?!\w|[-/%:]\w)")
"""A name of the code: it contains an underscore, or a capital letter after a small letter."""
SELECTION = re.compile(r"-k \w+")
"""A part of the names of tests. tests/test_doc_commands.py checks it."""
MEMBER = re.compile(r"([A-Z]\w+)\.([a-z_]\w*)")
"""A member of a class."""
MACHINE = re.compile(
    rf"(?<![\w/.-])(?:{'|'.join(sorted({name.partition('-')[0] for name in PRESETS} - {'tiny'}))})-x?\d\w*"
)
BOARD = re.compile(
    rf"(?<![\w/.-])(?:{'|'.join(sorted({name.partition('-')[0] for name in BOARDS}))})-[a-z0-9]+\b(?![-/])"
)
SECTION = re.compile(r'(docs/[\w/-]+\.md)[`)]*,? \(?"([^"]+)"')
"""A section of a page by its heading: docs/engine.md, "Cycles"."""
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
NAMES = {path.name for folder in FOLDERS for path in (ROOT / folder).rglob("*.*")}

PLACEHOLDERS = {"boards/NAME.py", "lutern.X"}
"""Names that a reader must replace."""
GENERATED = re.compile(r"(?:\.\./)*(?:contributing\.md|changelog\.md|security\.md|api/\w+\.md|token\.svg)")
"""Pages and pictures that are generated with the documentation site, so that the repository does not contain them."""
FOREIGN = {
    *("peripheral_reset", "peripheral_aresetn", "proc_sys_reset"),  # Vivado
    *("uio_pdrv_genirq", "save_to_disk", "weight_quant", "memory_libmap"),  # Linux, datasets, the published code, yosys
    *("feather_serial", "n_extrst"),  # pins in the files of others
    *("c_gate", "m_axi0_araddr", "tap_codes"),  # a formula, and ports whose names the code puts together
}
"""Names of other projects, and names that the code composes from parts."""
FORMULA = re.compile(r"\w{1,2}_\w{1,2}")


def is_there(name: str) -> bool:
    """Return whether a dotted name is a folder or a module, or a module followed by words that the file of the module
    contains."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        place = ROOT.joinpath(*parts[:count])
        file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if file.is_file():
            text = file.read_text()
            return all(re.search(rf"\b{part}\b", text) for part in parts[count:])
    return False


def unknown(code: str) -> Iterator[str]:
    """Yield the names in a code span that the code does not contain."""
    if code in PLACEHOLDERS:
        return
    if FILE.fullmatch(code) and code not in NAMES:
        yield code
    if (match := NAME.fullmatch(code)) and not code.endswith(".py"):
        if not is_there(match[1]):
            yield match[1]
    elif match := FRONT.match(code):
        if match[1] not in (*lutern.__all__, "__version__") and not (ROOT / match[1]).is_dir():
            yield match[0]
    for match in MEMBER.finditer(code):
        if match[1] in classes() and match[2] not in words_of_class(match[1]):
            yield match[0]
    if FILE.fullmatch(code) or PATH.match(code):
        return
    for match in WORD.finditer(SELECTION.sub("", code)):
        known = {match[0], match[0].rstrip("_0123456789")} & (code_words() | FOREIGN)
        if not known and not FORMULA.fullmatch(match[0]):
            yield match[0]


def headings(page: Path) -> list[str]:
    return re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)


def anchor(heading: str) -> str:
    """Return the anchor of a heading on the displayed page."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def missing(passage: Passage) -> Iterator[tuple[int, str]]:
    """Yield the offset and the name of everything that a passage names but that does not exist."""
    checks: tuple[tuple[re.Pattern[str], Callable[[str], bool]], ...] = (
        (PATH, lambda path: path in PLACEHOLDERS or bool(GENERATED.fullmatch(path)) or (ROOT / path).exists()),
        (MACHINE, lambda name: name in PRESETS),
        (BOARD, lambda name: name in BOARDS),
    )
    for pattern, exists in checks:
        for match in pattern.finditer(passage.text):
            if not exists(match[0]):
                yield match.start(), match[0]
    for offset, code in passage.spans():
        for name in unknown(code):
            yield offset, name
    for match in SECTION.finditer(passage.text):
        if (ROOT / match[1]).exists() and " ".join(match[2].split()) not in headings(ROOT / match[1]):
            yield match.start(), f'{match[1]}, "{match[2]}"'


def test_what_is_named_exists() -> None:
    found = [
        f"{passage.place(offset)}: there is no {name}"
        for passage in passages()
        if passage.path != Path(__file__)
        for offset, name in missing(passage)
    ]
    assert not found, "\n".join(found)


def test_pages_that_messages_name() -> None:
    found = [
        f"{passage.place(match.start())}: there is no {match[0]}"
        for passage in messages()
        for match in re.finditer(r"(?<!bitnet-kv260, )docs/[\w/-]+\.md", passage.text)
        if not (ROOT / match[0]).exists()
    ]
    assert not found, "\n".join(found)


def broken(page: Passage) -> Iterator[tuple[int, str]]:
    """Yield the offset and the target of each link that leads to no file or to no heading of this project."""
    for match in LINK.finditer(page.text):
        target, _, name = match[1].partition("#")
        if ":" in target or GENERATED.fullmatch(target):
            continue
        file = (page.path.parent / target).resolve() if target else page.path
        if not file.exists() or (name and name not in map(anchor, headings(file))):
            yield match.start(), match[1]


def test_links() -> None:
    pages = [Passage(path, 1, path.read_text()) for path in PAGES]
    found = [f"{page.place(offset)}: {target} leads nowhere" for page in pages for offset, target in broken(page)]
    assert not found, "\n".join(found)


def test_every_page_is_linked() -> None:
    """README, another page or the site's list of pages links to every page."""
    lists = [*PAGES, *ROOT.glob("mkdocs.yml")]
    for page in sorted((ROOT / "docs").rglob("*.md")):
        others = (path for path in lists if path != page)
        assert page.stem == "index" or any(page.name in path.read_text() for path in others), (
            f"nothing links to {page.relative_to(ROOT)}"
        )


def test_presets_are_those_of_the_page() -> None:
    page = (ROOT / "docs" / "engine.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("|")]
    said = {row[0]: row[1:] for row in rows if row[0] in PRESETS and len(row) == 12}
    for name, config in PRESETS.items():
        sizes = (config.lanes, config.results_per_cycle, config.codes_per_cycle, config.streams)
        limits = (f"{config.max_width:,}", f"{config.max_vocab:,}", f"{config.clock_hz / 1e6:.4g}")
        wanted = [config.source, config.memory, str(8 * config.word_bytes), *map(str, sizes), config.state, *limits]
        assert said.get(name) == wanted, f"docs/engine.md: the row of {name} must be {wanted}"


def test_boards_are_on_their_page() -> None:
    """The page may name a range of boards by the first and the last board: `ulx3s-12f` ... `ulx3s-85f`."""
    page = (ROOT / "docs" / "boards.md").read_text()
    absent = [name for name in BOARDS if f"`{name.rpartition('-')[0] or name}" not in page]
    assert not absent, f"docs/boards.md does not name {absent}"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("see hw/top.py, `hw/norm/` and docs/engine.md.", []),
        ("see hw/tops.py and `hw/norms/`", ["hw/tops.py", "hw/norms/"]),
        ("`top.py`, `tops.py`, `sdram.v`, `dram.v`", ["tops.py", "dram.v"]),
        ("``model_ref.norm.quantise``, `lutern.hw.norm`, ``hw.norm.RmsNorm``", []),
        ("``model_ref.norm.quantize``, `lutern.hw.norms`", ["model_ref.norm.quantize", "hw.norms"]),
        ("`lutern.load(name)`, `lutern.lode`", ["lutern.lode"]),
        ("`RmsNorm`, `RmsNorms(x)`, `record_words`, `record_wards`", ["RmsNorms", "record_wards"]),
        ("`HwConfig.lanes`, `HwConfig.lane_colours`, `HwConfig.paint`", ["HwConfig.lane_colours", "HwConfig.paint"]),
        ("resident-85f on an `ulx3s-85f`; `resident-86f`, ulx3s-86f", ["resident-86f", "ulx3s-86f"]),
        ('docs/engine.md, "Cycles"; docs/engine.md, "Bicycles"', ['docs/engine.md, "Bicycles"']),
        ("```\nrecord_wards\n```", []),
    ],
)
def test_names_can_be_missed(text: str, names: list[str]) -> None:
    assert [name for _, name in missing(Passage(ROOT / "page.md", 1, text))] == names


def test_links_can_be_broken() -> None:
    text = (
        "[a](README.md) [b](docs/engine.md#cycles) [c](docs/engines.md)\n[d](docs/engine.md#bicycles) [e](https://x.y)"
    )
    page = Passage(ROOT / "page.md", 1, text)
    assert [(page.place(offset), target) for offset, target in broken(page)] == [
        ("page.md, line 1", "docs/engines.md"),
        ("page.md, line 2", "docs/engine.md#bicycles"),
    ]


def test_sources_are_found() -> None:
    assert len(SOURCES) > 300 and len(PAGES) > 15 and len(passages()) > 3000
