"""What never enters a pack: files whose name says that they hold secrets, and contents with one inside.

A file with a hit is left out whole, because a pack holds exact bytes or nothing. So a rule must not fire
on ordinary code: `password = getpass()`, `token = tokens[0]` and `api_key: str` are none. The shapes of
tokens are those that their issuers document, as in `mlobs.secrets`; a name such as `password` counts
where a literal value stands beside it. Each pattern begins with a plain word, which `re` finds fast.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import NamedTuple

from mlobs.secrets import REDACTED, masked

_NAMES = """
    .env .env.* *.env .envrc *.pem *.key *.p12 *.pfx *.jks *.keystore *.kdbx *.ppk *.pkcs12 *.gpg
    id_rsa id_dsa id_ecdsa id_ecdsa_sk id_ed25519 id_ed25519_sk .netrc _netrc .pgpass .htpasswd
    .git-credentials .pypirc .npmrc .databrickscfg .dockercfg .vault-token .s3cfg .boto kaggle.json
    credentials credentials.json credentials.toml credentials.y*ml credentials.csv credentials.db
    application_default_credentials.json client_secret*.json service_account*.json service-account*.json
    azureauth.json secrets.json secrets.toml secrets.y*ml .secrets *.tfstate *.tfstate.backup
    accesstokens.json msal_token_cache.* auth.json
"""  # patterns of file names, in lower case
_FOLDERS = frozenset({".aws", ".ssh", ".azure", ".gnupg", ".kube", ".gcloud", ".docker", ".databricks"})
_HARMLESS = (
    ".example",
    ".sample",
    ".template",
    ".dist",
    ".defaults",
    ".pub",
)  # what a project ships to copy from
_CODE = (
    ".py",
    ".pyi",
    ".pyx",
    ".ipynb",
    ".js",
    ".ts",
    ".c",
    ".cc",
    ".cpp",
    ".h",
    ".cu",
    ".rs",
    ".go",
    ".java",
)

_PLACEHOLDER = re.compile(
    rb"(?i)(?:your|my[_-]|some|the[_-]|example|dummy|fake|placeholder|change|insert|enter|xxx|\*|\.\.\.|test|none|"
    rb"null|true|false|default|(?:db|user|my)?_?(?:password|passwd|pass|pwd|secret|token|key|string)s?$|\[redacted)"
)
_MADE_UP = re.compile(rb"[{}<>$%()\[\]|]|\.\.\.")  # a template or an expression, not a value
_LETTERS = re.compile(rb"[A-Za-z]")
_DIGIT = re.compile(rb"\d")
_NAME_LIKE = re.compile(
    rb"[a-z]*(?:[_./: -][a-z]*)+|[a-z]*(?:pass|secret|token|key|user|name|field|prompt|input)[a-z]*"
)
_BEFORE_DIGIT = 99  # a random key has a digit by then; looking on would cost the square of a text
_OPAQUE_CHARACTERS = 12  # of a token or key; shorter values are names and counts
_PASSWORD_CHARACTERS = 6


def _is_password(value: bytes) -> bool:
    if len(value) < _PASSWORD_CHARACTERS or _PLACEHOLDER.match(value) or _MADE_UP.search(value):
        return False
    return not _NAME_LIKE.fullmatch(value)


def _is_opaque(value: bytes) -> bool:
    if len(value) < _OPAQUE_CHARACTERS or _PLACEHOLDER.match(value) or _MADE_UP.search(value):
        return False
    return bool(_DIGIT.search(value) and _LETTERS.search(value))


def _is_signature(value: bytes) -> bool:
    return _is_opaque(value) or (b"%" in value and bool(_DIGIT.search(value)))


def _is_argument(value: bytes) -> bool:
    """After an option: a digit tells a value from the word that a help text has there."""
    return _is_password(value) and bool(_DIGIT.search(value))


def _is_web_token(value: bytes) -> bool:
    """What only begins like one is matched too, so that its later characters are no beginnings."""
    return b"." in value


def _is_any(_value: bytes) -> bool:
    return True


class _Rule(NamedTuple):
    """A pattern that begins with a plain word, which is found fast; its group, if any, is for `judge`.

    Patterns are written in lower case and search lower case text, unless `is_exact`.
    """

    pattern: re.Pattern[bytes]
    judge: Callable[[bytes], bool] = _is_any
    is_exact: bool = False
    is_code: bool = True
    is_key: bool = False


def _exact(word: str, rest: str) -> _Rule:
    """A token that stands alone: the look back comes after the word, or the word would not be found fast."""
    return _Rule(re.compile(rf"{word}(?<![A-Za-z0-9]{word}){rest}".encode()), is_exact=True)


_QUOTED = rb"""(?:\\?["'\]])*\s{0,4}[:=]\s{0,4}[rbuf]?\\?["']([^"'\s\\]{6,200})\\?["']"""
_BARE = rb"""(?:["'])?[ \t]*[:=][ \t]*([^\s"'#;,]{6,200})[ \t]*(?:$|[#;,\n\r])"""


def _assigned(word: bytes, judge: Callable[[bytes], bool]) -> tuple[_Rule, ...]:
    connection = rb"(?<=;" + word + rb")[ \t]?=[ \t]?([^\s\"';,{}]{6,200})"
    return (
        _Rule(re.compile(word + rb"(?:" + _QUOTED + rb"|" + connection + rb")"), judge),
        _Rule(re.compile(word + _BARE, re.MULTILINE), judge, is_code=False),
    )


_RULES: tuple[_Rule, ...] = (
    _Rule(re.compile(rb"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----"), is_exact=True),
    _Rule(re.compile(rb"A(?<![A-Za-z0-9]A)[KS]IA[0-9A-Z]{16}(?![0-9A-Za-z])"), is_exact=True),
    _Rule(re.compile(rb"gh(?<![A-Za-z0-9]gh)[pousr]_[A-Za-z0-9]{20,}"), is_exact=True),
    *(_exact(word, "[A-Za-z0-9_-]{20,}") for word in ("github_pat_", "glpat-", "dckr_pat_", "npm_")),
    _exact("hf_", "[A-Za-z0-9]{20,}"),
    _exact(
        "sk-",
        rf"(?<!-sk-)(?:proj-|ant-|svcacct-|or-)?(?=[A-Za-z_-]{{0,{_BEFORE_DIGIT}}}[0-9])[A-Za-z0-9_-]{{20,}}",
    ),
    _exact("xox", "[abeoprs]-[A-Za-z0-9-]{10,}"),
    _exact("AIza", "[A-Za-z0-9_-]{35}"),
    _exact("eyJ", r"[A-Za-z0-9_-]{10,}(?:\.[A-Za-z0-9_-]{10,}\.)?")._replace(judge=_is_web_token),
    _exact("dapi", "[0-9a-f]{32}"),
    _exact("pypi-AgE", "[A-Za-z0-9_-]{20,}"),
    _Rule(re.compile(rb"instrumentationkey=([0-9a-f-]{30,})"), _is_opaque),
    _Rule(re.compile(rb"accountkey=[a-z0-9+/=]{16,}")),
    _Rule(re.compile(rb"sharedaccess(?:key|signature)=[a-z0-9+/=%& ]{16,}")),
    _Rule(re.compile(rb"sig=(?<![a-z0-9]sig=)([a-z0-9%+/=_-]{20,})"), _is_signature),
    _Rule(re.compile(rb"bearer ([a-z0-9._~+/=-]{16,})"), _is_opaque),
    _Rule(re.compile(rb"basic ([a-z0-9+/=]{16,})"), _is_opaque),
    _Rule(re.compile(rb"://[^/\s:@'\"{}$<>%]{0,100}:([^/\s@'\"{}$<>]{3,200})@"), _is_password),
    _Rule(re.compile(rb"://([a-z0-9_-]{20,200})@"), _is_opaque),
    *(
        one
        for word in (b"password", b"passwd", b"passphrase", b"pwd")
        for one in _assigned(word, _is_password)
    ),
    *(one for word in (b"secret", b"token") for one in _assigned(word, _is_opaque)),
    *(one._replace(is_key=True) for one in _assigned(b"key", _is_opaque)),
    _Rule(
        re.compile(
            rb"--(?:[a-z0-9]+-){0,4}(?:password|passwd|token|secret|api-key)[ \t=]+([^\s\"'`]{6,200})"
        ),
        _is_argument,
    ),
)
_KEY_NAMES = re.compile(
    rb"(?:api|access|secret|private|account|auth|signing|encryption|subscription|storage|master|shared)[_-]?$"
)
_KEY_BLOCK = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
)


