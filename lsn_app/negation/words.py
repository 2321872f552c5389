"""What the tab on "not" says: choices, tables and counts as HTML and CSV."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from lsn_app.negation.answer import Counts
from lsn_app.negation.contrast import Contrast
from lsn_app.negation.paper_figures import Preset, Round
from lsn_app.negation.prompt_maps import PromptMaps
from lsn_app.shared.csv_links import csv_text, download_link
from lsn_app.shared.words import note, problem, signed
from lsn_core.negation import Choice, NegationTable, Row, Tally

MAX_ROWS = 60
_RIGHT, _WRONG = '<span class="not-ok">✓</span>', '<span class="not-bad">✕</span>'
_MOSTLY = '<span class="not-mostly">~</span>'


def nothing_yet() -> str:
    """What stands where the choice will be, before there is a photo."""
    return (
        '<section class="not-rounds"><p>No photo yet: press a figure of the paper above, or bring a photo and write '
        "two texts.</p></section>"
    )


def rounds_card(rounds: Sequence[Round], preset: Preset | None = None) -> str:
    """The model's choices one after the other; for a figure of the paper with what was found there."""
    head = ""
    if preset:
        about = f"The photo shows: {escape(preset.truth)}. {escape(preset.says)}"
        head = f"<h3>Figure {preset.figure}: {escape(preset.title)}</h3><p>{about}</p>"
    body = "".join(_round(number, len(rounds), item) for number, item in enumerate(rounds, start=1))
    return f'<section class="not-rounds" role="status" aria-live="polite">{head}{body}</section>'


def contrast_card(contrast: Contrast) -> str:
    """What learning changes on one photo."""
    lines = "".join(
        f"<li><span>{title}</span><b>{_share(compared, compared - right)}</b></li>"
        for title, compared, right in (
            ("Written: “not a photo of a …”", contrast.compared[0], contrast.written_right),
            (f"Learned by {escape(contrast.label)}", contrast.compared[1], contrast.learned_right),
        )
    )
    return (
        '<section class="not-rounds" role="status" aria-live="polite"><h3>What learning changes</h3>'
        f"<p>The photo shows: {escape(contrast.truth)}. Asked which class it is <i>not</i>, a prompt chooses between "
        f'“not {escape(contrast.truth)}” and the “not” of another class.</p><ul class="not-contrast">{lines}</ul>'
        "<p>All texts stand in the tables below.</p></section>"
    )


def maps_card(drawn: PromptMaps) -> str:
    """The paper's Figure 2 on a photo that ships."""
    figures = "".join(
        f'<figure><img src="{one.picture}" alt=""><figcaption>{escape(one.label)}'
        + ("" if one.likeness is None else f"<br><small>like the first by {signed(one.likeness)}</small>")
        + "</figcaption></figure>"
        for one in drawn.maps
    )
    where = (
        "Orange raises the prompt’s value, purple lowers it. “Like the first”: correlation of two maps, from −1 to 1."
    )
    return (
        '<section class="not-rounds" role="status" aria-live="polite"><h3>Figure 2: where learned prompts react</h3>'
        f"<p>The photo shows: {escape(drawn.contrast.truth)}. In the paper the learned “no” of a class reacts to other "
        f"places than its positive prompt. Below, those that {escape(drawn.contrast.label)} has learned.</p>"
        f'<div class="not-maps">{figures}</div><p><small>{where} Method: {escape(drawn.method)}.</small></p></section>'
    )


def compare_choices(before: Choice, after: Choice) -> str:
    """Two choices, the second one after a "not" was added to the text that lost."""
    same = before.texts.index(before.chosen) == after.texts.index(after.chosen)
    changed = "The choice stays the same." if same else "The model changes its choice."
    return rounds_card([Round(before), Round(after, None, changed)])


def marked_for(table: NegationTable) -> str:
    """What the marks take the photo to show, as a sentence."""
    sentence = f"The marks are for a photo of: {table.truth}"
    if not table.truth_given:
        return note(f"{sentence}. That is only the model's own best guess: write above what the photo shows.")
    if not table.known:
        return note(f"{sentence}, which is none of the classes asked about. So every “not” is true.")
    return note(f"{sentence}.")


def tally_table(tallies: Sequence[Tally], title: str) -> str:
    """How often each negative wording was chosen rightly, as an HTML table."""
    rows = "".join(
        f'<tr><th scope="row">{escape(_blank(tally.wording))}</th>'
        f"<td>{_share(tally.opposites, tally.opposites_wrong)}</td>"
        f"<td>{_share(tally.rivals, tally.rivals_wrong)}</td></tr>"
        for tally in tallies
    )
    return _table(title, ("Wording", "Is it, or is it not?", "Which is it not?"), rows, "not-tally")


