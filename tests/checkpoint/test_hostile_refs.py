"""Attack 44, of what is kept below `.git`: refs, records, journals and objects made by others."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest

from otel_agents.checkpoint.catalog import checkpoints, diff, get, patch, prune
from otel_agents.checkpoint.journal import Journal
from otel_agents.checkpoint.plan import Plan, Put
from otel_agents.checkpoint.restore import restore
from otel_agents.errors import OtelAgentsError

from .real import Repo, everything, is_sentence, isolate, refused, scribble, seen, started

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """Give a repository with one commit, alone with itself."""
    isolate(tmp_path, monkeypatch)
    return started(tmp_path / "repo")


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """Give a directory outside, which nothing may change."""
    directory = tmp_path / "victim"
    directory.mkdir()
    directory.joinpath("precious").write_text("precious\n")
    return directory


def _planted(repo: Repo, identity: str, entries: bytes) -> str:
    """Give the checkpoint of that id another tree, of entries as `git mktree` takes them."""
    tree = repo.git("mktree", "-z", stdin=entries).strip()
    return _replanted(repo, identity, tree)


def _replanted(repo: Repo, identity: str, tree: str) -> str:
    ref = f"refs/otel-agents/checkpoints/{identity}"
    body = repo.git("cat-file", "commit", ref)
    first, _, rest = body.partition("\n")
    assert first.startswith("tree ")
    made = repo.git(
        "hash-object", "-t", "commit", "-w", "--stdin", stdin=f"tree {tree}\n{rest}".encode()
    ).strip()
    repo.git("update-ref", ref, made)
    return made


def _blob(repo: Repo, content: bytes) -> str:
    return repo.git("hash-object", "-w", "--stdin", stdin=content).strip()


_NAMES: Final = {
    "parent": b"..",
    "self": b".",
    "git": b".git",
    "upper git": b".GIT",
    "mixed git": b".gIt",
    "git dot": b".git.",
    "git space": b".git ",
    "short git": b"git~1",
    "git stream": b".git::$INDEX_ALLOCATION",
    "zero width git": ".g\u200cit".encode(),
    "workspace": b".otel-agents",
}


@pytest.mark.parametrize("name", list(_NAMES.values()), ids=list(_NAMES))
@pytest.mark.parametrize("depth", ["top", "below"])
def test_a_tree_that_names_git_or_its_parent_is_not_restored(
    repo: Repo, victim: Path, name: bytes, depth: str
) -> None:
    """Somebody wrote the tree by hand: no file of git's own and none outside is written."""
    saved = repo.checkpoint("to be replaced")
    hook = _blob(repo, b"#!/bin/sh\ntouch fired\n").encode()
    entry = b"100755 blob " + hook + b"\tpost-checkout\0"
    inner = repo.git("mktree", "-z", stdin=entry).strip().encode()
    entries = b"040000 tree " + inner + b"\t" + name + b"\0"
    if depth == "below":
        inner = repo.git("mktree", "-z", stdin=entries).strip().encode()
        entries = b"040000 tree " + inner + b"\tdeep\0"
    _planted(repo, saved.id, entries)
    was, outside = repo.seen(), seen(repo.path.parent / "victim")
    hooks = sorted(path.name for path in repo.path.joinpath(".git").rglob("post-checkout"))
    with pytest.raises(OtelAgentsError) as caught:
        restore(repo.found, saved.id, force=True)
    assert is_sentence(caught.value)
    assert repo.seen() == was
    assert seen(victim) == outside
    assert sorted(p.name for p in repo.path.joinpath(".git").rglob("post-checkout")) == hooks
    assert not repo.path.parent.joinpath("post-checkout").exists()


