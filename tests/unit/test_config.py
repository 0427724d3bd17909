from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import mlobs
from mlobs.config import SETTINGS, Settings, load_settings
from mlobs.errors import UsageError


def test_without_anything_the_defaults_hold(tmp_path: Path) -> None:
    settings = load_settings(cwd=tmp_path, env={})

    assert settings.store == tmp_path / ".mlobs"
    assert (settings.experiment, settings.backends, settings.mode) == ("default", (), "online")
    assert (settings.finish_timeout_s, settings.linger_s) == (30.0, 300.0)
    assert set(settings.origins.values()) == {"default"}
    assert set(settings.origins) == set(SETTINGS)


def test_arguments_go_before_the_environment_before_the_file_before_the_default(tmp_path: Path) -> None:
    path = tmp_path / "mlobs.toml"
    path.write_text('experiment = "file"\nmode = "offline"\ndelivery = "thread"\n')
    env = {"MLOBS_EXPERIMENT": "environment", "MLOBS_MODE": "disabled"}

    settings = load_settings(cwd=tmp_path, env=env, experiment="argument", mode=None)

    assert (settings.experiment, settings.origins["experiment"]) == ("argument", "argument")
    assert (settings.mode, settings.origins["mode"]) == ("disabled", "environment MLOBS_MODE")
    assert (settings.delivery, settings.origins["delivery"]) == ("thread", str(path))
    assert (settings.on_error, settings.origins["on_error"]) == ("warn", "default")


def test_the_nearest_file_upwards_counts_alone(tmp_path: Path) -> None:
    inner = tmp_path / "project" / "src"
    inner.mkdir(parents=True)
    (tmp_path / "mlobs.toml").write_text('experiment = "far"\nmode = "offline"\n')
    (tmp_path / "project" / "pyproject.toml").write_text('[tool.mlobs]\nexperiment = "near"\n')
    (inner / "pyproject.toml").write_text('[project]\ndependencies = ["mlobs"]\n')

    settings = load_settings(cwd=inner, env={})

    assert (settings.experiment, settings.mode) == ("near", "online")


def test_mlobs_toml_goes_before_pyproject_in_one_folder(tmp_path: Path) -> None:
    (tmp_path / "mlobs.toml").write_text('experiment = "own"\n')
    (tmp_path / "pyproject.toml").write_text('[tool.mlobs]\nexperiment = "shared"\n')

    assert load_settings(cwd=tmp_path, env={}).experiment == "own"


def test_the_store_is_the_nearest_one_upwards(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / ".mlobs").mkdir()

    settings = load_settings(cwd=inner, env={})

    assert settings.store == tmp_path / ".mlobs"
    assert settings.origins["store"] == "nearest .mlobs upwards"


@pytest.mark.parametrize("given", ["records", Path("records")])
def test_a_relative_store_lies_where_it_was_written(tmp_path: Path, given: str | Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "mlobs.toml").write_text('store = "of_file"\n')

    assert load_settings(cwd=inner, env={}).store == tmp_path / "of_file"
    assert load_settings(cwd=inner, env={"MLOBS_STORE": "of_env"}).store == inner / "of_env"
    assert load_settings(cwd=inner, env={}, store=given).store == inner / "records"


def test_the_environment_is_text_and_empty_is_not_set(tmp_path: Path) -> None:
    env = {"MLOBS_BACKENDS": "mlflow, tensorboard", "MLOBS_LINGER_S": "1.5", "MLOBS_MODE": ""}

    settings = load_settings(cwd=tmp_path, env=env)

    assert settings.backends == ("mlflow", "tensorboard")
    assert settings.linger_s == 1.5
    assert settings.origins["mode"] == "default"


@pytest.mark.parametrize(("name", "header"), [("mlobs.toml", ""), ("pyproject.toml", "tool.mlobs.")])
def test_tables_name_backends_and_hold_their_options(tmp_path: Path, name: str, header: str) -> None:
    path = tmp_path / name
    path.write_text(
        f'[{header}backends.mlflow]\ntracking_uri = "http://127.0.0.1:5000"\n'
        f'[{header}backends.second]\ntype = "mlflow"\n'
    )

    settings = load_settings(cwd=tmp_path, env={})
    overridden = load_settings(cwd=tmp_path, env={"MLOBS_BACKENDS": "second"})

    assert settings.backends == ("mlflow", "second")
    assert settings.backend_options["mlflow"] == {"tracking_uri": "http://127.0.0.1:5000"}
    assert settings.origins["backends.second"] == str(path)
    assert overridden.backends == ("second",)
    assert overridden.backend_options == settings.backend_options


