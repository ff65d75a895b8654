"""What may be a secret, by its name or its look: asked before a thing is shown, kept or sent."""

import itertools
import re

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_SECRET_PARTS = ("password", "passwd", "passphrase", "secret", "credential")
_SECRET_WORDS = frozenset(
    ("pwd", "pass", "pgpass", "sas", "jwt", "bearer", "webhook", "apikey", "accesskey")
) | {"privatekey"}
_PLACES = ("path", "file", "folder", "dir")  # where a secret lies, which is none
_BEFORE_A_SYMBOL = ("pad", "cls", "sep", "mask", "unk", "bos", "eos")  # tokens of a language model
_BEHIND_A_SYMBOL = ("dim", "id", "ids", "type", "size")
_KINDS_OF_KEY = ("api", "access", "private", "account", "signing", "encryption", "ssh", "auth")

_SHAPES = re.compile(
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|-----BEGIN [A-Z ]*PRIVATE KEY|\bgh[pousr]_\w{20}|"
    r"\bgithub_pat_\w{20}|\bxox[abprs]-[\w-]{10}|\bhf_[A-Za-z0-9]{20}|"
    r"(?<![\w/])sk-[A-Za-z0-9_-]{20}|\bglpat-[\w-]{20}|\bAIza[\w-]{30}|\beyJ[\w-]{10,}\.[\w-]+\.|"
    r"hooks\.slack\.com/services/|(?i:\b(?:AccountKey|SharedAccessKey|SharedAccessSignature)=)"
)
_USER_AND_PASSWORD = re.compile(r"//[^/@\s]*:[^/@\s]*@")
_SIGNED = re.compile(
    r"([?&](?:x-amz-(?:signature|security-token|credential)|x-goog-signature|signature|sig|token|"
    r"access_token|sas_token|password|secret\w*|access_key|account_key|api_key)=)[^&#\s]*",
    re.IGNORECASE,
)


def without_secrets(uri: str) -> str:
    """Return a URI, or a text that holds some, with passwords and signatures hidden."""
    return _SIGNED.sub(r"\1***", _USER_AND_PASSWORD.sub("//***@", uri))


def has_secret_name(name: str) -> bool:
    """Return whether what bears a name, of a variable or of a key, is likely to be a secret."""
    words = _words(name)
    if words[-1:] and words[-1] in _PLACES:
        return False
    kinds = [kind for kind, word in itertools.pairwise(words) if word == "key"]
    return (
        any(part in name.lower() for part in _SECRET_PARTS)
        or not _SECRET_WORDS.isdisjoint(words)
        or not set(kinds).isdisjoint(_KINDS_OF_KEY)
        or _has_secret_token(words)
    )


def has_secret_variable(name: str) -> bool:
    """Return whether an environment variable is likely to be a secret by its name.

    There a key is one that opens something; among the keys of a configuration it may be a column.
    """
    words = [word for word in _words(name) if not word.isdigit()]
    return has_secret_name(name) or words[-1:] == ["key"]


def has_secret_look(value: str) -> bool:
    """Return whether a text has the look of a key or a token, or is a URI that carries one."""
    return _SHAPES.search(value) is not None or without_secrets(value) != value


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(name)]


def _has_secret_token(words: list[str]) -> bool:
    """Return whether words have a token that opens something, and not one of a language model."""
    around = zip(["", *words], words, [*words[1:], ""], strict=False)
    return any(
        word == "token" and before not in _BEFORE_A_SYMBOL and behind not in _BEHIND_A_SYMBOL
        for before, word, behind in around
    )
