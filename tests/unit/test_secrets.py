"""What is taken for a secret, and what is not."""

import time

import pytest

from mlobs.secrets import REDACTED, Redaction, masked, public_arguments, says_secret


def words(table):
    return table.split()


SECRET = words("""
password db_password dbPassword DB_PASSWORD db.password passwd user_passwd passphrase key_passphrase pwd
secret client_secret clientSecret secret_key aws_secret_access_key AWS_ACCESS_KEY_ID_SECRET
api_key apiKey apikey API-KEY openai_api_key x-api-key access_key accessKey private_key privateKey account_key
connection_string connectionString azure.connection_string conn_str shared_access_signature sas_token
auth_token access_token accessToken refresh_token api_token bearer_token hub_token hf_token github_token
slack_bot_token session_token credentials credential aws_credentials authorization Authorization cookie
instrumentation_key subscription_key encryption_key signing_key storage_key token hf.token my_token sas
""")
HARMLESS = words("""
use_cls_token cls_token pad_token bos_token eos_token unk_token sep_token mask_token additional_special_tokens
pad_token_id eos_token_id max_tokens num_tokens max_new_tokens min_tokens token_dim token_embedding tokenizer
tokenizer_name tokenizer_class token_type_ids token_dropout tokens_per_second n_tokens total_tokens
first_token image_token prompt_token patch_token class_token decoder_start_token next_token_loss
keyboard key keys query_key
key_dim num_key_value_heads key_value_proj_dim primary_key foreign_key sort_key target_key label_key
author authors authority auth_type secretary passed bypass compass passes num_passes password_file secret_name
token_file password_length api_version access_mode private public privacy_budget privatize accessor
connection connections connection_pool string string_length signature sigmoid sig sas_version cookie_count
learning_rate optimizer weight_decay batch_size seed model_name run_name dataset url host port
""")
OPAQUE = "q8Zr41LmTt90pXs2"


@pytest.mark.parametrize("name", SECRET)
def test_a_secret_name_is_known_by_its_words(name):
    assert says_secret(name, OPAQUE)
    assert Redaction().value(name, OPAQUE) == REDACTED


@pytest.mark.parametrize("name", HARMLESS)
@pytest.mark.parametrize(
    "value", ["<pad>", "[CLS]", "yes", "bert-base-uncased", "some/path.json", 7, 0.5, True]
)
def test_a_name_of_machine_learning_is_no_secret(name, value):
    assert Redaction().value(name, value) == value


@pytest.mark.parametrize("name", ["pad_token", "token", "cls_token", "image_token"])
@pytest.mark.parametrize(
    "value", ["<|endoftext|>", "[PAD]", "</s>", "<extra_id_99_of_a_long_name>", "mean", "first"]
)
def test_a_special_token_is_no_secret(name, value):
    assert Redaction().value(name, value) == value


def test_numbers_are_no_secrets_but_in_a_password():
    redaction = Redaction()

    assert redaction.value("password", 1234) == REDACTED
    assert redaction.value("secret", 1234) == 1234
    assert redaction.value("use_password", True) is True
    assert redaction.value("token", None) is None


def test_lists_are_looked_through():
    assert Redaction().value("passwords", ["a1", "b2"]) == [REDACTED, REDACTED]
    assert Redaction().value("urls", ["http://u:p@host/x", "http://host"]) == [
        f"http://{REDACTED}@host/x",
        "http://host",
    ]


def test_mappings_within_lists_are_looked_through():
    hosts = [{"url": "http://host", "password": "x"}, {"args": ["ghp_16C7e42F292c6912E7710c838347Ae178B4a"]}]

    assert Redaction().value("hosts", hosts) == [
        {"url": "http://host", "password": REDACTED},
        {"args": [REDACTED]},
    ]


def test_what_holds_no_secret_stays_what_it_is():
    """A backend's field that is a tuple would otherwise be missing where the run is delivered later."""
    assert Redaction().value("hosts", ("a", "b")) == ("a", "b")


