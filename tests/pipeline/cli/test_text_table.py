from pipeline.cli.text_table import format_table


def test_columns_are_aligned_and_numbers_stand_right() -> None:
    table = format_table([{"stage": "ingest", "seconds": 1.5}, {"stage": "x", "seconds": None}])
    assert table.splitlines() == [
        "stage   seconds",
        "------  -------",
        "ingest      1.5",
        "x             -",
    ]
