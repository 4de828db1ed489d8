"""Test how faithful influence scores are: compare what retraining does with what scores predicted."""