def test_a_list_names_backends_without_options(tmp_path: Path) -> None:
    (tmp_path / "mlobs.toml").write_text('backends = ["tensorboard"]\n')

    settings = load_settings(cwd=tmp_path, env={})

    assert (settings.backends, settings.backend_options) == (("tensorboard",), {})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            'mode = "onlin"',
            """mode is 'onlin' ({path}); expected "online", "offline" or "disabled" - type: mode = """,
        ),
        ("linger_s = '5'", "linger_s is '5' ({path}); expected seconds, 0 or more - type: linger_s = 30.0"),
        ("linger_s = true", "linger_s is True ({path}); expected seconds, 0 or more - type: linger_s = 30.0"),
        ("linger_s = nan", "linger_s is nan ({path}); expected seconds, 0 or more - type: linger_s = 30.0"),
        (
            "backends = 'mlflow'",
            """backends is 'mlflow' ({path}); expected a list of names - type: backends = ["mlflow", "tens""",
        ),
        (
            "[backends]\nmlflow = 'http://x'",
            "backends.mlflow is 'http://x' ({path}); expected a table of options - type: [backends.mlflow]",
        ),
        ("modes = 'online'", "unknown setting 'modes' ({path}); did you mean 'mode'?"),
        ("colour = 1", "unknown setting 'colour' ({path}); known are experiment, backends, store, mode, "),
        ("store = 's3://bucket'", "store is 's3://bucket' ({path}); expected a folder on this machine"),
        ("experiment = ''", "experiment is '' ({path}); expected a text that is not empty"),
        ("mode = ", "{path} is not TOML: "),
    ],
)
def test_a_mistake_in_a_file_says_where_it_is_and_what_to_type(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "mlobs.toml"
    path.write_text(content)

    with pytest.raises(UsageError) as raised:
        load_settings(cwd=tmp_path, env={})

    assert str(raised.value).startswith(message.format(path=path))


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (
            {"MLOBS_MODE": "offlin"},
            (
                "mode is 'offlin' (environment MLOBS_MODE); expected "
                '"online", "offline" or "disabled" - type: MLOBS_MODE=online'
            ),
        ),
        (
            {"MLOBS_LINGER_S": "soon"},
            (
                "linger_s is 'soon' (environment MLOBS_LINGER_S); expected seconds, 0 or more"
                " - type: MLOBS_LINGER_S=30.0"
            ),
        ),
        (
            {"MLOBS_STOR": "/data"},
            "environment variable MLOBS_STOR is no setting; did you mean MLOBS_STORE? - rename or unset it",
        ),
    ],
)
def test_a_mistake_in_the_environment_says_the_variable_and_what_to_type(
    tmp_path: Path, env: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError) as raised:
        load_settings(cwd=tmp_path, env=env)

    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"delivery": "carrier"}, """delivery is 'carrier' (argument); expected "process" or "thread" - """),
        (
            {"store": 3},
            "store is 3 (argument); expected a folder on this machine - type: store='/data/mlobs'",
        ),
        ({"backends": "mlflow"}, "backends is 'mlflow' (argument); expected a list of names"),
        (
            {"finish_timeout": 3},
            "unknown setting 'finish_timeout' (argument); did you mean 'finish_timeout_s'?",
        ),
    ],
)
def test_a_mistake_in_an_argument_says_what_to_type(
    tmp_path: Path, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError) as raised:
        load_settings(cwd=tmp_path, env={}, **arguments)

    assert str(raised.value).startswith(message)


def test_a_file_that_is_no_text_is_refused_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "mlobs.toml").write_bytes(b"mode = '\xff'")

    with pytest.raises(UsageError, match=r"mlobs\.toml is not TOML: .*utf-8"):
        load_settings(cwd=tmp_path, env={})


def test_a_table_of_the_wrong_type_in_pyproject_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool]\nmlobs = 3\n")

    with pytest.raises(UsageError, match=r"tool\.mlobs is 3; expected a table"):
        load_settings(cwd=tmp_path, env={})


def test_variables_of_somebody_else_are_left_alone(tmp_path: Path) -> None:
    env = {"MLOBS_TEAM": "x", "MLOBSTER": "y", "MODE": "z"}

    assert load_settings(cwd=tmp_path, env=env) == load_settings(cwd=tmp_path, env={})


def test_every_setting_can_be_explained() -> None:
    fields = set(Settings.__dataclass_fields__) - {"backend_options", "origins"}

    assert set(SETTINGS) == fields
    for setting in SETTINGS.values():
        assert setting.about
        assert setting.variable == f"MLOBS_{setting.name.upper()}"
        setting.kind.check(setting.kind.example)
        setting.kind.check(setting.default)


def test_the_parser_is_imported_only_for_a_file(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib\n"
        "from mlobs.config import load_settings\n"
        f"load_settings(cwd=pathlib.Path({str(tmp_path)!r}), env={{}})\n"
        "assert not {'tomllib', 'tomli', 'difflib'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_working_directory_that_is_gone_is_named(tmp_path, monkeypatch):
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()

    with pytest.raises(UsageError, match="the working directory was deleted"):
        mlobs.start_run()
