"""The elements of the demo's form as HTML; every text in them is escaped."""

from collections.abc import Sequence

from explainer.rendering.html import escaped


def textarea(name: str, label: str, value: str, *, rows: int = 4, limit: int, hint: str = "", more: str = "") -> str:
    """A text of several lines.

    Args:
        limit: characters that the browser takes.
        more: further attributes.
    """
    # A reader drops the first line feed of the element, so that one more keeps a text that begins with one.
    area = f'<textarea name="{name}" rows="{rows}" maxlength="{limit}" dir="auto" {more}>\n{escaped(value)}</textarea>'
    return _labelled(label, area, hint)


def line(name: str, label: str, value: str, *, limit: int, hint: str = "") -> str:
    """A text of one line."""
    control = f'<input type="text" name="{name}" value="{escaped(value)}" maxlength="{limit}" dir="auto">'
    return _labelled(label, control, hint)


def select(name: str, label: str, options: Sequence[tuple[str, str]], chosen: str, hint: str = "") -> str:
    """A choice.

    Args:
        options: (value, what is shown) of each.
    """
    shown = "".join(
        f'<option value="{escaped(value)}"{" selected" if value == chosen else ""}>{escaped(text)}</option>'
        for value, text in options
    )
    return _labelled(label, f'<select name="{name}">{shown}</select>', hint)


def checkbox(name: str, label: str, is_checked: bool) -> str:
    """A box to check."""
    box = f'<input type="checkbox" name="{name}" value="true"{" checked" if is_checked else ""}>'
    return f'<label class="check">{box} <span>{escaped(label)}</span></label>'


def button(label: str, action: str = "", form: str = "") -> str:
    """A button that sends the form, with the field `action` where it has one.

    Args:
        form: the id of the form, for a button outside it.
    """
    # Without a fragment in the address a browser puts the cursor where the page wants it.
    named = f' class="other" name="action" value="{action}" formaction="./"' if action else ""
    outside = f' form="{form}"' if form else ""
    return f'<button type="submit"{named}{outside}>{escaped(label)}</button>'


def further(label: str, controls: str, is_open: bool) -> str:
    """Controls that are folded away until they are wanted."""
    return (
        f'<details class="further"{" open" if is_open else ""}><summary>{escaped(label)}</summary>{controls}</details>'
    )


def _labelled(label: str, control: str, hint: str) -> str:
    told = f"<small>{escaped(hint)}</small>" if hint else ""
    return f'<label class="field"><span>{escaped(label)}</span>{control}{told}</label>'
