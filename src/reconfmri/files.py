"""Files that somebody else made: their text, or in one sentence why it cannot be had and the way round."""

from __future__ import annotations

from pathlib import Path


class InputError(ValueError):
    """A file or table that somebody must correct: where, what is wrong, the fix; as text, one line."""

    def __init__(self, place: str | Path, what: str, *, fix: str = "", code: str = ""):
        self.code, self.place, self.what, self.fix = code, str(place), what, fix
        super().__init__(f"{code} {place}: {what}".lstrip() + (f". Fix: {fix}" if fix else ""))


class ChangedError(InputError):
    """What a run was planned with is not what a job of it finds."""


class UnreadableError(ValueError):
    """A file whose content cannot be had: a link to nowhere, a folder, no permission, another encoding.

    `is_text` says that the bytes are there, and are no text in UTF-8.
    """

    def __init__(self, path: str | Path, what: str, fix: str, *, is_text: bool = False):
        self.path, self.what, self._fix, self.is_text = path, what, fix, is_text
        super().__init__(f"{path}: {what}")

    def fix(self, shown: str) -> str:
        """How to make it readable; the file is named as `shown`."""
        return self._fix.format(shown)


def refuse_unreadable(path: str | Path) -> None:
    """Check that the bytes of a file can be had; none is read.

    Raises
    ------
    UnreadableError
        It is a link to nowhere, no regular file, or may not be opened.
    FileNotFoundError
        There is no such file.
    """
    path = Path(path)
    try:
        if path.is_symlink() and not path.exists():
            raise UnreadableError(
                path, "the link leads nowhere", "fetch it (`datalad get {0}`), or correct the link"
            )
        if path.is_dir():
            raise UnreadableError(path, "it is a folder, a file is needed", "put the file in its place")
        if path.exists() and not path.is_file():
            raise UnreadableError(path, "it is no regular file", "put the file in its place")
        with path.open("rb"):
            return
    except FileNotFoundError:
        raise
    except OSError as error:
        what = f"it cannot be opened ({error.strerror})"
        raise UnreadableError(path, what, "make {0} readable for you (`ls -l` shows its owner)") from None


def read_text(path: str | Path) -> str:
    r"""Return the text of a file in UTF-8, with or without a byte order mark; line ends become `\n`.

    Raises
    ------
    UnreadableError
        It cannot be opened, or is in another encoding.
    FileNotFoundError
        There is no such file.
    """
    refuse_unreadable(path)
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"not UTF-8 at byte {error.start}; save it as UTF-8"
        raise UnreadableError(path, what, "save {0} as UTF-8", is_text=True) from None


def explained(error: Exception, path: str | Path, shown: str, fix: str) -> tuple[str, str]:
    """Return what an error of reading `path` says, without that path, and its own way round, else `fix`."""
    if isinstance(error, UnreadableError):
        return error.what, error.fix(shown)
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__, fix
    if isinstance(error, InputError):
        return error.what, error.fix or fix
    return str(error).removeprefix(f"{path}: "), fix
