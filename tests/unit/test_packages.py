"""Installed distributions: one wheel has one digest, whoever installs it; sources carry no secrets."""

import base64
import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata

import pytest

from mlobs.repro.packages import distributions, installed, record_digest, without_secrets


def wheel(folder, name="tiny", version="1.0", content="VALUE = 1\n"):
    """A wheel with a module, a script and a data file."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": content,
        f"{name}-{version}.data/scripts/{name}-run": "#!python\nprint('run')\n",
        f"{name}-{version}.data/data/share/{name}/facts.txt": "facts",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nName: not this\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
    }
    record = "".join(f"{path},sha256={hashed(text)},{len(text)}\n" for path, text in files.items())
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in {**files, f"{info}/RECORD": record + f"{info}/RECORD,,\n"}.items():
            archive.writestr(file, text)
    return path


def hashed(text):
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def pip_into(target, wheel_path):
    """An installation as pip does it, with its scripts and compiled files."""
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--compile"]
    subprocess.run([*command, "--prefix", target, wheel_path], check=True, capture_output=True)
    return str(next(target.glob("**/site-packages")))


def written(folder, name="tiny", **files):
    """A distribution's metadata as a folder."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    for file, text in files.items():
        (info / file.replace("_json", ".json")).write_text(text, encoding="utf-8")
    return str(folder)


def test_names_and_versions_are_those_of_importlib_metadata():
    expected = {one.metadata["Name"].lower(): one.version for one in metadata.distributions()}

    found = {one.name: one.version for one in installed()}

    assert {found[name] for name in ("numpy", "pandas")} == {expected["numpy"], expected["pandas"]}
    assert len(found) == len({name.replace("_", "-").replace(".", "-") for name in expected})


def test_pip_and_uv_give_one_digest_to_one_wheel(tmp_path):
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not on PATH")
    path = wheel(tmp_path)
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "uv"], check=True)
    python = tmp_path / "uv" / "bin" / "python"
    install = [uv, "pip", "install", "--quiet", "--link-mode=copy", "--no-index", "--python", python, path]
    subprocess.run(install, check=True, capture_output=True)

    [by_pip] = installed([pip_into(tmp_path / "pip", path)])
    [by_uv] = installed([str(next((tmp_path / "uv").glob("lib/*/site-packages")))])

    assert (by_pip.installer, by_uv.installer) == ("pip", "uv")
    assert by_pip.record_digest == by_uv.record_digest


def test_another_content_of_the_same_version_has_another_digest(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    [one] = installed([pip_into(tmp_path / "a", wheel(tmp_path / "one"))])
    [two] = installed([pip_into(tmp_path / "b", wheel(tmp_path / "two", content="VALUE = 2\n"))])

    assert one.version == two.version
    assert one.record_digest != two.record_digest


def test_the_digest_leaves_out_what_an_installer_adds():
    brought = "tiny.py,sha256=abc,9\n"
    added = (
        "../../../bin/tiny,sha256=def,7\n"
        "__pycache__/tiny.cpython-311.pyc,,\n"
        "tiny-1.0.dist-info/INSTALLER,sha256=x,4\n"
        "tiny-1.0.dist-info/REQUESTED,sha256=y,0\n"
        "tiny-1.0.dist-info/direct_url.json,sha256=z,30\n"
        "tiny-1.0.dist-info/RECORD,,\n"
    )

    assert record_digest(added + brought) == record_digest(brought)
    assert record_digest(brought) != record_digest(brought.replace("abc", "abd"))


def test_the_digest_reads_quoted_paths_and_those_of_windows():
    assert record_digest('"a,b.py",sha256=abc,1\n') != record_digest('"a,c.py",sha256=abc,1\n')
    assert record_digest("tiny\\a.py,sha256=abc,1\n") == record_digest("tiny/a.py,sha256=abc,1\n")


def test_the_first_of_two_distributions_with_one_name_counts(tmp_path):
    first, second = written(tmp_path / "a", INSTALLER="pip"), written(tmp_path / "b", INSTALLER="uv")

    [found] = installed([first, second])

    assert found.installer == "pip"


def test_names_are_normalised(tmp_path):
    assert list(distributions([written(tmp_path, name="Tiny.Name_x")])) == ["tiny-name-x"]


def test_an_editable_project_is_found_with_its_folder(tmp_path):
    direct = json.dumps({"url": (tmp_path / "my code").as_uri(), "dir_info": {"editable": True}})

    [found] = installed([written(tmp_path / "site", direct_url_json=direct)])

    assert found.is_editable
    assert found.root == str(tmp_path / "my code")


def test_the_build_folder_that_conda_leaves_is_no_source(tmp_path):
    direct = json.dumps({"url": "file:///home/conda/feedstock_root/tiny/work", "dir_info": {}})

    [found] = installed([written(tmp_path, direct_url_json=direct, INSTALLER="conda\n")])

    assert (found.source, found.root, found.is_editable) == (None, None, False)


def test_an_egg_info_beside_its_sources_is_code_that_is_edited(tmp_path):
    (tmp_path / "tiny.egg-info").mkdir()
    (tmp_path / "tiny.egg-info" / "PKG-INFO").write_text("Name: tiny\nVersion: 2.0\n", encoding="utf-8")

    [found] = installed([str(tmp_path)])

    assert (found.is_editable, found.root, found.record_digest) == (True, str(tmp_path), None)


def test_a_source_under_version_control_is_pinned_to_its_commit_without_its_token(tmp_path):
    direct = json.dumps(
        {
            "url": "https://ghp_abcdefghijklmnopqrstuvwxyz012345:x-oauth-basic@github.com/me/tiny.git",
            "vcs_info": {"vcs": "git", "commit_id": "c0ffee"},
        }
    )

    [found] = installed([written(tmp_path, direct_url_json=direct)])

    assert found.source == "git+https://github.com/me/tiny.git@c0ffee"


@pytest.mark.parametrize("text", ["{", "[]", '{"url": 7}'])
def test_a_broken_direct_url_is_as_good_as_none(tmp_path, text):
    [found] = installed([written(tmp_path, direct_url_json=text)])

    assert found.source is None


def test_urls_lose_users_passwords_and_signatures():
    assert without_secrets("https://me:hunter2@host/simple") == "https://host/simple"
    assert without_secrets("ssh://git@host/me/tiny") == "ssh://git@host/me/tiny"
    assert "s3cr3t" not in without_secrets("https://host/a.whl?sv=1&sig=s3cr3tsignature")
    assert "hunter2" not in without_secrets("https://me:hunter2@[broken/simple")
