"""Links that keep state: how the page's address follows what the visitor chose, so that a copy of it opens the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lsn_app.shared.components import Components, Event

_READ = "() => { window[`lsnRead-%s`] = true; }"
_FOLLOW = """(...values) => {
    const [tab, names, usual, onlyWith, example, selector, fixed] = %s;
    if (!window[`lsnRead-${tab}`]) return;
    clearTimeout(window.lsnAddressTimer);
    // After a pause: browsers refuse a hundred changes at once, which a slider makes, and the page is drawn by then.
    window.lsnAddressTimer = setTimeout(() => {
        const address = new URL(window.location), query = address.searchParams;
        const photo = document.querySelector(`${selector} [data-example]`)?.dataset.example;
        const asked = Object.fromEntries(names.map((name, i) => [name, values[i]]));
        const wanted = {tab, [example]: photo, ...asked, ...fixed};
        for (const [name, given] of Object.entries(wanted)) {
            const value = String(given ?? "").slice(0, 2000);
            const [other, needed] = onlyWith[name] ?? [];
            const idle = other !== undefined && asked[other] !== needed;
            if (!value || idle || value === usual[names.indexOf(name)]) query.delete(name);
            // security: the label of a visitor's own detector is theirs alone, and must not travel in a link.
            else query.set(name, value.startsWith("private-") ? "somebody's own" : value);
        }
        window.history.replaceState(null, "", address);
    }, 200);
}"""


class Address:
    """What one tab keeps in the address.

    Args:
        tab: its id.
        example: the name of the example photo that is shown.
        selector: of the element that tells which one that is, by an attribute `data-example` inside it.
        fields: name -> component, and the value that need not stand in the address.
        only_with: name -> another name and the value that it must have for the first to be of use.
    """

    def __init__(
        self,
        tab: str,
        example: str,
        selector: str,
        fields: Mapping[str, tuple[Any, object]],
        only_with: Mapping[str, tuple[str, str]] | None = None,
    ) -> None:
        self.tab, self.example, self.selector, self.fields = tab, example, selector, fields
        self.only_with = dict(only_with or {})

    def begin(self, event: Event) -> None:
        """Keeps the address as it is until after this event, which reads the link."""
        event.then(None, js=_READ % self.tab, api_visibility="private")

    def follow(self, event: Event, **fixed: str | None) -> None:
        """Brings the address in line after an event.

        Args:
            fixed: name -> value, None for one that no longer holds.
        """
        self._connect(event.then, [component for component, _ in self.fields.values()], fixed)

    def follow_slider(self, name: str, slider: Any) -> None:
        """Brings the address in line with a slider while it moves, which stands in for the component of that name."""
        inputs = [slider if field == name else component for field, (component, _) in self.fields.items()]
        self._connect(slider.input, inputs, {})

    def _connect(self, listener: Any, inputs: Components, fixed: Mapping[str, str | None]) -> None:
        usual = [str(value) for _, value in self.fields.values()]
        settings = json.dumps([self.tab, list(self.fields), usual, self.only_with, self.example, self.selector, fixed])
        listener(None, inputs, None, js=_FOLLOW % settings, api_visibility="private")


def read_rate(text: object, lowest: float, highest: float) -> float | None:
    """A rate from an address, or None where it is none or out of range."""
    try:
        rate = float(str(text))
    except ValueError:
        return None
    return rate if lowest <= rate <= highest else None
