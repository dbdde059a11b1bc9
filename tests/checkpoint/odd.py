"""Repositories of odd kinds and in odd states, each made by git itself in a folder."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from .real import Repo, started

if TYPE_CHECKING:
    from pathlib import Path


def unborn(path: Path) -> Repo:
    """Nothing committed, one file staged."""
    path.mkdir()
    repo = Repo(path)
    repo.git("init", "-q")
    repo.write("a.txt", "first\n")
    repo.write("b.dat", "b\n")
    repo.write("staged", "staged\n")
    repo.git("add", "staged")
    return repo


def empty(path: Path) -> Repo:
    """Nothing at all."""
    path.mkdir()
    repo = Repo(path)
    repo.git("init", "-q")
    return repo


def detached(path: Path) -> Repo:
    """HEAD at a commit."""
    repo = started(path)
    repo.git("checkout", "-q", "--detach")
    return repo


def _two_sides(path: Path) -> Repo:
    repo = started(path)
    repo.git("checkout", "-q", "-b", "side")
    repo.write("a.txt", "side\n")
    repo.commit("side")
    repo.git("checkout", "-q", "main")
    repo.write("a.txt", "main\n")
    repo.commit("main")
    return repo


def merging(path: Path) -> Repo:
    """In the middle of a merge with a conflict."""
    repo = _two_sides(path)
    repo.git("merge", "side", check=False)
    assert repo.path.joinpath(".git/MERGE_HEAD").is_file()
    return repo


def rebasing(path: Path) -> Repo:
    """In the middle of a rebase with a conflict."""
    repo = _two_sides(path)
    repo.git("rebase", "side", check=False)
    assert repo.path.joinpath(".git/rebase-merge").is_dir()
    return repo


def cherry_picking(path: Path) -> Repo:
    """In the middle of a cherry-pick."""
    repo = _two_sides(path)
    repo.git("cherry-pick", "side", check=False)
    assert repo.path.joinpath(".git/CHERRY_PICK_HEAD").is_file()
    return repo


def reverting(path: Path) -> Repo:
    """In the middle of a revert."""
    repo = _two_sides(path)
    repo.write("a.txt", "again\n")
    repo.commit("again")
    repo.git("revert", "HEAD~1", check=False)
    assert repo.path.joinpath(".git/REVERT_HEAD").is_file()
    return repo


def bisecting(path: Path) -> Repo:
    """In the middle of a bisection."""
    repo = started(path)
    for number in range(5):
        repo.write("number", f"{number}\n")
        repo.commit(str(number))
    repo.git("bisect", "start", "HEAD", "HEAD~4")
    assert repo.path.joinpath(".git/BISECT_LOG").is_file()
    return repo


def shallow(path: Path) -> Repo:
    """Cloned with one commit of its history."""
    source = started(path.parent / "source")
    for number in range(3):
        source.write("number", f"{number}\n")
        source.commit(str(number))
    source.git("clone", "-q", "--depth", "1", f"file://{source.path}", str(path))
    repo = Repo(path)
    assert repo.git("rev-parse", "--is-shallow-repository").strip() == "true"
    return repo


def sharing(path: Path) -> Repo:
    """Cloned with another repository's objects."""
    source = started(path.parent / "source")
    source.git("clone", "-q", "--shared", ".", str(path))
    return Repo(path)


def linked(path: Path) -> Repo:
    """A worktree of another repository."""
    source = started(path.parent / "source")
    source.git("worktree", "add", "-q", "-b", "linked", str(path))
    return Repo(path)


def packed(path: Path) -> Repo:
    """References and objects in packs."""
    repo = started(path)
    repo.git("tag", "v1")
    repo.git("pack-refs", "--all", "--prune")
    repo.git("gc", "-q")
    return repo


def split_index(path: Path) -> Repo:
    """An index of two files."""
    repo = started(path)
    repo.git("update-index", "--split-index")
    repo.write("later", "later\n")
    repo.git("add", "later")
    return repo


def untracked_cache(path: Path) -> Repo:
    """An index that remembers untracked files."""
    repo = started(path)
    repo.git("update-index", "--force-untracked-cache")
    repo.write("new/file", "new\n")
    repo.git("status")
    return repo


def index_version_4(path: Path) -> Repo:
    """An index with shortened paths."""
    repo = started(path)
    repo.git("update-index", "--index-version", "4")
    return repo


def sha256(path: Path) -> Repo:
    """Objects with longer names."""
    return started(path, "--object-format=sha256")


def reftable(path: Path) -> Repo:
    """References in tables."""
    asked = subprocess.run(  # noqa: S603 - a folder of ours
        ["git", "init", "-q", "--ref-format=reftable", str(path)],  # noqa: S607
        capture_output=True,
        check=False,
    )
    if asked.returncode:
        pytest.skip("this git has no reftable")
    shutil.rmtree(path)
    return started(path, "--ref-format=reftable")


