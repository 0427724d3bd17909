"""No secret reaches a pack, a patch or a record; and ordinary code is not taken for one."""

import random
import shutil
import time

import pytest
from git_repositories import captured, commit, git, new_repository, restored, unpacked, write

from mlobs.repro.code_secrets import has_secret_name, holds_secret, redacted
from mlobs.repro.urls import public_url
from mlobs.secrets import REDACTED

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

LETTERS = "aZ3kQ9xW7vB2nM5cR8tY4pL6"
SECRETS = {  # the planted secret, and a line of a program that holds it
    "github": ("ghp_" + LETTERS + "abcdefghijkl", "client = login('{}')"),
    "github app": ("ghs_" + LETTERS + "abcdefghijkl", "x = '{}'"),
    "github fine": ("github_pat_" + LETTERS + "_" + LETTERS, "x = '{}'"),
    "gitlab": ("glpat-" + LETTERS, "x = '{}'"),
    "aws id": ("AKIAQWERTYUIOPASDFGH", "x = '{}'"),
    "aws secret": ("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "aws_secret_access_key = '{}'"),
    "storage": (
        LETTERS + LETTERS + "8u==",
        "c = 'DefaultEndpointsProtocol=https;AccountName=a;AccountKey={}'",
    ),
    "service bus": (LETTERS + LETTERS + "8u=", "c = 'Endpoint=sb://a/;SharedAccessKey={}'"),
    "sas": (
        LETTERS + "%2B" + LETTERS + "%3D",
        "u = 'https://a.blob.core.windows.net/c?sv=2022-11-02&sig={}'",
    ),
    "insights": ("3f2504e0-4f89-11d3-9a0c-0305e82c3301", "c = 'InstrumentationKey={}'"),
    "hugging face": ("hf_" + LETTERS + "abcdefghij", "login(token='{}')"),
    "openai": ("sk-proj-" + LETTERS + LETTERS, "x = '{}'"),
    "slack": ("xoxb-123456789012-" + LETTERS, "x = '{}'"),
    "google": ("AIza" + LETTERS + "abcdefghijk", "x = '{}'"),
    "web token": ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl", "x = '{}'"),
    "databricks": ("dapi0123456789abcdef0123456789abcdef", "x = '{}'"),
    "password": ("correct-horse-7", 'connect(password="{}")'),
    "password in json": ("hunter2hunter", '{{"db_password": "{}"}}'),
    "connection": ("hunter2secret", "c = 'Server=db;User Id=sa;Password={};'"),
    "api key": (LETTERS, "API_KEY = '{}'"),
    "client secret": (LETTERS, "client_secret: str = '{}'".replace(": str", "")),
    "bearer": (LETTERS, "headers = {{'Authorization': 'Bearer {}'}}"),
    "address": ("hunter2hunter", "e = create_engine('postgresql://me:{}@db/x')"),
    "argument": ("hunter2hunter", "run('mlflow --api-key {} x')"),
    "key block": (
        LETTERS * 3,
        "k = '''-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----'''",
    ),
    "notebook": ("hunter2hunter", '["password = \\"{}\\"\\n"]'),
}
NAMES = [
    ".env", ".env.local", "prod.env", "deploy/server.pem", "server.key", "id_rsa", "sub/id_ed25519", ".netrc",
    "credentials.json", ".aws/config", "sub/.ssh/known", "secrets.yaml", ".streamlit/secrets.toml", ".pypirc",
    "client_secret_12.apps.json", ".git-credentials", "kaggle.json", f"ghp_{LETTERS}abcdefghijkl.txt",
]  # fmt: skip
HARMLESS = """
password = getpass()
token = tokens[0]
api_key: str
def login(password=None, token: str | None = None): ...
password = os.environ["DB_PASSWORD"]
connect(password=config.password, token=self.token)
tokenizer.pad_token = "<pad>"
special = {"cls_token": "[CLS]", "sep_token": "[SEP]"}
parser.add_argument("--api-key", help="the key")
key = "layer1.weight"
cache_key = "abc123def456ghi789"
primary_key = "user_id_2024_01_01"
"password": "your-password-here"
url = "https://user:password@example.org"
git@github.com:owner/name.git
risk-assessment-0123456789-0123456789-0123456789
task-1234567890123456789012345
max_tokens = 4096
sig = inspect.signature(f)
"""


@pytest.fixture(autouse=True)
def _own_environment(tmp_path, monkeypatch):
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "home" / ".gitconfig"))


