"""A store of units: attempt files, create-only commit records, and the index over them."""

import contextlib
import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from mke_ray.errors import StoreError
from mke_ray.labels.file_names import (
    ATTEMPTS,
    COMMITS,
    SPEC_FILE,
    commit_name,
    is_part,
    new_file_name,
    unit_of_file,
)
from mke_ray.labels.files import (
    explain_difference,
    row_facts,
    schema_from_text,
    schema_text,
    spec_to_bytes,
    table_to_bytes,
)
from mke_ray.labels.index import Index, Location
from mke_ray.labels.indexing import (
    Survey,
    committed_generations,
    newest_index,
    read_index,
    survey,
    write_index,
)
from mke_ray.labels.records import PLACE_IN_PART, claim, location_of, newest_record
from mke_ray.labels.sweeping import delete_unnamed_parts
from mke_ray.labels.unit_files import (
    check_unit_digest,
    parse_unit,
    read_columns,
    read_unit_file,
)
from mke_ray.schema import FORMAT_VERSION
from mke_ray.storage import Root


@dataclass(frozen=True, slots=True)
class UnitStore:
    """Tables of units under one root, each written exactly once; cheap to send to workers.

    A unit's table goes to an attempt file of its own; then a small commit record is created if
    absent. The first record wins, whoever else was writing the unit. A table that takes the place
    of another is committed in the same way, as the next generation of its unit.

    Args:
        root: The folder of the store.
        spec: Plain data that say what the store was made from.
        schema: Schema of every table.
    """

    root: Root
    spec: Mapping[str, Any]
    schema: pa.Schema

    @property
    def name(self) -> str:
        """Name of its folder, which is the fingerprint of what it was made from."""
        return self.root.uri.rstrip("/").rpartition("/")[2]

    @classmethod
    def open_or_create(
        cls, root: Root, *, spec: Mapping[str, Any], schema: pa.Schema
    ) -> "UnitStore":
        """Open a store, or begin it.

        Args:
            root: The folder of the store.
            spec: Plain JSON data that say what the store is made from.
            schema: Schema of every table.

        Raises:
            StoreError: The folder holds a store that was made from something else, or what is left
                of one.
        """
        plain = json.loads(json.dumps(spec))
        _check_not_half_deleted(root)
        if root.create(SPEC_FILE, spec_to_bytes(plain, schema)):
            return cls(root, plain, schema)
        found = cls.open(root)
        if found.spec != plain or not found.schema.equals(schema):
            difference = explain_difference(found.spec, plain, found.schema, schema)
            raise StoreError(
                f"{root.uri} was made from something else ({difference}); use another root"
            )
        return found

    @classmethod
    def open(cls, root: Root) -> "UnitStore":
        """Open a store that exists.

        Raises:
            StoreError: There is none, or it has another format version.
        """
        try:
            plain = json.loads(root.read(SPEC_FILE))
        except FileNotFoundError:
            raise StoreError(f"{root.uri} holds no store ({SPEC_FILE} is missing)") from None
        if plain["format_version"] != FORMAT_VERSION:
            raise StoreError(
                f"{root.uri} has format version {plain['format_version']}, this mke_ray reads "
                f"{FORMAT_VERSION}; use the version that wrote it or another root"
            )
        return cls(root, plain["spec"], schema_from_text(plain["schema"]))

    def commit(self, unit: str, table: pa.Table, facts: Mapping[str, Any] | None = None) -> bool:
        """Write the table of a unit and claim the unit.

        Args:
            unit: Id of the unit.
            table: Its rows, of the store's schema.
            facts: More plain data for the commit record, for example ``split`` and ``reasons``.

        Returns:
            True when this call committed the unit, False when somebody was first; then this
            attempt is deleted and the other's table is what ``read`` returns.

        Raises:
            StoreError: The table is not of the store's schema.
        """
        return self._put(unit, table, dict(facts or {}) | {"generation": 0})

    def supersede(
        self,
        unit: str,
        table: pa.Table,
        facts: Mapping[str, Any] | None = None,
        *,
        of: Mapping[str, Any],
    ) -> bool:
        """Put a table in the place of another one.

        The file of that one is deleted; a part stays, since it holds other units too.

        Args:
            unit: Id of the unit.
            table: Its rows, of the store's schema.
            facts: Plain data of the commit record that are others now.
            of: The commit record of the table that it was made from.

        Returns:
            True when this call did it, False when somebody else put another table in the place of
            that one; then nothing of this call is left.

        Raises:
            StoreError: The unit is not committed any more, or the table is not of the store's
                schema.
        """
        old = of
        while old["digest"] == of["digest"]:  # it may have moved to a part since
            kept = {key: value for key, value in old.items() if key not in PLACE_IN_PART}
            next_one = {**kept, **(facts or {}), "generation": old["generation"] + 1}
            if self._put(unit, table, next_one):
                if not is_part(old["file"]):
                    self.root.delete(old["file"])
                return True
            old = self.record(unit)
        return False

    def sweep(self, units: Collection[str]) -> int:
        """Delete what killed workers left of some units: files that no commit record names.

        Parts that no commit record names go too, of whatever units they are, and files that are
        half written; of the latter elsewhere in the store only old ones.

        Args:
            units: The units; of one that is not committed every file goes.

        Returns:
            How many files were deleted.
        """
        of_units = [n for n in self.root.names(ATTEMPTS) if unit_of_file(n) in units]
        places = map(self.find, set(map(unit_of_file, of_units)))
        named = {place.file for place in places if place is not None}
        orphans = [name for name in of_units if name not in named]
        for name in orphans:
            self.root.delete(name)
        unfinished = self.root.delete_unfinished(
            ATTEMPTS, older_than_s=0.0, wanted=lambda name: unit_of_file(name) in units
        )
        unfinished += self.root.delete_unfinished()
        return len(orphans) + unfinished + len(delete_unnamed_parts(self.root))

    def committed(self) -> set[str]:
        """Return the ids of all committed units, by listing alone."""
        return set(committed_generations(self.root))

    def find(self, unit: str) -> Location | None:
        """Return where a unit lies, None where it is not committed."""
        record = self.find_record(unit)
        return None if record is None else location_of(record)

    def find_record(self, unit: str) -> dict[str, Any] | None:
        """Return the newest commit record of a unit, None where it is not committed."""
        return newest_record(self.root, unit)

    def record(self, unit: str) -> dict[str, Any]:
        """Return the commit record of a unit that counts, which is the newest one.

        Raises:
            StoreError: The unit is not committed.
        """
        record = self.find_record(unit)
        if record is None:
            raise StoreError(f"unit {unit} is not committed in {self.root.uri}")
        return record

    def read(
        self,
        unit: str,
        *,
        location: Location | None = None,
        columns: list[str] | None = None,
        check_digest: bool = False,
    ) -> pa.Table:
        """Return the table of a unit.

        Args:
            unit: Id of the unit.
            location: Where it lies, from the index; without it the commit record is read first.
            columns: Columns wanted, all by default.
            check_digest: Whether to compare the file with the digest of the commit record.

        Raises:
            StoreError: The unit is not committed, or its file is missing or damaged.
        """
        record = self.record(unit) if location is None or check_digest else {}
        place = location or location_of(record)
        content = read_unit_file(self.root, unit, place)
        if check_digest:
            check_unit_digest(self.root, record, content)
        return parse_unit(self.root, unit, place, content, columns=columns)

    def read_small_columns(self, unit: str, location: Location, columns: list[str]) -> pa.Table:
        """Return columns beside the media of a unit, without fetching these.

        Args:
            unit: Id of the unit.
            location: Where it lies, from the index.
            columns: Columns wanted.

        Raises:
            StoreError: The file is missing or damaged.
            OSError: The store did not answer.
        """
        try:
            return read_columns(self.root, location, columns)
        except (pa.ArrowException, OSError):
            # The whole file, with its retries, tells a lost file from a store that is busy.
            return self.read(unit, location=location, columns=columns)

    def index(self, units: Collection[str] | None = None) -> Index:
        """Return the index of all committed units, or of some; for whoever writes to the store.

        The index file is used as far as it goes; every file is listed, and units committed since
        are looked up.

        Args:
            units: Ids of the units wanted; all that are committed by default.

        Raises:
            StoreError: A wanted unit is not committed.
        """
        index = self.survey().index
        return index if units is None else self._restrict(index, units)

    def survey(self, known: Survey | None = None) -> Survey:
        """Return the index of all committed units and the number of its newest file.

        Args:
            known: What an earlier survey of this process found: only units committed since are
                looked up.
        """
        return survey(self.root, None if known is None else known.index)

    def read_index(self) -> Index:
        """Return the index as a finished pass wrote it; for whoever only reads.

        Raises:
            StoreError: No pass is finished.
        """
        return read_index(self.root)

    def write_index(self, units: Collection[str], current: Survey | None = None) -> Index:
        """Write the index once all of some units are committed, and return the index of these.

        Args:
            units: Ids of the units.
            current: A survey after which nothing was committed; None makes one.

        Raises:
            StoreError: A unit is not committed.
        """
        found = current or self.survey()
        wanted = self._restrict(found.index, units)
        write_index(self.root, found)
        return wanted

    def revisions(self, splits: Iterable[str]) -> dict[str, int]:
        """Return the revision of every unit of some splits that is not as it was first."""
        return newest_index(self.root).revisions(splits)

    def _restrict(self, index: Index, units: Collection[str]) -> Index:
        """Return the index of some units."""
        missing = [unit for unit in units if unit not in index]
        if missing:
            raise StoreError(
                f"{self.root.uri}: {len(missing)} of {len(units)} units are not committed, for "
                f"example {missing[0]}; start the pass again, it goes on where it stopped"
            )
        return index if len(units) == len(index) else index.select(units)

    def _put(self, unit: str, table: pa.Table, facts: Mapping[str, Any]) -> bool:
        """Write a table to an attempt file and claim a generation of its unit with it."""
        self._check_schema(unit, table)
        file = new_file_name(ATTEMPTS, unit)
        content = table_to_bytes(table)
        record = {
            **facts,
            **row_facts(table),
            "unit": unit,
            "file": file,
            "row_group": 0,
            "num_rows": table.num_rows,
            "num_bytes": len(content),
            "digest": hashlib.sha256(content).hexdigest(),
        }
        self.root.write(file, content)
        if claim(self.root, record):
            self._check_there(unit, commit_name(unit, record["generation"]), file)
            return True
        with contextlib.suppress(OSError):
            self.root.delete(file)
        return False

    def _check_there(self, unit: str, name: str, file: str) -> None:
        """Take back a claim whose attempt was swept before it: this worker was taken for dead."""
        if self.root.exists(file) or self.record(unit)["file"] != file:  # the next generation
            return
        self.root.delete(name)
        raise StoreError(
            f"{self.root.uri}: {file} of unit {unit} was deleted before it was committed, since a "
            "sample of it was forgotten meanwhile; start the pass again, which writes it anew"
        )

    def _check_schema(self, unit: str, table: pa.Table) -> None:
        """Refuse a table of other columns."""
        if not table.schema.equals(self.schema):
            raise StoreError(
                f"{self.root.uri}: the table of unit {unit} has the columns "
                f"[{schema_text(table.schema)}], the store [{schema_text(self.schema)}]"
            )


def _check_not_half_deleted(root: Root) -> None:
    """Refuse what is left of a store.

    Records are listed before the last look for what makes a store: who commits has created that
    before, so where it is missing then, somebody deleted it. Nothing is changed, since another
    driver may begin the store meanwhile.

    Raises:
        StoreError: There are commit records, but no specification.
    """
    if root.exists(SPEC_FILE):
        return
    if any(root.names(COMMITS)) and not root.exists(SPEC_FILE):
        raise StoreError(
            f"{root.uri} holds commit records but no {SPEC_FILE}: deleting the store was "
            "cut short; run jobs/collect.py with this root again, or delete the folder"
        )