def test_a_link_in_a_planted_tree_is_not_a_way_out(repo: Repo, victim: Path) -> None:
    """A tree with a link `x` and a file `x/precious` cannot be, yet can be written."""
    saved = repo.checkpoint("to be replaced")
    link = _blob(repo, os.fsencode(victim)).encode()
    evil = _blob(repo, b"overwritten\n").encode()
    inner = repo.git("mktree", stdin=b"100644 blob " + evil + b"\tprecious\n").strip().encode()
    rows = ((b"120000", link), (b"40000", inner))
    raw = b"".join(mode + b" x\0" + bytes.fromhex(of.decode()) for mode, of in rows)
    tree = repo.git("hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=raw).strip()
    _replanted(repo, saved.id, tree)
    outside = seen(victim)
    with pytest.raises(OtelAgentsError) as caught:
        restore(repo.found, saved.id, force=True)
    assert is_sentence(caught.value)
    assert seen(victim) == outside


def _to_a_branch(repo: Repo, ref: str) -> None:
    repo.git("symbolic-ref", ref, "refs/heads/main")


def _to_a_blob(repo: Repo, ref: str) -> None:
    repo.git("update-ref", ref, _blob(repo, b"no commit"))


def _to_a_tree(repo: Repo, ref: str) -> None:
    repo.git("update-ref", ref, "HEAD^{tree}")


def _to_a_plain_commit(repo: Repo, ref: str) -> None:
    repo.git("update-ref", ref, "HEAD")


def _to_a_tag(repo: Repo, ref: str) -> None:
    repo.git("tag", "-a", "-m", "tag", "tagged")
    repo.git("update-ref", ref, repo.git("rev-parse", "refs/tags/tagged").strip())


def _to_nothing(repo: Repo, ref: str) -> None:
    repo.path.joinpath(".git", ref).write_text("0123456789" * 4 + "\n")


def _to_nonsense(repo: Repo, ref: str) -> None:
    repo.path.joinpath(".git", ref).write_text("nonsense\n")


@pytest.mark.parametrize(
    "plant",
    [
        _to_a_branch, _to_a_blob, _to_a_tree, _to_a_plain_commit, _to_a_tag, _to_nothing,
        _to_nonsense,
    ],
)  # fmt: skip
def test_a_ref_that_was_planted_is_no_checkpoint_and_spoils_none(
    repo: Repo, plant: Callable[[Repo, str], None]
) -> None:
    """It is not restored, the others are listed, and pruning it deletes no branch."""
    saved = repo.checkpoint("real")
    plant(repo, "refs/otel-agents/checkpoints/aaaaaaaaaaaaaaaa")
    plain = repo.git("for-each-ref", "refs/heads", "refs/tags")
    was = repo.seen()
    assert [one.id for one in checkpoints(repo.found)] == [saved.id]
    for asked in (get, diff, patch, restore):
        with pytest.raises(OtelAgentsError) as caught:
            asked(repo.found, "aaaaaaaaaaaaaaaa")
        assert is_sentence(caught.value)
    scribble(repo)
    repo.back_to(saved.id)
    assert repo.seen() == was
    prune(repo.found, 1, 1)
    assert repo.git("for-each-ref", "refs/heads", "refs/tags") == plain


def test_a_checkpoint_ref_that_points_to_a_branch_is_pruned_without_the_branch(
    repo: Repo,
) -> None:
    """`update-ref -d` follows a symbolic ref, and takes away what it points to."""
    saved = repo.checkpoint("old")
    ref = f"refs/otel-agents/checkpoints/{saved.id}"
    repo.git("branch", "keep", saved.commit)
    repo.git("symbolic-ref", ref, "refs/heads/keep")
    repo.write("a.txt", "newer\n")
    repo.checkpoint("new")
    prune(repo.found, 1, 1)
    assert repo.git("rev-parse", "refs/heads/keep").strip() == saved.commit


def test_other_refs_below_ours_are_left_alone(repo: Repo) -> None:
    """Nested names and names of another shape are somebody else's."""
    saved = repo.checkpoint("real")
    others = ("refs/otel-agents/checkpoints/deeper/name", "refs/otel-agents/other")
    for name in others:
        repo.git("update-ref", name, "HEAD")
    assert [one.id for one in checkpoints(repo.found)] == [saved.id]
    prune(repo.found, 1, 1)
    for name in others:
        repo.git("rev-parse", "--verify", name)


def _rewritten(repo: Repo, identity: str, pattern: str, text: str) -> None:
    """Change the record in a checkpoint's commit."""
    ref = f"refs/otel-agents/checkpoints/{identity}"
    body = repo.git("cat-file", "commit", ref)
    changed = re.sub(pattern, lambda _: text, body)
    assert changed != body
    made = repo.git(
        "hash-object", "-t", "commit", "-w", "--stdin", stdin=changed.encode(errors="replace")
    ).strip()
    repo.git("update-ref", ref, made)


@pytest.mark.parametrize("at", [-1, 0, 2**63 - 1, 2**63, 10**40])
def test_a_record_of_an_impossible_time_is_listed_or_passed_over(repo: Repo, at: int) -> None:
    """In the past or in a year of five digits: no function fails for it, and others are found."""
    saved, odd = repo.checkpoint("real"), repo.checkpoint("odd")
    _rewritten(repo, odd.id, r'"created_at":\d+', f'"created_at":{at}')
    assert saved.id in [one.id for one in checkpoints(repo.found)]
    prune(repo.found, 5, 1_000_000)
    prune(repo.found, 5, 0.5)
    assert saved.id in [one.id for one in checkpoints(repo.found)]


def test_a_record_does_not_make_a_program_of_root(repo: Repo) -> None:
    """Modes are in the record: set-user-id is none that a restore sets."""
    repo.write("run.sh", "#!/bin/sh\n")
    repo.path.joinpath("run.sh").chmod(0o751)
    saved = repo.checkpoint("odd mode")
    _rewritten(repo, saved.id, r"\b489\b", str(0o4777))
    repo.path.joinpath("run.sh").unlink()
    said = refused(lambda: repo.back_to(saved.id))
    if said:
        assert is_sentence(said)
    else:
        assert not repo.path.joinpath("run.sh").stat().st_mode & 0o6000


def _loose(repo: Repo, name: str) -> Path:
    return repo.path / ".git/objects" / name[:2] / name[2:]


@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "flipped", "another"])
def test_a_damaged_object_is_not_restored(repo: Repo, damage: str) -> None:
    """The content a checkpoint names, or none: the tree stays as it is, with one sentence."""
    repo.write("large.txt", "".join(f"line {number}\n" for number in range(9_000)))
    repo.write("other.txt", "".join(f"LINE {number}\n" for number in range(9_000)))
    saved = repo.checkpoint("good")
    one = _loose(repo, repo.git("rev-parse", f"{saved.commit}:large.txt").strip())
    other = _loose(repo, repo.git("rev-parse", f"{saved.commit}:other.txt").strip())
    content = bytearray(one.read_bytes())
    one.unlink()
    if damage == "empty":
        one.touch()
    elif damage == "cut":
        one.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        content[len(content) // 2] ^= 0x40
        one.write_bytes(content)
    elif damage == "another":
        one.write_bytes(other.read_bytes())
    scribble(repo)
    repo.write("large.txt", "work\n")
    spoiled = repo.seen()
    said = refused(lambda: repo.back_to(saved.id))
    assert is_sentence(said)
    assert repo.seen() == spoiled


@pytest.mark.parametrize("what", ["index", "HEAD", "packed-refs", "otel-agents/known"])
def test_a_damaged_file_of_git_is_one_sentence_or_no_matter(repo: Repo, what: str) -> None:
    """Nonsense in the index, HEAD, packed refs, and in what we know of files."""
    saved = repo.checkpoint("good")
    repo.path.joinpath(".git", what).write_bytes(b"nonsense" * 100)
    scribble(repo)
    spoiled = repo.seen()
    said = refused(lambda: repo.back_to(saved.id))
    if said:
        assert is_sentence(said)
        assert repo.seen() == spoiled
    else:
        assert repo.path.joinpath("a.txt").read_text() == "first\n"


def test_objects_that_were_collected_are_written_anew(repo: Repo) -> None:
    """What is known of files outlives neither their checkpoint nor its objects."""
    repo.write("only", "only in checkpoints\n")
    first = repo.checkpoint("first")
    repo.git("update-ref", "-d", f"refs/otel-agents/checkpoints/{first.id}")
    repo.git("gc", "-q", "--prune=now")
    was = repo.seen()
    again = repo.checkpoint("again")
    scribble(repo)
    repo.path.joinpath("only").unlink()
    repo.back_to(again.id)
    assert repo.seen() == was
    assert "missing" not in repo.git("fsck", "--connectivity-only", "--no-dangling")


_STEPS: Final = {
    "remove": {"remove": [b"../victim/precious"]},
    "remove below": {"remove": [b"src/../../victim/precious"]},
    "absolute": {"remove": [b"/{victim}/precious"]},
    "empty": {"empty": [b"../victim/empty"]},
    "make": {"make": [(b"../victim/made", 0o755)]},
    "modes": {"modes": [(b"../victim/precious", 0o777)]},
    "open": {"open": [(b"../victim", 0o777)]},
    "git": {"remove": [b".git/config"]},
    "put": {"put": [Put(b"../victim/precious", 0o100755, "0" * 40)]},
    "hook": {"put": [Put(b".git/hooks/post-checkout", 0o100755, "0" * 40)]},
    "staged": {"put": [Put(b"stolen", 0o100755, "0" * 40)]},
}


@pytest.mark.parametrize("steps", list(_STEPS.values()), ids=list(_STEPS))
def test_a_journal_that_was_planted_is_not_carried_out(
    repo: Repo, victim: Path, steps: dict[str, Any]
) -> None:
    """A repository brings one along, which deletes, writes or opens up what is outside of it."""
    victim.joinpath("empty").mkdir()
    victim.joinpath("0").write_text("a file of that number\n")
    victim.chmod(0o700)
    state = repo.path / ".git/otel-agents"
    state.mkdir()
    staged = state / "staged"
    if "stolen" in repr(steps):
        staged = victim
    else:
        staged.mkdir()
        staged.joinpath("0").write_text("#!/bin/sh\n")
    plan = Plan(
        **{
            name: [
                one.replace(b"/{victim}", os.fsencode(victim)) if name == "remove" else one
                for one in given
            ]
            for name, given in steps.items()
        }
    )
    begun = Journal("0123456789abcdef", "0123456789abcdef", os.fsencode(staged), plan)
    state.joinpath("journal").write_bytes(msgspec.msgpack.encode(begun))

    def outside() -> object:
        modes = [path.stat().st_mode for path in (victim, *sorted(victim.rglob("*")))]
        return seen(victim), modes, sorted(victim.rglob("*"))

    before, settings = outside(), repo.path.joinpath(".git/config").read_bytes()
    said = refused(lambda: checkpoints(repo.found))
    assert outside() == before
    assert repo.path.joinpath(".git/config").read_bytes() == settings
    assert not repo.path.joinpath(".git/hooks/post-checkout").exists()
    assert is_sentence(said)


def test_links_in_place_of_our_own_files_are_not_written_through(
    repo: Repo, victim: Path, tmp_path: Path
) -> None:
    """Locks, journals and indexes below `.git/otel-agents` may be links in a hostile repository."""
    everything(repo)
    ours = repo.path / ".git/otel-agents"
    names = {path.relative_to(ours).name for path in ours.rglob("*") if not path.is_dir()}
    assert names
    names |= {"journal.part", "journal.tmp", "known", "journal"}
    second = started(tmp_path / "second")
    for name in names:
        place = second.path / ".git/otel-agents" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(victim / "precious")
    outside = seen(victim)
    was = second.seen()
    said = refused(lambda: everything(second))
    if said:
        assert is_sentence(said)
        assert second.seen() == was
    assert seen(victim) == outside


@pytest.mark.parametrize("linked", ["otel-agents", "refs/otel-agents"])
def test_a_link_in_place_of_our_folder_is_not_followed(
    repo: Repo, victim: Path, linked: str
) -> None:
    """Refused, with one sentence, or replaced: nothing is written behind it."""
    repo.path.joinpath(".git", linked).symlink_to(victim)
    outside = seen(victim)
    was = repo.seen()
    said = refused(lambda: everything(repo))
    if said:
        assert is_sentence(said)
        assert repo.seen() == was
    assert seen(victim) == outside
