import pytest

from cluster.masking import masked, masked_values


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://AKIA123:abc/def@bucket/log?region=x", "s3://***@bucket/log?region=x"),
        ("at https://user:pa%2Fss@mlflow.host:5000/x, twice", "at https://***@mlflow.host:5000/x, twice"),
        ("mysql://me:p@ss@db/x", "mysql://***@db/x"),
        ("'https://me:pw@a/x' and \"https://b/y@z\"", "'https://***@a/x' and \"https://b/y@z\""),
        ("https://ghp_token@host/x", "https://***@host/x"),
        ("postgresql+psycopg2://me:pw@db/mlflow", "postgresql+psycopg2://***@db/mlflow"),
        ("abfss://container@account.dfs.core.windows.net/log", "abfss://container@account.dfs.core.windows.net/log"),
        ("abfss://key:secret@account/log", "abfss://***@account/log"),
        ("https://a/b?sv=2024&sig=abc%3D&se=1", "https://a/b?sv=2024&sig=***&se=1"),
        ("https://a/b?X-Amz-Signature=abc&x=1", "https://a/b?X-Amz-Signature=***&x=1"),
        ("http://host:8000/?write_token=abc", "http://host:8000/?write_token=***"),
        ("https://a/b?account_key=abc&key=x&monkey=y", "https://a/b?account_key=***&key=***&monkey=y"),
        ("Cannot parse URI: 's3://id:sec ret/@b/x' due to", "Cannot parse URI: 's3://***@b/x' due to"),
        ("http://head:8265 had recall@10", "http://head:8265 had recall@10"),
        ("no answer at http://head: recall@10", "no answer at http://head: recall@10"),
        ("s3://bucket/dt=12:00/user@shop.csv", "s3://bucket/dt=12:00/user@shop.csv"),
        ("/data/log@2.parquet?design=1", "/data/log@2.parquet?design=1"),
        ("recall@10 0.1, http://head:8265", "recall@10 0.1, http://head:8265"),
    ],
)
def test_credentials_in_uris_are_hidden_and_nothing_else(text: str, shown: str) -> None:
    assert masked(text) == shown


def test_values_under_keys_that_name_a_credential_are_hidden() -> None:
    values = {
        "finetune": {"tokens": "response", "lr": 0.1},
        "surrogate": {
            "settings": {"api_key": "k", "hub_token": "t", "monkey": "m", "width": 3, "sets": ["s3://a:b@c"]}
        },
        "llm": {"max_tokens": 512, "model": None},
    }
    assert masked_values(values) == {
        "finetune": {"tokens": "response", "lr": 0.1},
        "surrogate": {
            "settings": {"api_key": "***", "hub_token": "***", "monkey": "m", "width": 3, "sets": ["s3://***@c"]}
        },
        "llm": {"max_tokens": 512, "model": None},
    }
