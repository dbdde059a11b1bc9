"""The small git repository that the agents work in, and all that the program does with git."""

import os
import shutil
import subprocess
from pathlib import Path

WHO = ("-c", "user.name=Ferry Office", "-c", "user.email=office@ferry.example")


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder, and return what it says."""
    # What another git, such as a hook, has left in the environment is not meant for this one.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(  # noqa: S603 - words of our own
        ["git", *WHO, *arguments],  # noqa: S607 - the user's git
        cwd=folder, env=clean, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


def create(folder: Path, files: Path) -> None:
    """Make a repository of its own with some files in it, in place of what is there."""
    if folder.exists():
        if not (folder / ".git").is_dir():
            message = f"{folder} is no repository of this example; it is left alone"
            raise FileExistsError(message)
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    for path in sorted(files.glob("*.ini")):
        shutil.copyfile(path, folder / path.name)
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "Settings as the machines have them")


def commit(folder: Path, message: str) -> str:
    """Commit all that the agents have done, and return the commit's short name."""
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", message)
    return git(folder, "rev-parse", "--short", "HEAD")
