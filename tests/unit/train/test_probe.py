from mke_ray.labels.probe import GATE, SELECT, probe_part


def test_a_group_is_always_in_the_same_part():
    assert {probe_part("actor-3") for _ in range(5)} in ({SELECT}, {GATE})


def test_about_the_share_asked_for_is_the_select_part():
    for share in (0.25, 0.5, 0.9):
        parts = [probe_part(f"g{n}", select_fraction=share) for n in range(4000)]
        assert abs(parts.count(SELECT) / 4000 - share) < 0.03


def test_another_seed_divides_otherwise():
    groups = [f"g{n}" for n in range(64)]
    assert [probe_part(g, seed=0) for g in groups] != [probe_part(g, seed=1) for g in groups]


def test_the_division_is_the_same_on_every_machine_and_release():
    assert "".join(probe_part(f"actor-{n}")[0] for n in range(12)) == "ssgsgssggsgg"
