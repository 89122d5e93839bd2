"""The benchmark of the predict stage passes it rows as the load stage produces them."""

from __future__ import annotations

from benchmarks.predictor_rate import loaded, predictor


def test_every_row_is_computed() -> None:
    colored = predictor()(loaded(8))
    assert colored.num_rows == 8
    assert all(colored["ab"].to_pylist())
