"""How faithful the influence scores are: what retraining without samples does, against what scores predicted."""
