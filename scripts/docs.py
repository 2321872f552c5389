"""Writes the pages of docs/ that are drawn from the code, or checks that they still fit it.

python -m scripts.docs            # docs/cli.md, docs/scores.md and docs/architecture.svg
python -m scripts.docs --check    # exits with 1 where one of them is out of date
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections import Counter
from collections.abc import Iterator
from html import escape
from pathlib import Path

import click
import typer

from lsn_core.cli.app import build
from lsn_core.scores.registry import SCORES

REPO = Path(__file__).resolve().parents[1]
DOCS = REPO / "docs"
SIGMOID = """
## Backbones trained with a sigmoid

SigLIP and its successor learn from each pair of a photo and a text by itself: the probability of a pair is
sigmoid(cosine / τ + b), with τ and b the model's own (`Backbone.temperature`, `Backbone.bias`; published ones have
τ about 0.0085, where OpenAI's have 0.01). No softmax over texts was ever trained.

- `sigmoid` is what such a model means by its numbers. It is absolute: a class that is added never lowers it, one
  class is enough, and without photos its threshold is one half. It reads the hand-written prompts, since learning
  by cross-entropy over classes leaves open a shift that all classes share. It is offered, and kept in a detector's
  file, only where the backbone has a bias.
- `max-cosine` orders images as `sigmoid` does on the same prompts, as the one grows with the other.
- `zero-shot-mcm`, `mcm`, `lsn`, `lsn-eq9`, `lsn-reference` and `negatives-only` compare classes with one another at
  temperatures far above the model's own. The bias cancels in every softmax, so they say how much better the best
  class fits than the others, as for any CLIP. What is lost is the step from there to "a match": where nothing fits
  and one class fits a little less badly, a softmax near the model's own τ is as sure as of a match, and the paper's
  τ of 1 and 5 (in units, 100 and 500 of the model's own) hides this by flattening all. They stay usable, calibrated
  on photos.
- `difference`, `clipn-ctw` and `clipn-atd` set a class against its own learned negatives; the bias, being the same
  on both sides, cancels there, and they mean what they mean for any CLIP.
- `neglabel` and `prototypes` hold classes against nouns by a softmax, which was not trained but needs no bias.
- `knn` and the part of `vim` outside the space of the photos see no text.

All temperatures, of training too, are multiples of the backbone's own: the presets' 1 and 5 are τ = 0.0085 and
0.043 on a SigLIP whose own is 0.0085. `PromptConfig.temperature` sets a fixed one, and no preset does.
"""
# Packages and modules from top to bottom, as the import rules in pyproject.toml have them.
LAYERS = (
    ("benchmarks.tables", "lsn_app.page"),
    ("benchmarks.methods", "lsn_app.detect", "lsn_app.negation", "lsn_app.train", "lsn_app.evaluate"),
    ("benchmarks.harness", "lsn_app.shared", "lsn_app.serving"),
    ("lsn_core.cli", "lsn_core.jobs"),
    ("lsn_core.heatmaps", "lsn_core.training", "lsn_core.evaluation", "lsn_core.negation"),
    ("lsn_core.detector", "lsn_core.handoff", "lsn_core.monitoring", "lsn_core.cluster"),
    ("lsn_core.prompts", "lsn_core.losses", "lsn_core.scores", "lsn_core.calibration", "lsn_core.metrics"),
    ("lsn_core.backbones", "lsn_core.data"),
)
_WIDTH, _BOX, _ROW, _HEIGHT = 1000, 172, 96, 44
_COLOURS = {"benchmarks": "#fde8cf", "lsn_app": "#d9ecfb", "lsn_core": "#e3f3df"}


def main() -> None:
    """Writes or checks the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args()
    stale = []
    pages = {"cli.md": command_line(), "scores.md": scores(), "architecture.svg": architecture()}
    for path, text in ((DOCS / name, text) for name, text in pages.items()):
        if not options.check:
            path.write_text(text)
        elif not path.is_file() or path.read_text() != text:
            stale.append(path.name)
    if stale:
        sys.exit(f"docs/ is out of date ({', '.join(stale)}): run python -m scripts.docs")


def command_line() -> str:
    """docs/cli.md: every command with its help, arguments and options."""
    parts = [
        "# Command line\n\nMade from the commands' own help by `python -m scripts.docs`; `make check` fails where this "
        "page is out of date.\n"
    ]
    for name, command in _commands("python -m lsn_core", typer.main.get_command(build())):
        parts.append(f"## `{name}`\n\n{(command.help or '').strip()}\n")
        rows = [_option(parameter) for parameter in command.params if not getattr(parameter, "hidden", False)]
        if rows:
            parts.append("\n".join(["| option | default | meaning |", "| --- | --- | --- |", *rows]) + "\n")
    return "\n".join(parts)


def scores() -> str:
    """docs/scores.md: every registered score, its source and what it needs."""
    parts = [
        "# Scores\n",
        "Made from the registry in `lsn_core/scores/registry.py` by `python -m scripts.docs`. Every score is higher\n"
        "for images of the known classes, and an image's does not depend on the others it is scored with. All need\n"
        "class names; a sum adds up scores in units of their spread over photos of known classes. `--score NAME`\n"
        "takes them on the command line, `Detector.with_score` in Python.\n",
        "| score | what it is | source | needs besides | fewest classes |\n| --- | --- | --- | --- | --- |",
    ]
    for name, score in SCORES.items():
        about = score.about + (f" (`{'` + `'.join(score.sum_of)}`)" if score.sum_of else "")
        needs = ", ".join(sorted(score.needs)) or "-"
        parts.append(f"| `{name}` | {about} | {score.source} | {needs} | {score.min_classes} |")
    return "\n".join([*parts, SIGMOID])


def _commands(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if hasattr(command, "commands"):
        for inner, one in command.commands.items():
            yield from _commands(f"{name} {inner}", one)


def _option(parameter: click.Parameter) -> str:
    is_option = parameter.param_type_name == "option"
    names = ", ".join([*parameter.opts, *parameter.secondary_opts]) if is_option else f"{parameter.name}".upper()
    plain = parameter.default if isinstance(parameter.default, str | int | float | bool) else None
    default = "required" if parameter.required else "" if plain is None else f"`{plain}`"
    variable = f" Environment: `{parameter.envvar}`." if parameter.envvar else ""
    text = (getattr(parameter, "help", None) or "") + variable
    return f"| `{names}` | {default} | {text.replace('|', '/')} |"


def package_imports() -> Counter[tuple[str, str]]:
    """(importer, imported) -> import statements between packages of LAYERS; those inside functions count."""
    packages = [name for layer in LAYERS for name in layer]
    counts: Counter[tuple[str, str]] = Counter()

    def package(module: str) -> str | None:
        return next((name for name in packages if module == name or module.startswith(f"{name}.")), None)

    for root in ("lsn_core", "lsn_app", "benchmarks"):
        for path in sorted((REPO / root).rglob("*.py")):
            importer = package(".".join(path.relative_to(REPO).with_suffix("").parts).removesuffix(".__init__"))
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.ImportFrom) or importer is None or node.module is None:
                    continue
                for alias in node.names:
                    imported = package(f"{node.module}.{alias.name}") or package(node.module)
                    if imported and imported != importer:
                        counts[importer, imported] += 1
    return counts


def architecture() -> str:
    """docs/architecture.svg: packages in layers, and an arrow for each pair of which one imports the other."""
    centres: dict[str, tuple[float, float]] = {}
    for row, layer in enumerate(LAYERS):
        for column, name in enumerate(layer):
            centres[name] = (_WIDTH * (column + 0.5) / len(layer), 40 + row * _ROW)
    height = 40 + len(LAYERS) * _ROW
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0 8 4 0 8z" fill="#667"/></marker></defs>',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
    ]
    for (importer, imported), count in sorted(package_imports().items()):
        (x1, y1), (x2, y2) = centres[importer], centres[imported]
        level = y1 == y2
        start, end = (y1, y2) if level else (y1 + _HEIGHT / 2, y2 - _HEIGHT / 2)
        if level:
            x1, x2 = (x1 + _BOX / 2, x2 - _BOX / 2) if x1 < x2 else (x1 - _BOX / 2, x2 + _BOX / 2)
        parts.append(
            f'<line x1="{x1:.0f}" y1="{start:.0f}" x2="{x2:.0f}" y2="{end:.0f}" stroke="#667" opacity="0.45" '
            f'stroke-width="{min(4.0, 0.6 + count / 8):.1f}" marker-end="url(#tip)">'
            f"<title>{importer} imports {imported}: {count}</title></line>"
        )
    for name, (x, y) in centres.items():
        root, _, short = name.partition(".")
        parts.append(
            f'<rect x="{x - _BOX / 2:.0f}" y="{y - _HEIGHT / 2:.0f}" width="{_BOX}" height="{_HEIGHT}" rx="8" '
            f'fill="{_COLOURS[root]}" stroke="#99a"/><text x="{x:.0f}" y="{y - 4:.0f}" text-anchor="middle" '
            f'font-size="11" fill="#556">{escape(root)}</text><text x="{x:.0f}" y="{y + 13:.0f}" text-anchor="middle" '
            f'font-size="15" fill="#112">{escape(short)}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    main()