@pytest.mark.parametrize("kind", SECRETS)
def test_every_kind_of_secret_is_found_in_code(kind):
    secret, line = SECRETS[kind]
    content = f"import os\n{line.format(secret)}\n"

    assert holds_secret(content.encode(), "train.py")
    assert secret not in redacted(content)
    assert "import os\n" in redacted(content)


@pytest.mark.parametrize("line", HARMLESS.strip().splitlines())
def test_ordinary_code_is_no_secret(line):
    assert not holds_secret(f"{line}\n".encode(), "train.py")


def test_values_without_quotes_count_where_there_is_no_code():
    assert holds_secret(b"DB_PASSWORD=hunter2hunter\n", "settings.ini")
    assert holds_secret(b"api_key: aZ3kQ9xW7vB2nM5c # mine\n", "settings.yaml")
    assert not holds_secret(b"max_tokens: 4096\ntokenizer: gpt2\n", "settings.yaml")


def test_text_of_windows_is_searched_too():
    assert holds_secret("$password = 'hunter2hunter'".encode("utf-16"), "x.ps1")


@pytest.mark.parametrize("name", NAMES)
def test_files_whose_name_says_so_are_secret(name):
    assert has_secret_name(name)


@pytest.mark.parametrize(
    "name", [".env.example", "id_mapping.py", "id_rsa.pub", "tokens.py", "environment.yml", "keys.py"]
)
def test_other_names_are_not(name):
    assert not has_secret_name(name)


@needs_git
@pytest.mark.parametrize("is_git", [True, False], ids=["git", "plain"])
def test_no_secret_of_new_or_changed_files_reaches_the_pack_or_the_record(tmp_path, is_git):
    root = new_repository(tmp_path / "project", {f"tracked_{n}.py": "x = 1\n" for n in range(len(SECRETS))})
    planted = set()
    for number, (secret, line) in enumerate(SECRETS.values()):
        text = line.format(secret)
        write(root, {f"tracked_{number}.py": text, f"untracked_{number}.py": text})
        planted.add(secret)
    for number, name in enumerate(NAMES):
        write(root, {name: f"planted-content-{number}"})
        planted.add(f"planted-content-{number}")
    write(root, {"fine.py": "fine = 1\n"})
    if not is_git:
        shutil.rmtree(root / ".git")

    snapshot = captured(tmp_path, root)

    content = unpacked(tmp_path, snapshot)
    assert not [secret for secret in planted if secret.encode() in content]
    assert b"fine = 1" in content
    excluded = snapshot.roots[0].excluded
    assert len(excluded) == 2 * len(SECRETS) + len(NAMES)
    assert {one.digest for one in excluded} == {None}


@needs_git
def test_a_secret_in_a_whole_pack_is_left_out_but_one_that_was_pushed_stays_where_it_is(tmp_path):
    secret, line = SECRETS["github"]
    files = {"old.py": line.format(secret), ".env": "A=hunter2", "fine.py": "fine = 1\n"}
    pushed = new_repository(tmp_path / "pushed", files)
    unpushed = new_repository(tmp_path / "unpushed", files, pushed=False)

    of_pushed, of_unpushed = captured(tmp_path, pushed), captured(tmp_path, unpushed)

    assert (of_pushed.roots[0].excluded, of_pushed.roots[0].pack_bytes) == ((), 0)
    assert [one.path for one in of_unpushed.roots[0].excluded] == [".env", "old.py"]
    assert (of_unpushed.roots[0].is_dirty, of_unpushed.roots[0].patch) == (False, None)
    content = unpacked(tmp_path, of_unpushed)
    assert secret.encode() not in content
    assert b"hunter2" not in content


