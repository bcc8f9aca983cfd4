"""What an instance needs, when it is about to run: is it red, and what becomes of the run then?

With ``"needs": "all"`` a red one stops the run. With ``"finished"`` what did not finish is left out of what
patterns lead to, and the run is orange; what a reference names is needed in any case.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from pytest_ductaflow import expectations, project
from pytest_ductaflow.errors import RecordError
from pytest_ductaflow.instance import Instance
from pytest_ductaflow.record import RECORD_NAME, Record, read_record
from pytest_ductaflow.status import Status

#: Of what is left out, so many are named; the record has all of them.
_MOST_NAMED: Final = 10
_WHY: Final = {
    None: "not run",
    Status.ERROR: "failed",
    Status.INTERRUPTED: "interrupted",
    Status.RUNNING: "still running",
}


class Needed:
    """What is known of the instances of a project that others need.

    :param made: the records of this session, by run directory.
    """

    def __init__(self, found: project.Resolved, root: Path, made: Mapping[str, Record | None]) -> None:
        self._project, self._root, self._made = found, root, made

    def stops(self, instance: Instance, key: str) -> bool:
        """Whether an instance cannot run if another one that it needs is red.

        Not if it is only compared with its measures, or can do without it.

        :param key: the other one's run directory.
        """
        need = instance.needed[key]
        return bool(need.texts) and (instance.needs == "all" or need.by_name)

    def refusal(self, instance: Instance) -> str | None:
        """Why an instance is not to be run; ``None`` if nothing is against it.

        A directory without a record may have been filled by hand; a missing file the flow itself notices.
        """
        for key in instance.needed:
            if self.stops(instance, key) and (self._root / key / RECORD_NAME).exists():
                status = self._light(key)
                if status is None or status.is_red:
                    return f"needs {key}, {'which' if self._made.get(key) else 'whose last run'} failed"
        left_out = self._left_out(instance)
        for several in instance.several:
            if not several.paths.keys() - left_out.keys():
                return f"needs {several.text}, and nothing of that finished"
        return None

    def without_left_out(self, instance: Instance, place: str) -> tuple[Instance, dict[str, str]]:
        """An instance as it is to be run now: without what is left out, and orange then.

        :param place: where what is said of it belongs: its file.
        :returns: the instance, and the run directories that its references lead to, as the record keeps them.
        """
        left_out = self._left_out(instance)
        needed = {key: left_out.get(key, "") for key, need in instance.needed.items() if need.texts}
        remarks = []
        if left_out:
            instance = project.without(instance, left_out)
            shown = [f"{self._project.node_ids[key]} ({why})" for key, why in left_out.items()]
            more = f", and {len(shown) - _MOST_NAMED} more" if len(shown) > _MOST_NAMED else ""
            remarks.append(f"⚠️ left out of what this needs: {', '.join(shown[:_MOST_NAMED])}{more}")
        if any(not mention.by_name for mention in instance.mentions):
            for file in self._project.in_error:
                needed[file] = "in error"
                remarks.append(f"⚠️ {file} is in error: what it holds may be missing from what this needs")
        if remarks:
            instance = replace(instance, remarks=(*instance.remarks, *((text, place) for text in remarks)))
        return instance, needed

    def _left_out(self, instance: Instance) -> dict[str, str]:
        """What an instance does without: run directory to why."""
        found: dict[str, str] = {}
        for key in dict.fromkeys(key for several in instance.several for key in several.paths):
            if not instance.needed[key].by_name:
                status = self._light(key)
                if status in _WHY:
                    found[key] = _WHY[status]
        return found

    def _light(self, key: str) -> Status | None:
        """The light of an instance's last run, as it is judged now; ``None`` without a usable record."""
        if (made := self._made.get(key)) is not None:
            return made.light
        try:
            found = read_record(self._root / key)
        except RecordError:
            return None
        expectations.judge(found, self._project.instances[key].expected, self._root)
        return found.light