def test_what_is_allowed_is_recorded():
    assert Redaction(["password", "db.secret"]).value("model.password", "x") == "x"
    assert Redaction(["db.secret"]).value("db.secret", "x") == "x"
    assert Redaction(["db.secret"]).value("other.secret", "x") == REDACTED


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("http://user:hunter2@mlflow.example.org:5000/api refused", "hunter2"),
        ("postgresql+psycopg2://mlflow:s3cr3t@db/mlflow", "s3cr3t"),
        ("DefaultEndpointsProtocol=https;AccountName=a;AccountKey=Zm9v+/==;EndpointSuffix=x", "Zm9v+/=="),
        ("InstrumentationKey=00000000-1111-2222-3333-444444444444;Ingestion=https://x", "444444444444"),
        ("https://a.blob.core.windows.net/c?sv=2022&sig=abc%2Fdef%3D&se=1", "abc%2Fdef%3D"),
        ("Endpoint=sb://x/;SharedAccessKeyName=n;SharedAccessKey=Zm9vYmFy", "Zm9vYmFy"),
        ("Authorization: Bearer abcdefghijklmnop", "abcdefghijklmnop"),
        ("key AKIAIOSFODNN7EXAMPLE is invalid", "AKIAIOSFODNN7EXAMPLE"),
        ("ghp_16C7e42F292c6912E7710c838347Ae178B4a", "16C7e42F292c6912E7710c838347Ae178B4a"),
        ("hf_abcdefghijklmnopqrstuvwxyz012345", "abcdefghijklmnopqrstuvwxyz012345"),
        ("sk-proj-abcdefghijklmnopqrstuv0123", "abcdefghijklmnopqrstuv0123"),
        ("xoxb-123456789012-abcdefghijkl", "123456789012-abcdefghijkl"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc-def", "eyJzdWIiOiIxMjM0In0"),
        ("login failed: password=hunter2, host=x", "hunter2"),
        ('{"api_key": "abc"} api_key: abc123', "abc123"),
        ('{"api_key": "abc123"}', "abc123"),
        ("connect(**{'user': 'zoe', 'password': 'hunter2'}) failed", "hunter2"),
    ],
)  # fmt: skip
def test_a_secret_inside_a_text_is_masked(text, secret):
    assert secret not in masked(text)
    assert REDACTED in masked(text)


@pytest.mark.parametrize(
    "text",
    [
        "http://mlflow.example.org:5000/api",
        "s3://bucket/path@v2",
        "sk-learn-gradient-boosting-classifier",
        "pad_token=<pad>",
        "user@example.org wrote it",
        "the signature of f(x) = sig(x)",
        "basic block of the network",
        "password",
        "a/b@c",
    ],
)
def test_other_texts_stay_as_they_are(text):
    assert masked(text) == text


def test_the_values_of_secret_variables_are_known():
    redaction = Redaction(
        environment={"MY_TOKEN": "zebra-99-zebra", "PWD": "/home/zoe", "API_KEY": "short", "MODE": "zebra"}
    )

    assert (
        redaction.text("got zebra-99-zebra from /home/zoe, short, zebra")
        == f"got {REDACTED} from /home/zoe, short, zebra"
    )


def test_a_secret_may_begin_like_a_path():
    redaction = Redaction(
        environment={
            "AWS_SECRET_ACCESS_KEY": "/x8Zr41LmTt90pXs2/q8Zr41",
            "GOOGLE_APPLICATION_CREDENTIALS": "/run/keys/google.json",
        }
    )

    told = redaction.text("/x8Zr41LmTt90pXs2/q8Zr41 is refused, see /run/keys/google.json")
    assert told == f"{REDACTED} is refused, see /run/keys/google.json"


def test_a_command_line_is_told_without_its_secrets():
    told = public_arguments(
        [
            "train.py",
            "--api-key",
            "abc",
            "--lr=0.1",
            "--password=abc",
            "-x",
            "http://u:abc@h/",
            "--token",
            "abc",
            "--verbose",
        ]
    )

    assert "abc" not in " ".join(told)
    assert told[0] == "train.py"
    assert (told[3], told[-1]) == ("--lr=0.1", "--verbose")


@pytest.mark.parametrize(
    "text",
    [
        "DB_PASSWORD=abcdefgh12345678",
        "refresh_token=abcdefgh12345678",
        "hf-token: abcdefgh12345678",
        "token=abcdefgh12345678",
        "secret: 'abcdefgh12345678'",
        "train.py --password abcdefgh12345678",
        "train.py --hub-token abcdefgh12345678 --lr 1",
    ],
)
def test_secrets_under_longer_names_and_behind_options_are_found(text):
    public = Redaction().text(text)
    assert "abcdefgh12345678" not in public
    assert REDACTED in public


@pytest.mark.parametrize(
    "text",
    [
        "use_cls_token=True",
        "token: 512",
        "pad_token=<|endoftext|>",
        "the next token: something",
        "--token --lr 1",
        "tokens=123456789012",
        "secret: none",
    ],
)
def test_what_only_sounds_like_a_secret_is_recorded(text):
    assert Redaction().text(text) == text


@pytest.mark.parametrize(
    "text",
    ["x" * 30 + "-token=abcdefgh12345678", "token=" + "q" * 60 + "1", "eyJ-eyJhbGciOiJI.eyJzdWIiOiIx.abc"],
)
def test_a_secret_is_found_wherever_it_begins_in_a_word(text):
    assert masked(text).endswith(REDACTED)


LONG = 48_000  # characters; 0.02 s, or 4 to 70 s at a cost that grows with the square


@pytest.mark.parametrize("piece", ["0_1_2_", "a-", "api_", "hf_", "token=", "--a-", "eyJ-", "://"])
def test_a_long_text_costs_no_more_than_what_it_is_long(piece):
    text = "=" + piece * (LONG // len(piece))
    started = time.process_time()
    assert masked(text) == text
    assert time.process_time() - started < 1.0