def has_secret_name(path: bytes | str) -> bool:
    """Tell whether a file's place says that it holds secrets, or holds one itself."""
    text = path.decode("utf-8", "replace") if isinstance(path, bytes) else path
    *folders, name = text.replace("\\", "/").split("/")
    if _FOLDERS & set(folders) or masked(text) != text or holds_secret(text.encode("utf-8", "replace")):
        return True
    low = name.lower()
    return not low.endswith(_HARMLESS) and any(fnmatchcase(low, pattern) for pattern in _NAMES.split())


def holds_secret(content: bytes, path: bytes | str = b"") -> bool:
    """Tell whether a file's content has a secret in it.

    The ending of `path` decides whether a word without quotes can be a value: in Python it is a name.
    """
    content = _as_bytes_of_text(content)
    low, is_code = content.lower(), _is_code(path)
    rules = (rule for rule in _RULES if rule.is_code or not is_code)
    return any(True for rule in rules for _ in _found(rule, content, low))


def redacted(text: str) -> str:
    """The text without the secrets in it, for people: what a rule finds is replaced."""
    content = _KEY_BLOCK.sub(REDACTED, text).encode("utf-8", "surrogateescape")
    for rule in _RULES:
        found = _found(rule, content, content.lower())
        edges = [0, *(edge for span in found for edge in span), len(content)]
        kept = [content[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True)]
        content = REDACTED.encode().join(kept)
    return masked(content.decode("utf-8", "replace"))


def _found(rule: _Rule, content: bytes, low: bytes) -> Iterator[tuple[int, int]]:
    """Where the secrets are that a rule finds; `low` is the content in lower case."""
    for match in rule.pattern.finditer(content if rule.is_exact else low):
        span = match.span(match.lastindex or 0)
        if rule.judge(content[span[0] : span[1]]) and (not rule.is_key or _is_key(low, match.start())):
            yield span


def _is_key(low: bytes, start: int) -> bool:
    """Whether the word before `key` says that it is a secret one: `primary_key` is none."""
    return _KEY_NAMES.search(low, max(0, start - 20), start) is not None


def _is_code(path: bytes | str) -> bool:
    name = path.decode("utf-8", "replace") if isinstance(path, bytes) else path
    return name.lower().endswith(_CODE)


def _as_bytes_of_text(content: bytes) -> bytes:
    """UTF-16 as UTF-8: PowerShell and Windows editors write it, and no pattern would see through it."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", "replace").encode("utf-8", "replace")
    return content
