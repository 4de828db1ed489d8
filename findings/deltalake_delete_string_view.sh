#!/usr/bin/env bash
# deltalake 1.6.6 with pyarrow 26.0.1: after a DELETE, a table's text columns can no longer be filtered by pyarrow.
#
# The file that DELETE rewrites declares its text columns as string_view in the Arrow schema that Parquet carries, where
# the file written first had string. pyarrow restores the type on reading, and its kernels for take, filter and comparison
# know no string_view. So a program that reads the table's live files works until somebody deletes a row.
# What helps: cast the columns of views to string (or large_string) right after reading.
#
# Installs the two packages in a temporary folder and fails when the behaviour is another.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet deltalake==1.6.6 pyarrow==26.0.1
cd "$folder"
venv/bin/python - > seen.txt <<'PYTHON'
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake


def live():
    (file,) = DeltaTable("log").file_uris()
    return pq.read_table(file)


def attempt(name, work):
    try:
        work()
        print(f"{name}: works")
    except pa.ArrowNotImplementedError as error:
        print(f"{name}: {error}")


write_deltalake("log", pa.table({"user": ["ann", "bob", "cid"]}))
print("written:", live().schema.field("user").type)
attempt("filter", lambda: live().filter(pa.array([True, False, True])))
DeltaTable("log").delete("user = 'ann'")
print("after DELETE:", live().schema.field("user").type)
attempt("filter", lambda: live().filter(pa.array([True, False])))
attempt("filters=", lambda: pq.read_table(DeltaTable("log").file_uris()[0], filters=[("user", "=", "bob")]))
attempt("cast, then filter", lambda: live().cast(pa.schema([("user", pa.string())])).filter(pa.array([True, False])))
PYTHON
cat > expected.txt <<'TEXT'
written: string
filter: works
after DELETE: string_view
filter: Function 'array_take' has no kernel matching input types (string_view, uint16)
filters=: Function 'equal' has no kernel matching input types (string_view, string)
cast, then filter: works
TEXT
diff expected.txt seen.txt && echo "as described"
