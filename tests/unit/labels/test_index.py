"""The index of a store, made of many commit records."""

import tracemalloc

from mke_ray.labels import index as index_module
from mke_ray.labels.index import Index


def records(number):
    """Yield records of units of which only later ones have a picture."""
    for one in range(number):
        yield {
            "unit": f"{one * 2654435761 % 2**64:016x}",
            "generation": 0,
            "split": "unlabeled",
            "file": f"attempts/{one}.parquet",
            "row_group": 0,
            "num_rows": 32,
            "num_bytes": 9,
            "digest": f"{one:064x}",
            "status": "0" * 32,
            "present": {"sound": "1" * 32} | ({"picture": "1" * 32} if one > number // 2 else {}),
        }


def test_an_index_is_the_same_however_many_records_are_taken_at_a_time(monkeypatch):
    whole = Index.from_records(records(50))
    assert whole.modalities == ("picture", "sound")
    monkeypatch.setattr(index_module, "_RECORDS_AT_ONCE", 7)
    assert Index.from_records(records(50)).table.equals(whole.table)
    assert len(Index.from_records([])) == 0


def test_an_index_of_many_records_never_holds_them_all_as_python_objects(monkeypatch):
    monkeypatch.setattr(index_module, "_RECORDS_AT_ONCE", 100)
    Index.from_records(records(200))  # what is imported late is not the index

    def peak_bytes(number):
        tracemalloc.start()
        Index.from_records(records(number))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert (peak_bytes(4000) - peak_bytes(2000)) / 2000 < 300  # it was 1,100
