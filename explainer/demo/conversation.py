"""The messages of a conversation in a form: rows of a role and a text each."""

from explainer.demo.elements import select, textarea
from explainer.demo.fields import Fields

ROLES = ("system", "user", "assistant")


def messages_of(fields: Fields) -> list[dict[str, str]]:
    """The messages that were typed; rows without a text are left out.

    Raises:
        ValueError: when a row has no role, or a role that there is not.
    """
    roles, contents = fields.all("role"), fields.all("content")
    if len(roles) != len(contents) or not set(roles) <= set(ROLES):
        raise ValueError(f"Each message must have a `content` and a `role` of {', '.join(ROLES)}.")
    return [
        {"role": role, "content": content} for role, content in zip(roles, contents, strict=True) if content.strip()
    ]


def rows(fields: Fields, limit: int) -> str:
    """The messages as elements of the form; at first an empty one, and another one where that was asked for.

    Args:
        limit: characters of a message.
    """
    shown = list(zip(fields.all("role"), fields.all("content"), strict=False))
    if fields.one("action") == "continue":
        shown.append(("assistant", fields.one("said")))
    if not shown or fields.one("action") in ("add", "continue"):
        shown.append(("user", ""))
    parts = [_row(i, role, content, limit, i == len(shown)) for i, (role, content) in enumerate(shown, start=1)]
    return f'<div class="messages">{"".join(parts)}</div>'


def _row(number: int, role: str, content: str, limit: int, is_last: bool) -> str:
    choice = select("role", f"Role of message {number}", [(one, one) for one in ROLES], role)
    more = "autofocus" if is_last and not content else ""
    text = textarea("content", f"Message {number}", content, rows=4 if is_last else 2, limit=limit, more=more)
    return f'<fieldset class="row">{choice}{text}</fieldset>'