def autocrlf(path: Path) -> Repo:
    """Line ends changed on the way in and out."""
    repo = started(path)
    repo.git("config", "core.autocrlf", "true")
    repo.git("config", "core.safecrlf", "true")
    repo.write("dos.txt", b"one\r\ntwo\r\n")
    repo.write("unix.txt", b"one\ntwo\n")
    repo.write("mixed.txt", b"one\r\ntwo\nthree\r")
    return repo


def attributes(path: Path) -> Repo:
    """Attributes that change contents on the way in and out."""
    repo = started(path)
    repo.write(
        ".gitattributes",
        "*.txt text eol=crlf\n*.u16 text working-tree-encoding=UTF-16LE\n"
        "*.ident ident\nsrc export-ignore\n*.subst export-subst\n*.bin -text\n",
    )
    repo.write("mixed.txt", b"one\r\ntwo\nthree\r")
    repo.write("no.u16", b"odd")  # not UTF-16: git's own add refuses it
    repo.write("some.u16", "text\n".encode("utf-16-le"))
    repo.write("x.ident", "$Id: edited by hand $\n")
    repo.write("x.subst", "$Format:%H$\n")
    return repo


def no_file_mode(path: Path) -> Repo:
    """Modes that git is told to ignore."""
    repo = started(path)
    repo.git("config", "core.fileMode", "false")
    repo.write("new.sh", "#!/bin/sh\n", executable=True)
    return repo


def no_links(path: Path) -> Repo:
    """Links that git is told to write as files."""
    repo = started(path)
    repo.git("config", "core.symlinks", "false")
    return repo


def ignoring_case(path: Path) -> Repo:
    """Names that git is told to compare without case."""
    repo = started(path)
    repo.git("config", "core.ignoreCase", "true")
    repo.write("A.TXT", "another\n")
    repo.write("SRC/Deep/c.py", "another\n")
    return repo


def odd_names(path: Path) -> Repo:
    """Names with every kind of odd character."""
    repo = started(path)
    repo.git("config", "core.quotePath", "true")
    repo.git("config", "core.precomposeUnicode", "true")
    for name in (
        b" leading", b"trailing ", b"tab\there", b"line\nbreak", b'quo"te', b"back\\slash",
        b"-dash", b"--output=x", b":(top)x", b"*", b"[a]", b"\xff\xfe", "é".encode(),
        "e\u0301".encode(), b"!x", b"#x", b"~", b"con", b"a:b", b"\x01\x7f", b"@{0}",
    ):  # fmt: skip
        repo.write(name, name)
        repo.write(b"dir-" + name + b"/" + name, name)
    return repo


def sparse(path: Path) -> Repo:
    """A part of the tree checked out."""
    repo = started(path)
    repo.write("other/file", "other\n")
    repo.commit("other")
    repo.git("sparse-checkout", "set", "--cone", "src")
    assert not repo.path.joinpath("other").exists()
    return repo


def sparse_index(path: Path) -> Repo:
    """The same with an index of folders."""
    repo = sparse(path)
    repo.git("sparse-checkout", "set", "--cone", "--sparse-index", "src")
    return repo


def submodule(path: Path) -> Repo:
    """A submodule with an edit in it."""
    started(path.parent / "library")
    repo = started(path)
    repo.git("submodule", "add", "-q", str(path.parent / "library"), "library")
    repo.git("commit", "-q", "-m", "with a submodule")
    repo.write("library/a.txt", "edited in the submodule\n")
    return repo


def in_a_submodule(path: Path) -> Repo:
    """The submodule itself."""
    return Repo(submodule(path).path / "library")


def nested(path: Path) -> Repo:
    """A repository inside that is no submodule."""
    repo = started(path)
    started(path / "inner")
    repo.write("inner/work.txt", "work\n")
    return repo


def nested_unborn(path: Path) -> Repo:
    """A repository without a commit inside."""
    repo = started(path)
    unborn(path / "inner")
    return repo


def below_a_repository(path: Path) -> Repo:
    """A repository inside of another."""
    started(path.parent / "outer")
    return started(path.parent / "outer/vendored/inner")


def separate_git_dir(path: Path) -> Repo:
    """Its git directory elsewhere."""
    path.mkdir()
    repo = Repo(path)
    repo.git("init", "-q", "--separate-git-dir", str(path.parent / "apart.git"))
    repo.write("a.txt", "first\n")
    repo.commit("first")
    return repo


def in_a_folder_of_odd_name(path: Path) -> Repo:
    """A path that a shell would run."""
    return started(path / "é '\"$(touch x) \\ -c")


def bare_of_config(path: Path) -> Repo:
    """No settings."""
    repo = started(path)
    repo.path.joinpath(".git/config").unlink()
    return repo


def locked_index(path: Path) -> Repo:
    """The lock of a git that was killed."""
    repo = started(path)
    repo.path.joinpath(".git/index.lock").touch()
    return repo


def no_index(path: Path) -> Repo:
    """No index."""
    repo = started(path)
    repo.path.joinpath(".git/index").unlink()
    return repo
