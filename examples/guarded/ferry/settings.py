"""The settings of a ticket machine, in the old format and in the new one."""

import configparser
import json
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

PENCE = 100


class Settings(NamedTuple):
    """What a ticket machine at a landing stage has to know: fares in pence, crossings by day."""

    name: str
    zone: int
    pence: dict[str, int]
    crossings: dict[str, list[str]]

    @classmethod
    def from_ini(cls, text: str) -> "Settings":
        """Read the old format: fares in pounds, times with blanks between them."""
        parser = configparser.ConfigParser()
        parser.read_string(text)
        fares = {who: round(float(fare) * PENCE) for who, fare in parser["fares"].items()}
        crossings = {day: times.split() for day, times in parser["crossings"].items()}
        return cls(parser["stage"]["name"], int(parser["stage"]["zone"]), fares, crossings)

    def toml(self) -> str:
        """Write the new format: fares in pence, times in lists."""
        lines = ["[stage]", f'name = "{self.name}"', f"zone = {self.zone}", "", "[pence]"]
        lines += [f"{who} = {fare}" for who, fare in self.pence.items()]
        lines += ["", "[crossings]"]
        lines += [f"{day} = {json.dumps(times)}" for day, times in self.crossings.items()]
        return "\n".join(lines) + "\n"

    def faults(self, text: str) -> list[str]:
        """Return what is missing or wrong in a file of the new format."""
        try:
            found: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            return [f"it is no TOML: {error}"]
        wanted: dict[str, dict[str, Any]] = {
            "stage": {"name": self.name, "zone": self.zone},
            "pence": self.pence,
            "crossings": self.crossings,
        }
        return [
            f"[{section}] {key} is {got!r}" if got is not None else f"[{section}] has no {key}"
            for section, values in wanted.items()
            for key, value in values.items()
            if (got := found.get(section, {}).get(key)) != value
        ]


def load(folder: Path) -> dict[str, Settings]:
    """Read all files of the old format in a folder, by the name of their stage."""
    return {
        path.stem: Settings.from_ini(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*.ini"))
    }