@needs_git
def test_a_secret_that_was_taken_out_is_not_in_the_patch(tmp_path):
    secret, line = SECRETS["key block"]
    spread = "\n".join(f"a{number} = 1" for number in range(20))
    root = new_repository(
        tmp_path / "project",
        {"a.py": f"{spread}\n{line.format(secret)}\n", "gone.py": line.format(secret), "b.py": "b = 1\n"},
    )
    write(root, {"a.py": f"{spread}\nk = None\n", "b.py": "b = 2\n"})
    (root / "gone.py").unlink()

    (snapshot_root,) = captured(tmp_path, root).roots

    assert "+b = 2" in snapshot_root.patch
    assert secret not in snapshot_root.patch
    assert LETTERS not in snapshot_root.patch


@needs_git
def test_a_secret_in_an_unpushed_commit_that_is_gone_again_is_not_packed(tmp_path):
    secret, line = SECRETS["github"]
    root = new_repository(tmp_path / "project", {"a.py": "a = 1\n"})
    write(root, {"a.py": line.format(secret)})
    commit(root)
    write(root, {"a.py": "a = 2\n"})

    snapshot = captured(tmp_path, root)

    assert secret.encode() not in unpacked(tmp_path, snapshot)
    assert (restored(tmp_path, snapshot) / "a.py").read_text() == "a = 2\n"


@needs_git
def test_remotes_are_recorded_without_their_secrets(tmp_path):
    root = new_repository(tmp_path / "project", {"a.py": "a = 1\n"}, pushed=False)
    git(root, "remote", "add", "origin", f"https://ghp_{LETTERS}abcdefgh:x-oauth-basic@github.com/o/n.git")

    assert captured(tmp_path, root).roots[0].remotes == {"origin": "https://github.com/o/n.git"}


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("https://user:hunter2@host/x.git", "https://host/x.git"),
        ("https://ghp_SECRET:x-oauth-basic@host/x.git", "https://host/x.git"),
        ("http://host:8080/x.git", "http://host:8080/x.git"),
        ("https://host/x?sv=1&sig=abc%3D", "https://host/x?sv=[redacted]&sig=[redacted]"),
        ("ssh://git@host:22/x.git", "ssh://git@host:22/x.git"),
        ("ssh://git:hunter2@host/x.git", "ssh://git@host/x.git"),
        ("git@host:o/n.git", "git@host:o/n.git"),
        ("token123@host:o/n.git", "host:o/n.git"),
        ("/srv/git/x.git", "/srv/git/x.git"),
        ("C:\\git\\x.git", "C:\\git\\x.git"),
        ("https://[broken/x", "[redacted]"),
    ],
)
def test_an_address_keeps_its_place_and_loses_its_secrets(url, public):
    assert public_url(url) == public


def test_the_time_of_the_search_grows_with_the_size_alone():
    """A pattern that tries every split of a long line would take minutes for these."""
    chance = random.Random(5)
    lines = ["password" * 20000, "=" * 200_000, "a:" * 100_000, "://" + "a" * 200_000, "--" + "a-" * 100_000]
    lines += ["key " * 50_000, "".join(chance.choices("ekys=:'\" tokn", k=200_000)), "eyJ" + "a" * 200_000]
    lines += ["eyJ-" * 50_000, "sk-_" * 50_000]

    assert not [line[:20] for line in lines if holds_secret(line.encode(), "a.txt") and line[:3] != "key"]


def test_many_secrets_in_a_text_are_taken_out_in_one_pass():
    lines = [f"password = 'q8Zr{number}LmTt90p'" for number in range(6000)]
    started = time.process_time()

    public = redacted("\n".join(lines))
    assert "q8Zr" not in public
    assert public.count(REDACTED) == len(lines)
    assert time.process_time() - started < 2  # 0.05 s, or 24 s where each secret begins the search anew
