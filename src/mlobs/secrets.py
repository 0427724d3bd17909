"""What must not be recorded: values whose name says so, and secrets inside other texts.

A name is judged by its whole words, so that `use_cls_token` and `max_tokens` stay what they are. The
shapes of known secrets are those that their issuers document (AWS, GitHub, GitLab, Hugging Face,
OpenAI, Slack, Google, Azure's connection strings and SAS, JSON web tokens).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

REDACTED = "[redacted]"

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def _words_in(table: str) -> frozenset[str]:
    return frozenset(table.split())


_SECRET_WORDS = _words_in("""
    password passwords passwd passphrase pwd secret secrets credential credentials apikey apikeys
    authorization cookie
""")
_NUMERIC_TOO = _words_in("password passwd passphrase pwd")  # a PIN is a number
_SECRET_PAIRS = _words_in("""
    api_key access_key private_key secret_key auth_key account_key signing_key encryption_key
    subscription_key storage_key master_key shared_key ssh_key license_key instrumentation_key wandb_key
    connection_string connection_str conn_str shared_access sas_token sas_url sas_key auth_header
    auth_token access_token api_token bearer_token refresh_token id_token session_token hub_token
    hf_token github_token gitlab_token slack_token bot_token security_token personal_token deploy_token
    service_token user_token
""")
_HARMLESS_ENDS = _words_in("""
    file path dir folder name names length len size count id type version region enabled provider scope
    expiry ttl policy manager store required
""")  # `password_file` names a place, `secret_name` a name: neither is the secret
_VOCABULARY = _words_in("""
    pad bos eos unk cls sep mask special start end stop image video audio prompt patch class first last
    next new space word tool think