def ranked_table(table: NegationTable, title: str) -> str:
    """All texts, best first, wrong choices marked, as an HTML table; the longest are cut, the CSV has all."""
    rows = "".join(
        f'<tr><td>{row.rank}</td><th scope="row">{escape(row.text)}<span class="not-mark">'
        f"{'true' if row.holds else 'false'} here; {row_mark(row)}</span></th>"
        f"<td>{row.probability:.1%}</td><td>{row.cosine:.4f}</td></tr>"
        for row in table.rows[:MAX_ROWS]
    )
    heads = ("#", "Text, and whether its rank is right", "Probability", "Cosine")
    more = note(f"The best {MAX_ROWS} of {len(table.rows):,}; the CSV has all.") if len(table.rows) > MAX_ROWS else ""
    return _table(title, heads, rows, "not-ranked") + more


def both_tables(table: NegationTable, title: str, more: Sequence[Tally] = ()) -> str:
    """How often each wording was chosen rightly, and below it all texts, as HTML.

    Args:
        more: of negations that are no texts.
    """
    return tally_table([*table.tallies, *more], title) + ranked_table(table, f"{title}: all texts")


def row_mark(row: Row) -> str:
    """Whether the model's order is right for this text: icon and words say the same."""
    if not row.wrong:
        return f"{_RIGHT} right"
    mark = _MOSTLY if 2 * row.wrong < row.compared else _WRONG
    if row.holds:
        return f"{mark} wrong: loses to {row.wrong} of {row.compared} false texts"
    return f"{mark} wrong: beats {row.wrong} of {row.compared} true texts"


def table_link(tables: dict[str, NegationTable], photo: str) -> str:
    """A link to the tables as CSV: prompts (written, learned) -> table."""
    header = (
        "photo",
        "shows",
        "prompts",
        "rank",
        "text",
        "class",
        "wording",
        "negated",
        "true",
        "probability",
        "cosine",
    )
    rows = [
        (
            photo,
            table.truth,
            kind,
            row.rank,
            row.text,
            row.class_name,
            row.wording,
            row.negated,
            row.holds,
            row.probability,
            row.cosine,
            row.compared,
            row.wrong,
        )
        for kind, table in tables.items()
        for row in table.rows
    ]
    return download_link(csv_text((*header, "compared", "wrong"), rows), "not-table.csv", "Download the table as CSV")


def counts_link(counts: Counts) -> str:
    """A link to the counts of all wordings and classes as CSV."""
    header = ("prompts", "wording", "class", "photos", "chose_not", "photos_of_class", "chose_not_of_class", "wrong")
    rows = [
        (
            kind,
            item.wording,
            item.class_name,
            item.images,
            item.chose_not,
            item.images_of_class,
            item.chose_not_of_class,
            item.wrong,
        )
        for kind, items in (("written", counts.written), ("learned", counts.learned))
        for item in items
    ]
    return download_link(csv_text(header, rows), "not-counts.csv", "Download the counts as CSV")


def counted(counts: Counts) -> str:
    """How many photos were asked, and which could not be."""
    text = note(f"{counts.photos:,} {'photo was' if counts.photos == 1 else 'photos were'} asked about every class.")
    if counts.errors:
        more = f" And {len(counts.errors) - 3} more could not be read." if len(counts.errors) > 3 else ""
        text += problem(" ".join(counts.errors[:3]) + more)
    return text


def _round(number: int, of: int, item: Round) -> str:
    texts = "".join(
        _text(text, share, cosine, text == item.choice.chosen)
        for text, share, cosine in zip(item.choice.texts, item.choice.probabilities, item.choice.cosines, strict=True)
    )
    verdict = {True: f"{_RIGHT} <b>Right.</b> ", False: f"{_WRONG} <b>Wrong.</b> ", None: ""}[item.right]
    why = f'<p class="not-verdict">{verdict}{escape(item.why)}</p>' if verdict or item.why else ""
    title = f"<h4>Question {number} of {of}</h4>" if of > 1 else ""
    return f'<div class="not-round">{title}<ul>{texts}</ul>{why}</div>'


def _text(text: str, share: float, cosine: float, chosen: bool) -> str:
    return (
        f'<li class="{"not-chosen" if chosen else ""}"><span class="not-words">“{escape(text)}”'
        f"{' <b>← chosen</b>' if chosen else ''}</span>"
        f'<span class="not-share" title="cosine {cosine:.4f}">{share:.1%}</span>'
        f'<span class="not-bar" aria-hidden="true"><span style="width:{share:.1%}"></span></span></li>'
    )


def _share(count: int, wrong: int) -> str:
    if not count:
        return "–"
    mark = _RIGHT if not wrong else _MOSTLY if 2 * wrong < count else _WRONG
    return f"{mark} {count - wrong} of {count} right"


def tally_note() -> str:
    """What the two columns of `tally_table` mean, as HTML."""
    return note(
        "“Is it, or is it not?” sets each “not” text against the positive text of its class. “Which is it not?” sets "
        "the “not” of what is there (false) against the “not” of every other class (true). “No text” is a region of "
        "the space that texts and photos share, in the place of a sentence (after SpaceVLM, 2025)."
    )


def _blank(wording: str) -> str:
    return wording.replace(": {}", "").replace("{}", "…")


def _table(title: str, heads: Sequence[str], rows: str, kind: str) -> str:
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    return (
        f'<div class="not-scroll" tabindex="0" role="region" aria-label="{escape(title)}"><table class="{kind}">'
        f"<caption>{escape(title)}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
