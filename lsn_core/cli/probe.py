"""The command `probe`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from tqdm import tqdm

from lsn_core.cli.options import (
    DATA_HELP,
    PHOTOS_HELP,
    BackboneOption,
    ClassesFileOption,
    DeviceOption,
    ImageColumnOption,
    JsonOption,
    LabelColumnOption,
    SplitOption,
    class_list,
    find_detector,
)
from lsn_core.cli.output import FEW, echo, echo_json
from lsn_core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from lsn_core.backbones.backbone import Backbone
    from lsn_core.data.features import FeatureSet
    from lsn_core.detector.detector import Detector

KINDS = ("written", "learned")


def probe(
    images: Annotated[list[Path] | None, typer.Argument(help=f"What to ask about: {PHOTOS_HELP}.")] = None,
    data: Annotated[
        Path | None, typer.Option(help=f"Labelled images, to count choices class by class. {DATA_HELP}")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Class names to ask about: dog,cat. Default: the detector's or the data's.")
    ] = None,
    classes_file: ClassesFileOption = None,
    texts: Annotated[list[str] | None, typer.Option(help="A text to choose from; give it twice or more.")] = None,
    template: Annotated[
        list[str] | None, typer.Option(help="A negative wording with {}; may be given again. Default: four of them.")
    ] = None,
    truth: Annotated[str | None, typer.Option(help="What the images show; default: the model's own guess.")] = None,
    count: Annotated[bool, typer.Option("--count", help="One line a class over all images, not one an image.")] = False,
    detector: Annotated[Path | None, typer.Option(help="A detector file: its learned prompts are asked too.")] = None,
    backbone: BackboneOption = None,
    split: SplitOption = None,
    image_column: ImageColumnOption = None,
    label_column: LabelColumnOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Show whether the model understands "not": which texts it chooses for images.

    A file that cannot be read gets its own line with an error, the others go on, and the exit code is 1.
    """
    if bool(images) == (data is not None):
        raise UserError("Give either images or --data DATA (one of the two).")
    if (count or data is not None) and (texts or truth):
        raise UserError("--texts and --truth are about single images; take them out, or --count and --data.")
    from lsn_core.backbones.loading import EMBEDDED, load_backbone
    from lsn_core.data.features import extract_features
    from lsn_core.data.labelled import load_data
    from lsn_core.data.photos import open_photos
    from lsn_core.data.splits import TEST, VALIDATION
    from lsn_core.detector.detector import Detector
    from lsn_core.negation import choose, written_prompts
    from lsn_core.prompts.written import NEGATIONS

    labelled = None
    if data is not None:
        labelled = load_data(
            data, split=split, guess=[TEST, VALIDATION], image_column=image_column, label_column=label_column
        )
    collection = labelled if labelled is not None else open_photos(images or [])
    learned = None
    if detector is not None:
        learned = Detector.load(find_detector(detector), load_backbone(backbone, device) if backbone else None)
    model = learned.backbone if learned else load_backbone(backbone or EMBEDDED, device)
    names = class_list(classes, classes_file) or []
    for brought in (learned, labelled):
        names = names or (list(brought.class_names) if brought is not None else [])
    if not names and not texts:
        raise UserError("Give --classes a,b,c, or --detector FILE, or --texts twice.")
    prompts = [written_prompts(model, names, template or NEGATIONS)] if names else []
    prompts += [learned] if learned is not None else []
    if texts:
        choose(model.encode_texts([texts[0]])[0], texts, model)  # a mistake in the texts is not each image's
    encoded = extract_features(model, collection, progress=len(collection) >= FEW, on_error="skip")
    if count or labelled is not None:
        for name, problem in encoded.errors:
            _say({"file": name, "error": problem}, as_json, describe)
        truths = [labelled.class_names[i] for i in labelled.labels[encoded.kept]] if labelled is not None else None
        _count(prompts, encoded.features, truths, as_json)
    else:
        _each(prompts, model, collection.names, encoded, texts, truth, as_json)
    if encoded.errors:
        raise typer.Exit(1)


def _each(
    prompts: list[Detector],
    model: Backbone,
    names: Sequence[str],
    encoded: FeatureSet,
    texts: list[str] | None,
    truth: str | None,
    as_json: bool,
) -> None:
    from lsn_core.negation import choose, negation_table

    features = dict(zip(encoded.kept.tolist(), encoded.features, strict=True))
    problems = iter(encoded.errors)
    for index, name in enumerate(names):
        line: dict[str, Any] = {"file": name, "choice": None, "written": None, "learned": None, "error": None}
        if index not in features:
            line["error"] = next(problems)[1]
        else:
            line["choice"] = choose(features[index], texts, model).as_dict() if texts else None
            for kind, prompt_set in zip(KINDS, prompts, strict=False):
                line[kind] = negation_table(prompt_set, features[index], truth).as_dict()
        _say(line, as_json, describe)


def _count(prompts: list[Detector], features: Tensor, truths: list[str] | None, as_json: bool) -> None:
    from lsn_core.negation import count_not

    for kind, prompt_set in zip(KINDS, prompts, strict=False):
        for item in count_not(prompt_set, features, truths):
            _say({"prompts": kind, **item.as_dict(), "error": None}, as_json, describe_count)


def _say(line: dict[str, Any], as_json: bool, words: Callable[[dict[str, Any]], str]) -> None:
    with tqdm.external_write_mode(file=sys.stdout):
        text = f"ERROR {line['error']}" if line["error"] else words(line)
        echo_json(line) if as_json else echo(text)


def describe(line: dict[str, Any]) -> str:
    """A few readable lines about one image."""
    lines = [f"{line['file']}:"]
    if choice := line["choice"]:
        shares = ", ".join(
            f"{text!r} {share:.1%}" for text, share in zip(choice["texts"], choice["probabilities"], strict=True)
        )
        lines.append(f"  chooses {choice['chosen']!r} ({shares})")
    for table in filter(None, (line["written"], line["learned"])):
        source = "as given" if table["truth_given"] else "the model's guess"
        if table is line["written"]:
            lines.append(f"  shows {table['truth']} ({source})")
        for tally in table["tallies"]:
            rivals = f", {tally['rivals_wrong']} of {tally['rivals']} against the other denials" * bool(tally["rivals"])
            wrong = f"{tally['opposites_wrong']} of {tally['opposites']} against the positive text{rivals}"
            lines.append(f"  {tally['wording']:24} wrong choices: {wrong}")
    return "\n".join(lines)


def describe_count(line: dict[str, Any]) -> str:
    """One readable line about one class and wording."""
    text = f"{line['class_name']:>20}  {line['wording']:24} chosen for {line['chose_not']} of {line['images']} images"
    if line["images_of_class"]:
        text += f", {line['chose_not_of_class']} of the {line['images_of_class']} that show it"
    return text
