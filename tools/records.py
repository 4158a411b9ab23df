"""Carry the records of a study that is under way from one machine to another.

Weights stay behind: where a path goes on, what it needs of them is trained again.

usage: python tools/records.py (pack|unpack) STORE FILE.parquet
"""

import argparse
import json
from pathlib import Path

import pandas as pd

from sfusion.experiments.store import RecordStore


def pack(store: RecordStore, file: Path) -> int:
    """Write all records of a store into one Parquet file, a row each."""
    rows = [
        json.loads(path.read_bytes())
        for path in sorted((store.folder / "records").glob("*/*.json"))
    ]
    texts = [
        {name: json.dumps(row[name], sort_keys=True) for name in ("spec", "result")}
        for row in rows
    ]
    pd.DataFrame(texts, columns=["spec", "result"]).to_parquet(
        file, index=False, compression="zstd"
    )
    return len(rows)


def unpack(store: RecordStore, file: Path) -> int:
    """File the rows of :func:`pack` in a store."""
    rows = pd.read_parquet(file)
    for spec, result in rows.itertuples(index=False):
        store.put(json.loads(spec), json.loads(result))
    return len(rows)


def main() -> None:
    """Pack or unpack, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["pack", "unpack"])
    parser.add_argument("store", type=Path, help="folder, such as build/nine/store")
    parser.add_argument("file", type=Path)
    options = parser.parse_args()
    work = {"pack": pack, "unpack": unpack}[options.action]
    print(f"{work(RecordStore(options.store), options.file)} records")


if __name__ == "__main__":
    main()
