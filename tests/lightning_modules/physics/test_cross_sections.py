from lightning_modules.physics.cross_sections import merged


def test_what_is_equal_to_rounding_is_the_smallest_of_it() -> None:
    values = [0.3 * (1 + 1e-7), 0.0, 1.0, 0.3, 0.0, 1e-9, 0.3 * (1 + 1e-4)]
    assert merged(values) == [0.3, 0.0, 1.0, 0.3, 0.0, 1e-9, 0.3 * (1 + 1e-4)]
    assert merged([]) == []