""")  # what models call their special tokens
_HARMLESS_VALUES = frozenset(
    {"", "default", "environment", "managed-identity", "cli", "none", "null", REDACTED}
)
_OPAQUE_CHARACTERS = 12  # special tokens of vocabularies are shorter, or stand in brackets
_OPAQUE = "x0" * _OPAQUE_CHARACTERS
_BRACKETED = re.compile(r"^[<\[{(|].*[>\]})|]$")
_PLACES = _words_in("credential credentials cookie secret secrets")  # a path in one says where it lies
_ENVIRONMENT_CHARACTERS = 8  # a shorter value would be found in texts that have nothing to do with it

_VALUE = r"[^\s;&,'\"<>)\]}]+"
_BEFORE = r"(?i)(?<![A-Za-z0-9])("  # ends DB_PASSWORD too; to match all of it would cost the square of a text
_IS = r"(['\"]?\s*[=:]\s*['\"]?)"
_BEFORE_DIGIT = 99  # a random key has a digit by then; looking on would cost the square of a text
_OPAQUE_VALUE = (  # no word of a vocabulary, no count
    rf"(?=[A-Za-z_./+=-]{{0,{_BEFORE_DIGIT}}}\d)[\w./+=-]{{{_OPAQUE_CHARACTERS},}}"
)


def _redact_whole(match: re.Match[str]) -> str:
    """A JSON web token is redacted; what only begins like one stays, and is not looked at again."""
    return REDACTED if "." in match[0] else match[0]


_SHAPES: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"(?<=://)[^/@\s'\"]+(?=@)"), REDACTED),
    (
        re.compile(
            _BEFORE
            + r"(?:accountkey|sharedaccesskey|sharedaccesssignature|instrumentationkey|password|passwd|"
            r"pwd|client[_-]?secret|api[_-]?key|access[_-]?key|access[_-]?token|auth[_-]?token|sig))"
            + _IS
            + _VALUE
        ),
        rf"\1\2{REDACTED}",
    ),
    (re.compile(_BEFORE + r"(?:token|secret))" + _IS + _OPAQUE_VALUE), rf"\1\2{REDACTED}"),
    (
        re.compile(r"(?i)(--(?:[a-z0-9]+-)*(?:password|passwd|api-key|token|secret))(\s+)(?!-)" + _VALUE),
        rf"\1\2{REDACTED}",
    ),
    (re.compile(r"(?i)\b(bearer|basic)(\s+)[A-Za-z0-9._~+/=-]{12,}"), rf"\1\2{REDACTED}"),
    (re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"), REDACTED),
    (re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{20,})"), REDACTED),
    (re.compile(r"\b(?:hf_[A-Za-z0-9]{20,}|sk-(?:proj-|ant-|svcacct-)?[A-Za-z0-9_]{20,}[\w-]*)"), REDACTED),
    (re.compile(r"\b(?:xox[abeoprs]-[A-Za-z0-9-]{10,}|AIza[\w-]{35})"), REDACTED),
    (re.compile(r"\beyJ[\w-]{10,}(?:\.[\w-]{10,}\.[\w-]*)?"), _redact_whole),
)
_TRACE = re.compile(
    r"[=:]|--|AKIA|ASIA|gh[pousr]_|github_pat|glpat|hf_|sk-|xox|AIza|eyJ|(?i:bearer|basic)"
)  # of any


class Redaction:
    """Takes secrets out of what is about to be recorded.

    Args:
        allowed: names whose values are recorded whatever they look like.
        environment: variables; the values of those with a secret name are taken out of all texts.
    """

    def __init__(self, allowed: Collection[str] = (), environment: Mapping[str, str] | None = None) -> None:
        self._allowed = frozenset(allowed)
        self._known = _secrets_in(environment or {})

    def value(self, name: str, value: Any) -> Any:
        """The value as it may be recorded: itself, `REDACTED`, or a text without the secrets in it."""
        if isinstance(value, Mapping):
            return {key: self.value(f"{name}.{key}", one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            public = [self.value(name, one) for one in value]
            return public if isinstance(value, list) else tuple(public)
        is_text = isinstance(value, str)
        if not is_text and (value is None or isinstance(value, bool)):
            return value
        if name in self._allowed or name.rpartition(".")[2] in self._allowed:
            return value
        if says_secret(name, value):
            return REDACTED
        return self.text(value) if is_text else value

    def text(self, text: str) -> str:
        """The text without the secrets in it."""
        for secret in self._known:
            if secret in text:
                text = text.replace(secret, REDACTED)
        return masked(text)


def masked(text: str) -> str:
    """The text without what has the shape of a secret."""
    if _TRACE.search(text):
        for shape, instead in _SHAPES:
            text = shape.sub(instead, text)
    return text


def says_secret(name: str, value: Any = "") -> bool:
    """Tell whether a name says that this value is a secret.

    A word such as `token` says so only of a value that could be one: a vocabulary's special tokens are
    short or in brackets.
    """
    if not isinstance(value, str):
        return isinstance(value, int | float) and bool(_NUMERIC_TOO & set(_words(name)[-1:]))
    words = _words(name)
    if not words or words[-1] in _HARMLESS_ENDS or value.lower() in _HARMLESS_VALUES:
        return False
    if _SECRET_WORDS & set(words) or _SECRET_PAIRS & set(map("_".join, pairwise(words))):
        return True
    if words[0] == "use" or _VOCABULARY & set(words[-2:-1]):
        return False
    return words[-1] in ("token", "sas") and _is_opaque(value)


def public_arguments(arguments: Sequence[str]) -> tuple[str, ...]:
    """A command line without its secrets: `--password X`, `--api-key=X`, and their shapes in all others."""
    public: list[str] = []
    is_secret = False
    for one in arguments:
        name, equals, value = one.partition("=")
        if is_secret and not one.startswith("-"):
            public.append(REDACTED)
        elif equals and says_secret(name.lstrip("-"), value):
            public.append(f"{name}={REDACTED}")
        else:
            public.append(masked(one))
        is_secret = one.startswith("-") and not equals and says_secret(one.lstrip("-"), _OPAQUE)
    return tuple(public)


def _words(name: str) -> list[str]:
    """The words of the last part of a dotted name: `db.apiKey` has "api" and "key"."""
    return [word.lower() for word in _WORD.findall(re.split(r"[./]", name)[-1])]


def _is_opaque(value: str) -> bool:
    return (
        len(value) >= _OPAQUE_CHARACTERS
        and any(map(str.isdigit, value))
        and not any(map(str.isspace, value))
        and not _BRACKETED.match(value)
    )


def _secrets_in(environment: Mapping[str, str]) -> list[str]:
    """The values of variables with a secret name, the longest first."""
    found: Iterable[str] = {
        value
        for name, value in environment.items()
        if len(value) >= _ENVIRONMENT_CHARACTERS
        and name not in ("PWD", "OLDPWD")
        and not (value.startswith(("/", "~")) and _PLACES & set(_words(name)[-1:]))
        and says_secret(name, value)
    }
    return sorted(found, key=len, reverse=True)
