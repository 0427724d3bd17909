"""Repositories to capture, made with the git command in an environment of their own."""

import hashlib
import os
import subprocess
from pathlib import Path

from mlobs.repro.code import snapshot_code
from mlobs.repro.code_restore import restore_code

WHO = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org", "-c", "commit.gpgsign=false")


def git(folder, *arguments, content=None):
    """Run git as a user would, and return what it printed."""
    command = ["git", *WHO, "-c", "protocol.file.allow=always", *arguments]
    done = subprocess.run(command, cwd=folder, input=content, capture_output=True, check=False)
    assert done.returncode == 0, (arguments, done.stderr.decode())
    return done.stdout.decode("utf-8", "replace").strip()


def new_repository(folder, files=(), *, pushed=True):
    """A repository with one commit of the files, and a remote that has it."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    write(folder, dict(files))
    commit(folder)
    if pushed:
        remote = folder.with_name(f"{folder.name}.remote")
        git(folder, "init", "-q", "--bare", "-b", "main", str(remote))
        git(remote, "config", "uploadpack.allowAnySHA1InWant", "true")
        git(folder, "remote", "add", "origin", str(remote))
        git(folder, "push", "-q", "origin", "main")
    return folder


def commit(folder, message="a step"):
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", message)
    return git(folder, "rev-parse", "HEAD")


def write(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def on_disk(folder):
    """Content, and whether it can be executed, of all files but git's own, by name; links as their target."""
    found = {}
    for path in (Path(top) / name for top, folders, names in os.walk(folder) for name in (*folders, *names)):
        name = path.relative_to(folder)
        if ".git" not in name.parts and path.is_symlink():
            found[os.fsencode(name)] = ("link", os.fsencode(path.readlink()))
        elif ".git" not in name.parts and path.is_file():
            found[os.fsencode(name)] = (os.access(path, os.X_OK), path.read_bytes())
    return found


def state_of(folder):
    """Everything below a folder: names, contents, times."""
    found = {}
    for path in sorted(folder.rglob("*")):
        about = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found[str(path)] = (about.st_mtime_ns, about.st_mode, hashlib.sha256(content).hexdigest())
    return found


def captured(tmp_path, root, **options):
    return snapshot_code(root, scratch=tmp_path / "scratch", **options)


def restored(tmp_path, snapshot, name="restored", **options):
    dest = tmp_path / name
    restore_code(snapshot.roots, lambda root: snapshot.packs[root.tree], dest, **options)
    return dest


def unpacked(tmp_path, snapshot):
    """All contents and names of the packs, one after another, as git unpacks them; and the record itself."""
    found = [repr(snapshot.roots).encode(), repr(snapshot.missing).encode()]
    for number, root in enumerate(snapshot.roots):
        if root.tree not in snapshot.packs:
            continue
        found.append(
            b"\n".join(
                b"%r %r" % pair
                for pair in sorted(on_disk(restored(tmp_path, snapshot, f"u{number}")).items())
            )
        )
        if root.kind == "git":
            store = tmp_path / f"objects-{number}"
            git(tmp_path, "init", "-q", "--bare", str(store))
            alternates = f"{root.path}/.git/objects\n" if root.base else ""
            (store / "objects" / "info" / "alternates").write_text(alternates)
            git(store, "index-pack", "--stdin", "--fix-thin", content=snapshot.packs[root.tree].read_bytes())
            index = next((store / "objects" / "pack").glob("*.idx"))
            listed = git(store, "show-index", content=index.read_bytes())
            found += [
                subprocess.run(
                    ["git", "cat-file", "-p", line.split()[1]], cwd=store, capture_output=True, check=True
                ).stdout
                for line in listed.splitlines()
            ]
    return b"\n".join(found)
