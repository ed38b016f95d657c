"""Timed loads from whatever holds them: a table, a profile's folder, or tables of SINCERE's."""

from pathlib import Path

from penstock.core.errors import InputError
from penstock.perf.loading.records import LoadRecord, read_load_records, records_of_profile
from penstock.perf.profiles.folder import Profile, is_profile, read_profile
from penstock.published.sincere.loads import LOADS, is_sincere, sincere_batches, sincere_loads
from penstock.published.sincere.tables import read_sincere
from penstock.workload.text import first_line


def loads_from(path: Path) -> list[LoadRecord]:
    """Loads in service or of a profile. Raises InputError."""
    if path.is_dir():
        if is_sincere(path):
            return list(sincere_loads(sincere_batches(path)))
        if is_profile(path):
            return records_of_profile(read_profile(path))
        raise InputError(f"{path}: neither a profile (profile.json) nor a folder of SINCERE's "
                         "tables (runs_summary.csv, batches.csv.gz, model_load_times.csv)")
    if _is_table_of_means(path):
        warm = [one for one in read_sincere(path).measurements if one.cache == "warm"]
        return records_of_profile(Profile({}, tuple(warm), str(path)))
    return read_load_records(path)


def profile_beside(path: Path) -> Path | None:
    """The profile that lies beside loads in service, where the form of the folder tells."""
    return path / LOADS if path.is_dir() and is_sincere(path) else None


def _is_table_of_means(path: Path) -> bool:
    header = first_line(path)
    return "load_mean_s" in header or "mean_loading_time /s" in header
